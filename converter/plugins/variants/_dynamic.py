"""Dynamic quantisation with ONNX Runtime's quantizer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from onnx import ModelProto, TensorProto

from converter.plugins.variants import _mishandled, _quantised

# Input of the weight; the others read it as input 1.
_WEIGHT = {"Gather": 0}
_HIDDEN = "GemmInFloat"


def layers(model: ModelProto, operators: Collection[str]) -> list[str]:
    """Nodes of these operators with weights of their own, in order."""
    held = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and tensor.dims
    }
    return [
        node.name
        for node in model.graph.node
        if node.op_type in operators
        and len(node.input) > 1
        and node.input[_WEIGHT.get(node.op_type, 1)] in held
    ]


class Quantiser:
    """Makes the quantised model anew each time: the quantiser changes what it is given.

    Args:
        parent: the file that it is made from.
        model: that file, ready.
        excluded: nodes that stay in float32.
    """

    def __init__(
        self,
        parent: Path,
        model: ModelProto,
        operators: Sequence[str],
        excluded: Sequence[str],
        *,
        per_channel: bool,
        reduce_range: bool,
    ) -> None:
        self._parent = parent
        self._model = model
        self._operators = list(operators)
        self._excluded = list(excluded)
        self._per_channel = per_channel
        self._reduce_range = reduce_range

    def __call__(self, in_float: Sequence[str]) -> ModelProto:
        """The model with these nodes left in float32."""
        from onnxruntime.quantization import QuantizationMode, QuantType
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

        copy = ModelProto()
        copy.CopyFrom(self._model)
        excluded = [*self._excluded, *in_float]
        if self._per_channel:
            stacks = set(_mishandled.stacked(self._model))
            excluded += [n.name for n in self._model.graph.node if stacks & set(n.input)]
        if "MatMul" not in self._operators:
            excluded += _quantised.nodes_of(self._model, ["MatMul"])
        if "Gemm" in self._operators:
            gemms = layers(self._model, ["Gemm"])
            _quantised.split_gemms(copy, set(gemms) - set(excluded))
        # The quantizer would make MatMul and Add of those that are left, and transpose their
        # weights under the same name, whoever else reads them (1.31).
        kept = [node for node in copy.graph.node if node.op_type == "Gemm"]
        for node in kept:
            node.op_type = _HIDDEN
        quantizer = ONNXQuantizer(
            copy,
            self._per_channel,
            self._reduce_range,
            QuantizationMode.IntegerOps,
            False,  # static
            QuantType.QInt8,
            QuantType.QUInt8,
            None,
            [],
            excluded,
            sorted({"MatMul" if name == "Gemm" else name for name in self._operators}),
            {"MatMulConstBOnly": True, "WeightSymmetric": True},
        )
        with _quantised.explained("op_block_list, node_block_list"):
            quantizer.quantize_model()
        quantizer.model.topological_sort()
        made = quantizer.model.model
        for node in made.graph.node:
            if node.op_type == _HIDDEN:
                node.op_type = "Gemm"
        return _quantised.finished(made, self._parent)
