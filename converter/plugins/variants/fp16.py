"""fp16: weights and computation in float16, as GPUs and NPUs run it at twice the speed."""

from __future__ import annotations

from pathlib import Path

from converter.model.spec import ExportSpec
from converter.plugins.variants import Given, _options

FORMAT = "onnx"
PRECISION = "float16"
PACKAGES = ("onnx", "onnx-ir")


class Options(_options.Reduced):
    """What the conversion may be told."""


def keeps_io(options: Options) -> bool:
    return options.keep_io_types


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` in float16.

    Raises:
        ValueError: a weight or a node cannot be said in float16.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    import onnx

    from converter.plugins.variants._reduced import convert
    from converter.worker.inputs.reduced import FLOAT16
    from converter.worker.onnxfile import publishing

    model = convert(
        onnx.load(parent),
        FLOAT16,
        keep_io_types=options.keep_io_types,
        op_block_list=options.op_block_list,
        node_block_list=options.node_block_list,
    )
    publishing.save(model, target, ExportSpec())
