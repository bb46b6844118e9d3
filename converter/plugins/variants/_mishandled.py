"""Nodes that ONNX Runtime's quantizer changes or fails on (1.31): they stay in float32.

Its files would be refused for them, since they compute something else than their parent.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, helper

from converter.worker.onnxfile import quantised, structure


def static(model: ModelProto) -> dict[str, str]:
    """Names of nodes → why, in a few words; of static quantisation.

    Args:
        model: with a name for each node.
    """
    held = dict(structure.constants(model.graph))
    found = {}
    for node in model.graph.node:
        if why := _why(node, {name: len(tensor.dims) for name, tensor in held.items()}):
            found[node.name] = why
        elif node.op_type == "Clip":
            low, high = quantised.limits(node, held)
            # It is dropped, and the range of integers always has a zero.
            if low > 0 or high < 0:
                found[node.name] = "its bounds leave out zero"
    return found


def _why(node: NodeProto, ranks: dict[str, int]) -> str:
    set_ = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Gemm" and set_.get("beta", 1.0) != 1.0:
        return "its beta would be lost"
    if node.op_type == "LayerNormalization" and ranks.get(node.input[1], 1) > 1:
        return "it normalises over several axes"
    return ""


def stacked(model: ModelProto) -> list[str]:
    """Weights of products that are stacks of matrices: they get no scale per channel.

    ONNX Runtime has no kernel that takes one for each.
    """
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return sorted(
        {
            name
            for node in model.graph.node
            if node.op_type == "MatMul"
            for name in node.input
            if ranks.get(name, 0) > 2
        }
    )
