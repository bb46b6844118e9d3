"""onnxsim: constant folding, shape inference and operator fusion."""

from __future__ import annotations

from onnx import ModelProto

import onnxsim


def simplify(model: ModelProto) -> ModelProto:
    """The simplified model. Its second result is not used: it is True whatever happened."""
    simplified: ModelProto = onnxsim.simplify(model)[0]
    return simplified
