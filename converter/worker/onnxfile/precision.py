"""In which float type a file holds its weights and computes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, inliner

from converter.worker.onnxfile import structure

_FLOATS = frozenset({
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE,
})  # fmt: skip
# They compute nothing: a file that casts to float16 and back everywhere must not pass for half.
_IDLE = frozenset({"Cast", "CastLike", "Constant", "Identity"})


@dataclass(frozen=True)
class Shares:
    """Shares of a float type, from 0 to 1; 1 where a file has nothing that could be of it.

    Attributes:
        weights: of the elements of all float weights, those of constants and subgraphs too.
        nodes: of the nodes that compute with floats, those that see floats of this type only.
    """

    weights: float
    nodes: float


def shares(model: ModelProto, element_type: int) -> Shares:
    """How much of a model is of a float type, whatever its ``value_info`` says.

    Args:
        model: the model; its weights need not be in memory.
        element_type: such as ``TensorProto.FLOAT16``.

    Raises:
        ValueError: the model's types contradict each other.
    """
    held = total = 0
    for kind, count in _weights(model):
        total += count
        held += count if kind == element_type else 0
    # An operator without floats (shapes, ids) has no precision.
    computing = [kinds for kinds in _node_types(infer_types(model).graph, {}) if kinds]
    matching = sum(kinds == {element_type} for kinds in computing)
    return Shares(
        weights=held / total if total else 1.0,
        nodes=matching / len(computing) if computing else 1.0,
    )


def float_elements(model: ModelProto, besides: Collection[str]) -> int:
    """How many elements all float weights have together.

    Args:
        besides: names of tensors that are none.
    """
    left_out: int = sum(
        prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name in besides and tensor.data_type in _FLOATS
    )
    return sum(count for _, count in _weights(model)) - left_out


def computing(model: ModelProto, element_type: int) -> set[str]:
    """The nodes that compute with a float type, by their name, else that of their first output.

    Args:
        model: its weights need not be in memory.
        element_type: such as ``TensorProto.FLOAT16``.
    """
    graph = infer_types(model).graph
    return {
        node.name or next(filter(None, node.output), "")
        for node, kinds in _seen(graph, {})
        if element_type in kinds
    }


def infer_types(model: ModelProto) -> ModelProto:
    """The structure of a model with types that are inferred, none that are only declared.

    What nodes give that no schema describes keeps its declaration: there is nothing else to go by.
    Local functions are inlined.

    Raises:
        ValueError: types contradict each other.
    """
    # Weights have no say in types, and onnx infers none for a model over 2 GiB in memory.
    bare = structure.skeleton(model)
    # Types inside of a function hang on its caller.
    if bare.functions:
        bare = inliner.inline_local_functions(bare)
    _undeclare(bare.graph, structure.opsets(bare))
    try:
        inferred = onnx.shape_inference.infer_shapes(bare)
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"types of the model cannot be inferred: {error}") from error
    # onnx leaves some outputs open (GroupNormalization), and everything behind them.
    _complete(inferred.graph, structure.opsets(bare), {})
    return inferred


def schema_of(domain: str, op_type: str, opsets: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """The schema of an operator at the opsets of a model; None for one that ONNX does not know."""
    version = opsets.get(domain or "ai.onnx", 1)
    domain = "" if domain == "ai.onnx" else domain
    if not onnx.defs.has(op_type, version, domain):
        return None
    return onnx.defs.get_schema(op_type, version, domain)


def _undeclare(graph: GraphProto, opsets: Mapping[str, int]) -> None:
    foreign = {
        name
        for node in graph.node
        if schema_of(node.domain, node.op_type, opsets) is None
        for name in node.output
    }
    kept = [value for value in graph.value_info if value.name in foreign]
    graph.ClearField("value_info")
    graph.value_info.extend(kept)
    made = {name for node in graph.node for name in node.output} - foreign
    # What a graph says of its outputs is a claim as well, and would cover a lie.
    for value in graph.output:
        if value.name in made:
            value.ClearField("type")
    for inner in (inner for node in graph.node for inner in subgraphs(node)):
        _undeclare(inner, opsets)


def _complete(graph: GraphProto, opsets: Mapping[str, int], outer: dict[str, TypeProto]) -> None:
    """Type what onnx leaves open, such as GroupNormalization: an input of the same variable."""
    known = outer | declared_types(graph)
    for node in graph.node:
        schema = schema_of(node.domain, node.op_type, opsets)
        if schema is not None and any(name and name not in known for name in node.output):
            # Type variables of the schema (`T`) → the tensor that is bound to them.
            bound = dict(zip((f.type_str for f in schema.inputs), node.input, strict=False))
            for name, formal in zip(node.output, schema.outputs, strict=False):
                kind = known.get(bound.get(formal.type_str, ""))
                if name and name not in known and kind is not None:
                    known[name] = TypeProto()
                    known[name].tensor_type.elem_type = kind.tensor_type.elem_type
                    graph.value_info.add(name=name, type=known[name])
        for inner in subgraphs(node):
            _complete(inner, opsets, known)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes, in order."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def declared_types(graph: GraphProto) -> dict[str, TypeProto]:
    """Name → type of what one graph defines, as it stands there: subgraphs have their own."""
    values = (*graph.value_info, *graph.output, *graph.input)
    found = {value.name: value.type for value in values if value.type.WhichOneof("value")}
    for tensor in graph.initializer:
        found[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    return found


def _node_types(graph: GraphProto, outer: dict[str, int]) -> Iterator[set[int]]:
    return (kinds for _, kinds in _seen(graph, outer))


def _seen(graph: GraphProto, outer: dict[str, int]) -> Iterator[tuple[NodeProto, set[int]]]:
    """Computing nodes with the float types that each sees, those of subgraphs after it."""
    # A body sees what the graphs around it define.
    known = outer | {
        name: kind.tensor_type.elem_type for name, kind in declared_types(graph).items()
    }
    for node in graph.node:
        inner = list(subgraphs(node))
        # An If or a Loop computes nothing itself: the nodes of its bodies are counted.
        if node.op_type not in _IDLE and not inner:
            kinds = {known.get(name, 0) for name in (*node.input, *node.output)}
            yield node, kinds & _FLOATS
        for body in inner:
            yield from _seen(body, known)


def _weights(model: ModelProto) -> Iterator[tuple[int, int]]:
    """Type and number of elements of each float weight."""
    for tensor in structure.tensors(model):
        if tensor.data_type in _FLOATS:
            yield tensor.data_type, prod(tensor.dims)
    bodies = [node for function in model.functions for node in function.node]
    for node in (*structure.nodes(model.graph), *bodies):
        for attribute in node.attribute if node.op_type == "Constant" else ():
            # These hold floats outside of any tensor, and `tensors` does not give them.
            if attribute.name in ("value_float", "value_floats"):
                yield (
                    TensorProto.FLOAT,
                    1 if attribute.name == "value_float" else len(attribute.floats),
                )
