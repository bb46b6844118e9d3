"""ncnn: `.param` and `.bin` for phones and small boards, through pnnx from the ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from converter.model.base import Frozen
from converter.plugins.variants import Given

FORMAT = "ncnn"
PRECISION = "float32"
PACKAGES = ("ncnn", "pnnx")
SUFFIX = ".param"
COMPANIONS = (".bin", ".json")
PROVIDER = "ncnn"


class Options(Frozen):
    """What the conversion may be told.

    Attributes:
        fp16: the weights of layers in float16, as pnnx writes them unless it is told otherwise.
            The file is then called float16 and judged as one.
        sizes: ``all``: the file is verified at every size that the model is. ``example``: at those
            of the example alone, for a file that is wrong at others; the row says so.
        time_limit_s: after so long pnnx is stopped. Example: ``1800``.
    """

    fp16: bool = False
    sizes: Literal["all", "example"] = "all"
    time_limit_s: float = Field(default=600.0, gt=0)


def precision(options: Options) -> str:
    return "float16" if options.fp16 else PRECISION


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``target``, its ``.bin``, and a ``.json`` that says which blobs are inputs and outputs.

    Raises:
        ValueError: pnnx crashed, said that it cannot, or left what ncnn does not have.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    from converter.plugins.variants import _pnnx

    _pnnx.convert(
        parent,
        target,
        given,
        fp16=options.fp16,
        example_only=options.sizes == "example",
        seconds=options.time_limit_s,
    )
