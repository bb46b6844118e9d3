"""Which part of its input each Dropout node of a graph drops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from converter.worker.onnxfile import structure

_DEFAULT_RATIO = 0.5
# With this opset ratio and training mode became inputs; before it there is an attribute, and
# nothing that says whether a node is active.
_INPUTS_SINCE = 12


def active(model: ModelProto, folder: Path) -> list[float]:
    """The ratio of each Dropout node that drops something; NaN where it is not a constant.

    Args:
        folder: where the external data of the model lies.
    """
    attributes = structure.opsets(model).get("ai.onnx", 0) < _INPUTS_SINCE
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    makers: dict[str, NodeProto] = {}
    for node in structure.nodes(model.graph):
        makers.update((name, node) for name in node.output)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                tensors.update((tensor.name, tensor) for tensor in graph.initializer)

    def constant(node: NodeProto, place: int, default: float) -> float:
        name = node.input[place] if len(node.input) > place else ""
        return _value(name, tensors, makers, folder) if name else default

    ratios = []
    for node in structure.nodes(model.graph):
        if node.op_type != "Dropout" or node.domain not in ("", "ai.onnx"):
            continue
        if attributes:
            stated = [attribute.f for attribute in node.attribute if attribute.name == "ratio"]
            ratios.append(stated[0] if stated else _DEFAULT_RATIO)
        elif constant(node, 2, default=0.0) == 1.0:
            ratios.append(constant(node, 1, default=_DEFAULT_RATIO))
    # NaN stays: nobody knows what such a node drops.
    return [ratio for ratio in ratios if ratio != 0.0]


def _value(
    name: str, tensors: Mapping[str, TensorProto], makers: Mapping[str, NodeProto], folder: Path
) -> float:
    """A constant scalar, also behind an Identity or a Cast; NaN where it is none."""
    for _ in range(len(makers) + 1):  # a damaged graph may go round in circles
        tensor = tensors.get(name)
        maker = makers.get(name)
        if maker is not None and maker.op_type == "Constant":
            tensor = next((a.t for a in maker.attribute if a.name == "value"), None)
            floats = [a.f for a in maker.attribute if a.name == "value_float"]
            if floats:
                return float(floats[0])
        if tensor is not None:
            values = numpy_helper.to_array(tensor, str(folder))
            return float(values.item()) if values.size == 1 else float("nan")
        if maker is None or maker.op_type not in ("Identity", "Cast"):
            break
        name = maker.input[0]
    return float("nan")
