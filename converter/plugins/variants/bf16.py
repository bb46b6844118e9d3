"""bf16: weights and computation in bfloat16, float32's range with 8 bits of significand."""

from __future__ import annotations

from pathlib import Path

from converter.model.records import MadeRecord
from converter.model.spec import ExportSpec
from converter.plugins.variants import Given, _options

FORMAT = "onnx"
PRECISION = "bfloat16"
PACKAGES = ("onnx", "onnx-ir")


class Options(_options.Reduced):
    """What the conversion may be told."""


def keeps_io(options: Options) -> bool:
    return options.keep_io_types


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` in bfloat16, at the opset from which on ONNX has its operators so.

    Raises:
        ValueError: a weight or a node cannot be said in bfloat16, or the opset cannot be raised.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    import onnx

    from converter.plugins.variants._reduced import convert
    from converter.worker.inputs.reduced import BFLOAT16
    from converter.worker.onnxfile import publishing, structure

    wide = onnx.load(parent)
    model = convert(
        wide,
        BFLOAT16,
        keep_io_types=options.keep_io_types,
        op_block_list=options.op_block_list,
        node_block_list=options.node_block_list,
    )
    publishing.save(model, target, ExportSpec())
    before, after = (structure.opsets(each).get("ai.onnx", 0) for each in (wide, model))
    if before < after:
        note = f"opset raised from {before} to {after}, where ONNX has its operators in bfloat16"
        given.made = MadeRecord(notes=[note])
