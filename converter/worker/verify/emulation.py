"""A file of 16-bit floats as one that ONNX Runtime's CPU computes as a device would.

A CPU computes the operators of a float16 file in float32 and drops the casts between them; of a
bfloat16 file it computes hardly any (``checking.without_kernel``). Here every such tensor becomes
float32, and each result that 16 bits would round is rounded by arithmetic, which nothing drops:
``hi = t - (t - x)`` with ``t = 8193 x`` keeps the 11 bits of float16's significand, and with
``t = 65537 x`` the 8 bits of bfloat16's (T. J. Dekker, "A floating-point technique for extending
the available precision", 1971); beyond the largest number it becomes infinity, and below the
smallest with all bits a multiple of the smallest one. Sums inside of a kernel stay float32, as they
are on most hardware.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from converter.worker.inputs.reduced import Reduced
from converter.worker.onnxfile import precision, structure

PREFIX = "converter.emulation/"
_FLOAT32_BITS = 24
# From here on a number is divided by 2^32 before it is split and multiplied by it afterwards, which
# is exact: the products of the split are infinite in float32 from 5e33 (bfloat16) on.
_LARGE, _SHRINK = 2.0**96, 2.0**-32
# They hand values on that are rounded already.
# If, Loop and Scan round within their bodies, and what leaves those is rounded already.
_MOVES = {
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "If", "Loop", "Max", "MaxPool", "Min", "Neg", "Relu", "Reshape", "Scan", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_WHERE = 9  # the opset from which on an operator chooses between elements


def emulated(model: ModelProto, kind: Reduced, *, rounds: bool = True) -> ModelProto:
    """The model in float32 that rounds what its 16 bits compute.

    Args:
        model: with its weights in memory; it is changed.
        kind: float16 or bfloat16; what is of the other one stays as it is.
        rounds: false: it computes the same without rounding any result.

    Raises:
        ValueError: types of the model contradict each other.
    """
    # `infer_types` inlines them as well: the names that it gives must be those of this graph.
    if model.functions:
        model = inliner.inline_local_functions(model)
    # Inferred, since what a file declares of its inner values may be wrong.
    opset = structure.opsets(model).get("ai.onnx", 0)
    _rewrite(model.graph, precision.infer_types(model).graph, kind, opset if rounds else None)
    # As nodes, before all others: initializers are what damage tests choose from.
    computing = list(model.graph.node)
    model.graph.ClearField("node")
    for name, value in _constants(kind).items():
        tensor = helper.make_tensor(PREFIX + name, TensorProto.FLOAT, [], [value])
        model.graph.node.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    model.graph.node.extend(computing)
    return model


def _constants(kind: Reduced) -> dict[str, float]:
    return {
        # The split leaves as many bits of float32's significand as the format has.
        "splitter": 2.0 ** (_FLOAT32_BITS - kind.bits) + 1,
        # Rounded up from halfway on: the last number of float32 before that.
        "infinite": float(np.nextafter(np.float32(kind.infinite), np.float32(0))),
        "far": 1e38,  # times more than 65520 it is infinity in float32
        "large": _LARGE,
        "shrink": _SHRINK,
        "one": 1.0,
        "normal": kind.normal,
        # Neighbours of numbers there are as far apart as the format's subnormal ones: for float16
        # 0.75, where float32's are 2^-24 apart.
        "shift": 0.75 * kind.subnormal * 2.0**_FLOAT32_BITS,
    }


def _rewrite(graph: GraphProto, typed: GraphProto, kind: Reduced, opset: int | None) -> None:
    """Have a graph, and those within, round what it gives.

    Args:
        typed: the same graph with inferred types. Branches may call tensors of other types alike.
        opset: of the nodes that round; None: nothing does.
    """
    types = precision.declared_types(typed)
    halves = {n for n, t in types.items() if t.tensor_type.elem_type == kind.element}
    # They still say 16 bits, and ONNX Runtime compares them with the types that it infers.
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == kind.element:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in graph.initializer:
        _widen(tensor, kind)
    # Taken out, and put back one by one with the nodes that round behind each.
    nodes = list(graph.node)
    graph.ClearField("node")
    for node, twin in zip(nodes, typed.node, strict=True):
        _retype(node, kind)
        for inner, body in zip(precision.subgraphs(node), precision.subgraphs(twin), strict=True):
            _rewrite(inner, body, kind, opset)
        computed = node.output if opset and node.op_type not in _MOVES else ()
        # The exact result takes the name of ours. The rounded one gets the name that others read,
        # which may be an output of the graph.
        exact = {name: f"{PREFIX}{name}" for name in computed if name in halves}
        for place, name in enumerate(node.output):
            node.output[place] = exact.get(name, name)
        graph.node.append(node)
        # Right behind the node, so that the order stays topological.
        for name, before in exact.items():
            graph.node.extend(_rounded(before, name, kind, opset or 0))


def _retype(node: NodeProto, kind: Reduced) -> None:
    # An attribute that holds no tensor gives an empty one, of type 0, and is not touched by it.
    for attribute in node.attribute:
        _widen(attribute.t, kind)
        # A Cast to 16 bits becomes one to float32. It is no move, so that its result is rounded
        # here: this is the rounding that a CPU drops.
        if attribute.name in ("to", "dtype") and attribute.i == kind.element:
            attribute.i = TensorProto.FLOAT


def _widen(tensor: TensorProto, kind: Reduced) -> None:
    if tensor.data_type == kind.element:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rounded(x: str, name: str, kind: Reduced, opset: int) -> Iterator[NodeProto]:
    """Nodes that give ``x``, rounded to 16 bits, its name."""
    # Without Where the range stays that of float32: only the significand is rounded.
    if opset < _WHERE:
        yield from _split(x, x, name)
        return
    yield _made(x, "Abs", [x], f"{x}/size")
    if kind.largest < _LARGE:  # the last choice hides where the split would be infinite
        yield from _split(x, x, f"{x}/hi")
    else:
        yield _made(x, "Greater", [f"{x}/size", "large"], f"{x}/is_large")
        yield _made(x, "Where", [f"{x}/is_large", "shrink", "one"], f"{x}/scale")
        yield _made(x, "Mul", [x, f"{x}/scale"], f"{x}/scaled")
        yield from _split(x, f"{x}/scaled", f"{x}/part")
        yield _made(x, "Div", [f"{x}/part", f"{x}/scale"], f"{x}/hi")
    # This also hides what the split makes of infinity, which is NaN.
    yield _made(x, "Greater", [f"{x}/size", "infinite"], f"{x}/is_infinite")
    yield _made(x, "Mul", [x, "far"], f"{x}/infinity")
    yield _made(x, "Where", [f"{x}/is_infinite", f"{x}/infinity", f"{x}/hi"], f"{x}/range")
    # NaN is neither larger nor smaller, and goes through both choices as it is.
    yield _made(x, "Less", [f"{x}/size", "normal"], f"{x}/is_small")
    yield _made(x, "Add", [x, "shift"], f"{x}/shifted")
    yield _made(x, "Sub", [f"{x}/shifted", "shift"], f"{x}/small")
    # The last node gives the name, so that the choice needs no Identity behind it.
    yield _made(x, "Where", [f"{x}/is_small", f"{x}/small", f"{x}/range"], name)


def _split(x: str, source: str, name: str) -> Iterator[NodeProto]:
    """The leading bits of the significand of ``source``, by Dekker."""
    yield _made(x, "Mul", [source, "splitter"], f"{x}/t")
    yield _made(x, "Sub", [f"{x}/t", source], f"{x}/d")
    yield _made(x, "Sub", [f"{x}/t", f"{x}/d"], name)


def _made(x: str, op: str, inputs: list[str], output: str) -> NodeProto:
    """A node on what is made of ``x``, and on constants."""
    return helper.make_node(op, [i if i.startswith(x) else PREFIX + i for i in inputs], [output])
