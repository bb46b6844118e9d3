"""int8_dynamic: weights in 8 bits, activations quantised as they come: no calibration.

For transformers and LSTMs, whose activations have other ranges with each input.
"""

from __future__ import annotations

from pathlib import Path

from converter.model.spec import ExportSpec
from converter.plugins.variants import Given, NothingToConvertError, _options

FORMAT = "onnx"
PRECISION = "int8"
PACKAGES = ("onnx", "onnxruntime")

# Convolutions too have such an operator, which is slower than float32 (ConvInteger).
_USUAL = ("MatMul", "Gemm", "LSTM", "Attention", "Gather", "EmbedLayerNormalization")
_LAYERS = ("MatMul", "Gemm", "LSTM", "Attention", "Conv")
_OTHERWISE = "int8 quantises Conv, ConvTranspose, Gemm and MatMul"
# Opset 11 has DynamicQuantizeLinear; scales along an axis came later.
_OPSET = 11


class Options(_options.InEightBits):
    """What the quantiser may be told.

    Attributes:
        op_types: operators that are quantised; none: those that suit the model, all of ``MatMul``,
            ``Gemm``, ``LSTM``, ``Attention``, ``Gather`` and ``EmbedLayerNormalization``. Example:
            ``[MatMul, Gemm]``.
        per_channel: a scale for each output channel of a weight.
    """

    per_channel: bool = False


def keeps_io(options: Options) -> bool:
    return True


def derive(parent: Path, target: Path, options: Options, given: Given) -> None:
    """Write ``parent`` with 8-bit weights.

    Raises:
        NothingToConvertError: the model has no weights that can be quantised.
        ValueError: an option names what there is not.
    """
    # Here, since the parent process reads the options above and imports no onnx.
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    from converter.plugins.variants import _dynamic, _fallback, _quantised
    from converter.worker.onnxfile import publishing

    known = sorted({*IntegerOpsRegistry, "Gemm"})
    unknown = [name for name in options.op_types if name not in known]
    if unknown:
        raise ValueError(
            f"op_types: ONNX Runtime quantises no {', '.join(unknown)} dynamically; it does "
            f"{', '.join(known)}"
        )
    opset = _quantised.PER_CHANNEL if options.per_channel else _OPSET
    model = _quantised.ready(parent, opset, given)
    _quantised.require(model, options.node_block_list)
    chosen = options.op_types or _USUAL
    operators = [name for name in chosen if name not in options.op_block_list]
    layers = _dynamic.layers(model, set(operators) & set(_LAYERS))
    candidates = [name for name in layers if name not in options.node_block_list]
    if not candidates:
        why = _quantised.nothing(
            model, set(operators) & set(_LAYERS), options.node_block_list, _OTHERWISE
        )
        raise NothingToConvertError(why)
    quantise = _dynamic.Quantiser(
        parent,
        model,
        operators,
        options.node_block_list,
        per_channel=options.per_channel,
        reduce_range=bool(options.reduce_range),
    )
    groups = {name: [name] for name in candidates}
    found = _fallback.search(quantise, parent, groups, options.fallback_tries, given)
    publishing.save(found, target, ExportSpec())
