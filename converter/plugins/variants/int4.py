"""int4: the matrices of transformers in blocks of 4 bits (MatMulNBits), computed in float32.

A format of ONNX Runtime: its operator is in the domain com.microsoft.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from converter.model.spec import ExportSpec
from converter.plugins.variants import Given, NothingToConvertError, _options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

FORMAT = "onnx"
PRECISION = "int4"
PACKAGES = ("onnx", "onnx-ir", "onnxruntime")

_OPSET = 13
_OTHERWISE = "int8 quantises Conv, ConvTranspose, Gemm and MatMul, int8_dynamic LSTM"


class Options(_options.Searched):
    """What the quantiser may be told.

    Attributes:
        block_size: so many weights of a column have one scale: fewer keep more and take more room.
        symmetric: blocks have no zero point.
        accuracy_level: what products are computed in: ``float32``, or ``int8``, which is faster and
            rounds the activations too.
        gemm: also matrices of ``Gemm`` nodes, which become ``MatMulNBits`` and ``Add``.
    """

    block_size: Literal[16, 32, 64, 128, 256] = 32
    symmetric: bool = False
    accuracy_level: Literal["float32", "int8"] = "float32"
    gemm: bool = True


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` with 4-bit matrices.

    Raises:
        NothingToConvertError: the model has no matrix of weights.
        ValueError: an option names what there is not.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    from converter.plugins.variants import _dynamic, _fallback, _quantised
    from converter.worker.onnxfile import publishing

    model = _quantised.ready(parent, _OPSET, given)
    _quantised.require(model, options.node_block_list)
    operators = {"MatMul", "Gemm"} if options.gemm else {"MatMul"}
    layers = [
        name for name in _dynamic.layers(model, operators) if name not in options.node_block_list
    ]
    if not layers:
        gemm = "gemm: true takes Gemm too; " if not options.gemm else ""
        why = _quantised.nothing(model, operators, options.node_block_list, gemm + _OTHERWISE)
        raise NothingToConvertError(why)

    def quantise(in_float: Sequence[str]) -> ModelProto:
        kept = {*options.node_block_list, *in_float}
        return _made(parent, model, [name for name in layers if name not in kept], options)

    groups = {name: [name] for name in layers}
    found = _fallback.search(quantise, parent, groups, options.fallback_tries, given)
    publishing.save(found, target, ExportSpec())


def _made(parent: Path, model: ModelProto, layers: Sequence[str], options: Options) -> ModelProto:
    import logging

    from onnx import ModelProto
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    from converter.plugins.variants import _quantised

    # It tells of every node that it leaves as it is.
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    copy = ModelProto()
    copy.CopyFrom(model)
    wanted = set(layers)
    _quantised.split_gemms(copy, wanted)
    config = DefaultWeightOnlyQuantConfig(
        block_size=options.block_size,
        is_symmetric=options.symmetric,
        accuracy_level=4 if options.accuracy_level == "int8" else None,
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=("MatMul",),
    )
    others = [node.name for node in copy.graph.node if node.name not in wanted]
    quantizer = MatMulNBitsQuantizer(copy, nodes_to_exclude=others, algo_config=config)
    with _quantised.explained("node_block_list"):
        quantizer.process()
    return _quantised.finished(quantizer.model.model, parent)
