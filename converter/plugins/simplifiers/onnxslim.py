"""onnxslim: constant folding and graph rewriting in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from converter.model.base import Frozen

if TYPE_CHECKING:
    from onnx import ModelProto

PRELOAD: tuple[str, ...] = ()
PACKAGES = ("onnxslim",)


class Options(Frozen):
    """What onnxslim may be told.

    Attributes:
        skip_fusion_patterns: its fusions that are left out. Example: ``[FusionGemm]``.
    """

    skip_fusion_patterns: list[str] = Field(default_factory=list)


def simplify(model: ModelProto, options: Options) -> ModelProto:
    """The simplified model.

    Raises:
        RuntimeError: onnxslim gave no model.
    """
    import onnxslim

    slimmed: ModelProto | None = onnxslim.slim(
        model, skip_fusion_patterns=options.skip_fusion_patterns or None
    )
    if slimmed is None:
        raise RuntimeError("onnxslim gave no model")
    return slimmed
