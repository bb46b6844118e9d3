"""Which nodes compute with sizes, positions and indices: 8 bits tell 256 of them apart.

``Floor`` of a coordinate that is off by half a step reads another pixel, and a range of positions
is that of the sizes it was calibrated at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

from onnx import ModelProto, NodeProto, TensorProto

from converter.worker.onnxfile import precision, structure


class Origin(IntEnum):
    """What the values of a tensor follow from; of several that which comes last."""

    CONSTANT = 0
    SIZE = 1  # sizes and ranges, and constants
    WHOLE = 2  # whole numbers of the inputs as well: ids, masks
    ACTIVATION = 3


_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Their other inputs say where values go, not what they are.
_FIRST_ONLY = frozenset({
    "Expand", "Pad", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Resize",
    "Split", "Squeeze", "Tile", "Unsqueeze", "Upsample",
})  # fmt: skip
# The inputs that are indices, sizes, scales or coordinates.
_PLACES: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "Expand": (1,), "Gather": (1,), "GatherElements": (1,),
    "GatherND": (1,), "GridSample": (1,), "OneHot": (0, 1), "Pad": (1,), "Range": (0, 1, 2),
    "Reshape": (1,), "Resize": (1, 2, 3), "RoiAlign": (1, 2), "ScatterElements": (1,),
    "ScatterND": (1,), "Slice": (1, 2, 3, 4), "Tile": (1,), "TopK": (1,), "Upsample": (1,),
}  # fmt: skip
# What turns coordinates into others; behind anything else they are activations.
_ARITHMETIC = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Clip", "Concat", "Div", "Expand", "Floor", "Identity", "Max",
    "Min", "Mod", "Mul", "Neg", "Reciprocal", "Reshape", "Round", "Slice", "Split", "Squeeze",
    "Sub", "Sum", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
_GATHERS = frozenset({"Gather", "GatherElements", "GatherND", "CumSum"})
# Pictures come in these.
_BYTES = frozenset({TensorProto.UINT8, TensorProto.INT8})
_INTEGERS = frozenset({
    TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT16,
    TensorProto.UINT32, TensorProto.UINT64, TensorProto.BOOL, *_BYTES,
})  # fmt: skip


def nodes(model: ModelProto) -> list[str]:
    """Names of the nodes that compute with sizes, positions or indices, in order.

    Args:
        model: with a name for each node, and the types of its tensors.
    """
    kinds = {
        name: kind.tensor_type.elem_type
        for name, kind in precision.declared_types(model.graph).items()
    }
    origins = _origins(model, kinds)
    feeding = _feeding(model.graph.node, kinds)
    return [
        node.name
        for node in model.graph.node
        if node.name in feeding or _measures(node, origins, kinds)
    ]


def _origins(model: ModelProto, kinds: Mapping[str, int]) -> dict[str, Origin]:
    """What each tensor of the model's graph follows from."""
    found = {tensor.name: Origin.CONSTANT for tensor in model.graph.initializer}
    for value in structure.fed_inputs(model):
        kind = kinds.get(value.name)
        whole = kind in _INTEGERS - _BYTES
        found[value.name] = Origin.WHOLE if whole else Origin.ACTIVATION
    for node in model.graph.node:
        found.update(dict.fromkeys(filter(None, node.output), _origin(node, found)))
    return found


def _origin(node: NodeProto, found: Mapping[str, Origin]) -> Origin:
    """What the results of a node follow from."""
    own = not node.domain or node.domain == "ai.onnx"
    if not own or node.op_type.startswith("Random") or any(precision.subgraphs(node)):
        return Origin.ACTIVATION
    if node.op_type in ("Shape", "Size"):
        return Origin.SIZE
    if node.op_type in ("Constant", "ConstantOfShape", "EyeLike"):
        return Origin.CONSTANT
    read = [found.get(name, Origin.ACTIVATION) for name in _read(node)]
    origin = max(read, default=Origin.CONSTANT)
    if node.op_type == "Range":
        return max(origin, Origin.SIZE)
    if node.op_type in ("NonZero", "ArgMax", "ArgMin"):
        return min(origin, Origin.WHOLE)
    # A row of a table that ids choose, or what a layer makes of them, is no whole number any more.
    if origin is Origin.WHOLE and node.op_type not in _ARITHMETIC:
        moved = node.op_type in _GATHERS and read[0] is Origin.WHOLE
        return Origin.WHOLE if moved else Origin.ACTIVATION
    return origin


def _read(node: NodeProto) -> list[str]:
    """The inputs whose values the results are made of."""
    names = node.input[:1] if node.op_type in _FIRST_ONLY else node.input
    return [name for name in names if name]


def _measures(node: NodeProto, origins: Mapping[str, Origin], kinds: Mapping[str, int]) -> bool:
    """Whether a node computes with floats that are sizes or positions, alone or among others."""
    floats = [name for name in _read(node) if kinds.get(name) == TensorProto.FLOAT]
    found = {origins.get(name, Origin.ACTIVATION) for name in floats}
    if Origin.ACTIVATION in found:
        # A layer behind them computes with what it is given; sums and joins can stay precise.
        return Origin.SIZE in found and node.op_type not in _LAYERS
    if Origin.WHOLE in found:
        return node.op_type not in _LAYERS
    return Origin.SIZE in found


def _feeding(nodes: Sequence[NodeProto], kinds: Mapping[str, int]) -> Collection[str]:
    """Nodes whose results become indices, sizes or coordinates."""
    found: set[str] = set()
    places: set[str] = set()
    for node in reversed(nodes):
        if node.op_type == "Cast" and kinds.get(node.output[0]) in _INTEGERS:
            places.update(node.input)
        if node.op_type in _ARITHMETIC and not places.isdisjoint(node.output):
            found.add(node.name)
            places.update(filter(None, node.input))
        wanted = _PLACES.get(node.op_type, ())
        places.update(node.input[place] for place in wanted if place < len(node.input))
    return found
