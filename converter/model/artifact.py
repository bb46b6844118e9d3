"""The files that a model yields: how each is called, and in which precision it may be."""

from __future__ import annotations

ONNX = "onnx"
"""The id of the artifact that a model is exported to, and its format; the others derive from it."""
PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int4")
"""Those that can be verified."""
FULL = "float32"
REDUCED = ("float16", "bfloat16")
"""Floats of 16 bits, in which a file computes what its float32 file does, rounded."""
QUANTISED = ("int8", "int4")
"""Those whose error is no rounding: files are judged by how much of the signal is left."""


def rounding_of(precision: str) -> str:
    """The precision whose rounding is measured for a file; a quantised one computes in float32."""
    return "float32" if precision in QUANTISED else precision


def label(name: str, artifact: str) -> str:
    """How an artifact is called: ``resnet18``, ``resnet18/fp16``."""
    return name if artifact == ONNX else f"{name}/{artifact}"
