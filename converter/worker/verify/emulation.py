"""A float16 file as one that ONNX Runtime's CPU computes as a device would.

A CPU computes the operators of a float16 file in float32 and drops the casts between them. Here
every float16 tensor becomes float32, and each result that float16 would round is rounded by
arithmetic, which nothing drops: ``hi = t - (t - x)`` with ``t = 8193 x`` keeps the 11 bits of its
significand (T. J. Dekker, "A floating-point technique for extending the available precision",
1971); beyond 65520 it becomes infinity, and below 2^-14 a multiple of 2^-24. Sums inside of a
kernel stay float32, as they are on most hardware.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from converter.worker.onnxfile import precision, structure

_PREFIX = "converter.emulation/"
# Halfway between the largest number of float16 and what would follow it: rounded up from there.
_INFINITE = 65520.0
_NORMAL = 2.0**-14
# 2^13 + 1: the split leaves 24 − 13 = 11 bits of float32's significand, which are float16's.
_CONSTANTS = {
    "splitter": 8193.0,
    "infinite": _INFINITE,
    "far": 1e38,  # times more than 65520 it is infinity in float32
    "normal": _NORMAL,
    "shift": 0.75,  # neighbours of numbers there are 2^-24 apart, as subnormal ones of float16
}
# They hand values on that are rounded already.
# If, Loop and Scan round within their bodies, and what leaves those is rounded already.
_MOVES = {
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "If", "Loop", "Max", "MaxPool", "Min", "Neg", "Relu", "Reshape", "Scan", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_WHERE = 9  # the opset from which on an operator chooses between elements


def emulated(model: ModelProto) -> ModelProto:
    """The model in float32 that rounds what its float16 computes.

    Args:
        model: with its weights in memory; it is changed.

    Raises:
        ValueError: types of the model contradict each other.
    """
    # `infer_types` inlines them as well: the names that it gives must be those of this graph.
    if model.functions:
        model = inliner.inline_local_functions(model)
    # Inferred, since what a file declares of its inner values may be wrong.
    opset = structure.opsets(model).get("ai.onnx", 0)
    _rewrite(model.graph, precision.infer_types(model).graph, opset)
    model.graph.initializer.extend(
        helper.make_tensor(_PREFIX + name, TensorProto.FLOAT, [], [value])
        for name, value in _CONSTANTS.items()
    )
    return model


def _rewrite(graph: GraphProto, typed: GraphProto, opset: int) -> None:
    """Have a graph, and those within, round what it gives.

    Args:
        typed: the same graph with inferred types. Branches may call tensors of other types alike.
    """
    types = precision.declared_types(typed)
    halves = {n for n, t in types.items() if t.tensor_type.elem_type == TensorProto.FLOAT16}
    # They still say float16, and ONNX Runtime compares them with the types that it infers.
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in graph.initializer:
        _widen(tensor)
    # Taken out, and put back one by one with the nodes that round behind each.
    nodes = list(graph.node)
    graph.ClearField("node")
    for node, twin in zip(nodes, typed.node, strict=True):
        _retype(node)
        for inner, body in zip(precision.subgraphs(node), precision.subgraphs(twin), strict=True):
            _rewrite(inner, body, opset)
        computed = node.output if node.op_type not in _MOVES else ()
        # The exact result takes the name of ours. The rounded one gets the name that others read,
        # which may be an output of the graph.
        exact = {name: f"{_PREFIX}{name}" for name in computed if name in halves}
        for place, name in enumerate(node.output):
            node.output[place] = exact.get(name, name)
        graph.node.append(node)
        # Right behind the node, so that the order stays topological.
        for name, before in exact.items():
            graph.node.extend(_rounded(before, name, opset))


def _retype(node: NodeProto) -> None:
    # An attribute that holds no tensor gives an empty one, of type 0, and is not touched by it.
    for attribute in node.attribute:
        _widen(attribute.t)
        # A Cast to float16 becomes one to float32. It is no move, so that its result is rounded
        # here: this is the rounding that a CPU drops.
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rounded(x: str, name: str, opset: int) -> Iterator[NodeProto]:
    """Nodes that give ``x``, rounded to float16, its name."""

    def made(op: str, inputs: list[str], output: str) -> NodeProto:
        named = [i if i.startswith(x) else _PREFIX + i for i in inputs]
        return helper.make_node(op, named, [output])

    # Without Where the range stays that of float32: only the significand is rounded.
    hi = f"{x}/hi" if opset >= _WHERE else name
    yield made("Mul", [x, "splitter"], f"{x}/t")
    yield made("Sub", [f"{x}/t", x], f"{x}/d")
    yield made("Sub", [f"{x}/t", f"{x}/d"], hi)
    if opset < _WHERE:
        return
    yield made("Abs", [x], f"{x}/size")
    # From 4e34 on the products above are infinite in float32 themselves. This branch hides what the
    # split makes of them.
    yield made("Greater", [f"{x}/size", "infinite"], f"{x}/is_infinite")
    yield made("Mul", [x, "far"], f"{x}/infinity")
    yield made("Where", [f"{x}/is_infinite", f"{x}/infinity", hi], f"{x}/range")
    # NaN is neither larger nor smaller, and goes through both choices as it is.
    yield made("Less", [f"{x}/size", "normal"], f"{x}/is_small")
    yield made("Add", [x, "shift"], f"{x}/shifted")
    yield made("Sub", [f"{x}/shifted", "shift"], f"{x}/small")
    # The last node gives the name, so that `hi` needs no Identity behind it.
    yield made("Where", [f"{x}/is_small", f"{x}/small", f"{x}/range"], name)
