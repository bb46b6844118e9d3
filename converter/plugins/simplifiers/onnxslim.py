"""onnxslim: constant folding and graph rewriting in Python."""

from __future__ import annotations

from onnx import ModelProto

import onnxslim


def simplify(model: ModelProto) -> ModelProto:
    """The simplified model.

    Raises:
        RuntimeError: onnxslim gave no model.
    """
    slimmed: ModelProto | None = onnxslim.slim(model)
    if slimmed is None:
        raise RuntimeError("onnxslim gave no model")
    return slimmed
