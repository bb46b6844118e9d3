"""mixed: as fp16, but the nodes that break its bound compute in float32, found by bisection."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from converter.model.base import Frozen
from converter.plugins.variants import Given

FORMAT = "onnx"
PRECISION = "float16"
PARTIAL = True
PACKAGES = ("onnx", "onnx-ir")


class Options(Frozen):
    """What the search and the conversion may be told.

    Attributes:
        keep_io_types: inputs and outputs stay float32; else they are float16 too.
        op_block_list: operators that compute in float32 in any case. Example:
            ``[LayerNormalization, "com.microsoft::Gelu"]``.
        node_block_list: nodes that do, by name. Example: ``[/head/MatMul]``.
        tries: files that are verified while looking for further nodes, at most. One takes as long
            as verifying the variant itself.
    """

    keep_io_types: bool = True
    op_block_list: list[str] = Field(default_factory=list)
    node_block_list: list[str] = Field(default_factory=list)
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
