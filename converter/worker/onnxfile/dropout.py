"""Which part of its input each Dropout node of a graph drops."""

from __future__ import annotations

import math
from pathlib import Path

import onnx_ir as ir
from onnx import ModelProto

_DEFAULT_RATIO = 0.5
# With this opset ratio and training mode became inputs; before it there is an attribute, and
# nothing that says whether a node is active.
_INPUTS_SINCE = 12


def active(model: ModelProto, folder: Path) -> list[float]:
    """The ratio of each Dropout node that drops something; NaN where it is not a constant.

    Args:
        folder: where the external data of the model lies.
    """
    try:
        graph = ir.from_proto(model).graph
    except ir.serde.SerdeError:
        # Of what PyTorch does not write, such as a sparse constant: nobody knows what it drops.
        return [math.nan]
    ir.external_data.set_base_dir(graph, folder)
    attributes = graph.opset_imports.get("", 0) < _INPUTS_SINCE

    def constant(node: ir.Node, place: int, default: float) -> float:
        value = node.inputs[place] if len(node.inputs) > place else None
        return default if value is None else _value(value)

    ratios = []
    for node in graph.all_nodes():
        if node.op_type != "Dropout" or node.domain:
            continue
        if attributes:
            ratios.append(node.attributes.get_float("ratio", _DEFAULT_RATIO))
        # Without the third input a node is in inference mode, and drops nothing.
        elif constant(node, 2, default=0.0) == 1.0:
            ratios.append(constant(node, 1, default=_DEFAULT_RATIO))
    # NaN stays: nobody knows what such a node drops.
    return [ratio for ratio in ratios if ratio != 0.0]


def _value(value: ir.Value | None) -> float:
    """A constant scalar, also behind an Identity or a Cast; NaN where it is none."""
    passed: set[ir.Value] = set()
    while value is not None and value not in passed:  # a damaged graph may go round in circles
        passed.add(value)
        maker = value.producer()
        if maker is None:
            return _scalar(value.const_value)
        # `ir.convenience.get_const_tensor` would write a name into the tensors of the given model.
        if maker.op_type == "Constant":
            if "value_float" in maker.attributes:
                return maker.attributes.get_float("value_float")
            return _scalar(maker.attributes.get_tensor("value"))
        value = maker.inputs[0] if maker.op_type in ("Identity", "Cast") else None
    return math.nan


def _scalar(tensor: ir.TensorProtocol | None) -> float:
    return float(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else math.nan
