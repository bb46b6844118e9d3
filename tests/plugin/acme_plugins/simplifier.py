"""A simplifier that gives the graph a name and changes nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.model.base import Frozen

if TYPE_CHECKING:
    from onnx import ModelProto

PRELOAD: tuple[str, ...] = ()


class Options(Frozen):
    """What it may be told.

    Attributes:
        stamp: a name for the graph.
    """

    stamp: str = "acme"


def simplify(model: ModelProto, options: Options) -> ModelProto:
    model.graph.name = options.stamp
    return model
