"""How a published file is opened, in a few lines of Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.model.records import TensorInfo

_ORT = ["import numpy, onnxruntime", "session = onnxruntime.InferenceSession({file!r})"]
_OPENED = {
    ".onnx": _ORT,
    ".ort": _ORT,
    ".xml": ["import numpy, openvino", "model = openvino.Core().compile_model({file!r})"],
}
_RUN = {
    ".onnx": "outputs = session.run(None, inputs)",
    ".ort": "outputs = session.run(None, inputs)",
    ".xml": "outputs = model(inputs)",
}


def lines(file: str, inputs: Sequence[TensorInfo]) -> list[str]:
    """What to type; of formats whose runtimes differ in more than a line there is nothing.

    Args:
        file: the one of the artifact to open first.
        inputs: of the model.
    """
    suffix = Path(file).suffix
    if suffix not in _OPENED:
        return []
    fed = ", ".join(f"{value.name!r}: {_zeros(value)}" for value in inputs)
    opened = [line.format(file=file) for line in _OPENED[suffix]]
    return [*opened, f"inputs = {{{fed}}}", _RUN[suffix]]


def shape(value: TensorInfo) -> str:
    """Sizes, and the names of those that are open."""
    return ", ".join("?" if size is None else str(size) for size in value.shape)


def _zeros(value: TensorInfo) -> str:
    # Any size will do where one is open: the smallest that is no special case.
    sizes = tuple(size if isinstance(size, int) else 1 for size in value.shape)
    return f"numpy.zeros({sizes!r}, {value.dtype!r})"
