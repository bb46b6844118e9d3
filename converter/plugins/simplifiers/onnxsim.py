"""onnxsim: constant folding, shape inference and operator fusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from converter.model.base import Frozen

if TYPE_CHECKING:
    from onnx import ModelProto

PRELOAD: tuple[str, ...] = ("onnxsim",)
PACKAGES = ("onnxsim",)


class Options(Frozen):
    """What onnxsim may be told.

    Attributes:
        skipped_optimizers: its passes that are left out. Example: ``[fuse_bn_into_conv]``.
    """

    skipped_optimizers: list[str] = Field(default_factory=list)


def simplify(model: ModelProto, options: Options) -> ModelProto:
    """The simplified model. Its second result is not used: it is True whatever happened."""
    import onnxsim

    simplified: ModelProto = onnxsim.simplify(
        model, skipped_optimizers=options.skipped_optimizers or None
    )[0]
    return simplified
