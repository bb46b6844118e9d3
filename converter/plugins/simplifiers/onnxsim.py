"""onnxsim: constant folding, shape inference and operator fusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

PRELOAD: tuple[str, ...] = ("onnxsim",)


def simplify(model: ModelProto) -> ModelProto:
    """The simplified model. Its second result is not used: it is True whatever happened."""
    import onnxsim

    simplified: ModelProto = onnxsim.simplify(model)[0]
    return simplified
