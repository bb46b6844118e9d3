"""mixed: as fp16, but the nodes that break its bound compute in float32, found by bisection."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from converter.plugins.variants import Given, _options

FORMAT = "onnx"
PRECISION = "float16"
PARTIAL = True
PACKAGES = ("onnx", "onnx-ir")


class Options(_options.Reduced):
    """What the search and the conversion may be told.

    Attributes:
        tries: files that are verified while looking for further nodes, at most. One takes as long
            as verifying the variant itself.
    """

    tries: int = Field(default=40, ge=1)


def keeps_io(options: Options) -> bool:
    return options.keep_io_types


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` in float16, with as few nodes in float32 as were found in time.

    Raises:
        ValueError: it cannot be said in float16, or no node can stay in it.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    from converter.plugins.variants._mixing import Mixing

    Mixing(parent, target, options, given).make()
