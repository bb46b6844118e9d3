"""onnxslim: constant folding and graph rewriting in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

PRELOAD: tuple[str, ...] = ()


def simplify(model: ModelProto) -> ModelProto:
    """The simplified model.

    Raises:
        RuntimeError: onnxslim gave no model.
    """
    import onnxslim

    slimmed: ModelProto | None = onnxslim.slim(model)
    if slimmed is None:
        raise RuntimeError("onnxslim gave no model")
    return slimmed
