"""What the types of elements are called."""

from __future__ import annotations

from converter.worker.inputs.inputs import Array


def of(array: Array) -> str:
    """As ONNX calls it: to NumPy strings are objects."""
    return "string" if array.dtype.kind == "O" else array.dtype.name
