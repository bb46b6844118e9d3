"""A variant: the same file with a stamp of the company's own in its ``metadata_props``."""

from __future__ import annotations

from pathlib import Path

from converter.model.base import Frozen
from converter.plugins.variants import Given

FORMAT = "onnx"
PRECISION = "float32"
PACKAGES = ("onnx",)


class Options(Frozen):
    """What it may be told.

    Attributes:
        stamp: the text of the stamp.
    """

    stamp: str = "acme"


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    import onnx

    model = onnx.load(parent)
    model.metadata_props.add(key="acme.stamp", value=options.stamp)
    onnx.save_model(model, target)
