"""Which share of a file's multiplications is done in its precision, read from the file itself.

Counted are those of convolutions, matrix products and recurrent layers: nearly all that a network
multiplies. They are counted on the graph, at the shapes of given inputs; where a shape depends on
values, a node counts each of its weights once. Bodies of loops and branches count once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner

from converter.worker.onnxfile import precision, structure
from converter.worker.onnxfile.quantised import EIGHT, FOUR

_TYPES: Mapping[str, int] = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
_PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "MatMulNBits"})
_RECURRENT: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}
_INTEGER = frozenset({"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul",
                      "DynamicQuantizeLSTM"})  # fmt: skip
# They hand elements on: behind them an integer is still the same one.
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
# The second of the two that are multiplied, where it is not input 1.
_SECOND = {"QLinearConv": 3, "QLinearMatMul": 3}


def share(model: ModelProto, of: str, shapes: Mapping[str, Sequence[int]]) -> float | None:
    """The share of the multiplications that are done in a precision, from 0 to 1.

    Args:
        model: the model; its weights need not be in memory.
        of: ``float16``, ``bfloat16``, ``int8`` (both factors are integers of 8 bits) or ``int4``
            (the weight has 4 bits).
        shapes: of the inputs.

    Returns:
        ``None`` where the file multiplies nothing.

    Raises:
        ValueError: the model's types contradict each other.
    """
    inferred = _inferred(model, shapes)
    total = done = 0
    for count, within in _counts(inferred.graph, of, {}, {}):
        total += count
        done += count if within else 0
    return done / total if total else None


def total(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """How many multiplications a file does; those within loops count once.

    Args:
        shapes: of the inputs.

    Raises:
        ValueError: the model's types contradict each other.
    """
    return sum(count for count, _ in _counts(_inferred(model, shapes).graph, "float32", {}, {}))


def _inferred(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> ModelProto:
    """The structure with shapes, as far as the shapes of its inputs tell them."""
    bare = structure.skeleton(model)
    if bare.functions:
        bare = inliner.inline_local_functions(bare)
    for value in bare.graph.input:
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[value.name], strict=False):
                dim.dim_value = size
    # What a file says of inner values is a claim; outputs are told with symbols.
    bare.graph.ClearField("value_info")
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    _stand_in(bare.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"types of the model cannot be inferred: {error}") from error
    return inferred


def _stand_in(graph: GraphProto) -> None:
    """Give tensors behind operators of ONNX Runtime their shape: ONNX has no schema of those.

    A product with weights of four bits has the shape of a product with floats; a name says so.
    """
    added = []
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            continue
        size = {item.name: item.i for item in node.attribute}
        name = f"{node.output[0]}/weight"
        added.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [size["K"], size["N"]]))
        stand_in = helper.make_node("MatMul", [node.input[0], name], [node.output[0]], node.name)
        # Read again below: what it stands for decides in which precision it is.
        stand_in.doc_string = f"int{size.get('bits', 4)}"
        node.CopyFrom(stand_in)
    graph.input.extend(added)


def _counts(
    graph: GraphProto,
    of: str,
    outer_shapes: Mapping[str, list[int]],
    outer_types: Mapping[str, int],
) -> Iterator[tuple[int, bool]]:
    """For each node that multiplies how often, and whether in the precision."""
    types = dict(outer_types)
    shapes = dict(outer_shapes)
    for name, kind in precision.declared_types(graph).items():
        types[name] = kind.tensor_type.elem_type
        if kind.tensor_type.HasField("shape"):
            # A size that depends on values counts once.
            shapes[name] = [dim.dim_value or 1 for dim in kind.tensor_type.shape.dim]
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        count = _count(node, shapes)
        if count:
            yield count, _within(node, of, types, makers)
        for inner in precision.subgraphs(node):
            yield from _counts(inner, of, shapes, types)


def _count(node: NodeProto, shapes: Mapping[str, list[int]]) -> int:
    """Multiplications of a node; 0 for one that is not counted."""
    operator = node.op_type
    known = [shapes.get(name) for name in node.input]
    given = [shapes.get(name) for name in node.output]
    second = _SECOND.get(operator, 1)
    weight = known[second] if len(known) > second else None
    least = prod(weight) if weight else 0
    if operator in _CONVOLUTIONS and weight:
        return prod(given[0]) * prod(weight[1:]) if given and given[0] else least
    if operator == "ConvTranspose" and weight:
        return prod(known[0]) * prod(weight[1:]) if known[0] else least
    if operator in _PRODUCTS:
        length = _summed(node, known[0], weight)
        return prod(given[0]) * length if given and given[0] and length else least
    if operator in _RECURRENT and weight and len(weight) == 3 and len(known) > 2:
        steps = prod(known[0][:2]) if known[0] else 1
        return steps * (prod(weight) + prod(known[2] or [0]))
    return 0


def _summed(node: NodeProto, left: list[int] | None, weight: list[int] | None) -> int:
    """Over how many elements a product sums."""
    transposed = any(item.name == "transA" and item.i for item in node.attribute)
    if left:
        return left[-2] if transposed and len(left) > 1 else left[-1]
    if weight:
        flipped = any(item.name == "transB" and item.i for item in node.attribute)
        return weight[-1] if flipped or len(weight) == 1 else weight[-2]
    return 0


def _within(
    node: NodeProto,
    of: str,
    types: Mapping[str, int],
    makers: Mapping[str, NodeProto],
) -> bool:
    second = _SECOND.get(node.op_type, 1)
    if of in _TYPES:
        factors = [types.get(name, 0) for name in (node.input[0], node.input[second])]
        return all(kind == _TYPES[of] for kind in factors)
    if node.doc_string in ("int4", "int8") and node.op_type == "MatMul":
        return node.doc_string == of
    kinds = EIGHT if of == "int8" else FOUR
    if node.op_type in _INTEGER:
        return of == "int8"
    behind = [
        _integers(name, types, makers) in kinds for name in (node.input[0], node.input[second])
    ]
    return behind[1] if of == "int4" else all(behind)


def _integers(name: str, types: Mapping[str, int], makers: Mapping[str, NodeProto]) -> int:
    """The type of the integers that a tensor's floats come from; 0: they do not."""
    node = makers.get(name)
    while node is not None and node.op_type in _MOVES:
        node = makers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear":
        return 0
    return types.get(node.input[0], 0)
