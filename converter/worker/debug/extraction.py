"""Some nodes of a graph as a model of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from converter.worker.inputs.inputs import Array


def extracted(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    outputs: Sequence[str],
    values: Mapping[str, Array],
    constants: Collection[str],
) -> tuple[ModelProto, list[str]]:
    """A model of these nodes alone, and the names that are to be fed, in its order.

    Args:
        nodes: in the order of the graph.
        values: what they read and give; shapes and types are taken from them.
        constants: the values that depend on no input: they are held in the model.
    """
    made = {name for node in nodes for name in node.output}
    needed = list(dict.fromkeys(name for node in nodes for name in read(node)))
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    held: list[TensorProto] = []
    fed: list[str] = []
    for name in needed:
        if name in made or not name:
            continue
        if name in initializers:
            held.append(initializers[name])
        elif name in constants and name in values:
            held.append(numpy_helper.from_array(values[name], name))
        elif name in values:
            fed.append(name)
    graph = helper.make_graph(
        nodes,
        "minimal",
        [info(name, values[name]) for name in fed],
        [info(name, values[name]) for name in outputs],
        held,
    )
    small = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        functions=model.functions,
        ir_version=model.ir_version,
    )
    return small, fed


def read(node: NodeProto) -> Iterator[str]:
    """What a node reads, its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from outer(inner)


def outer(graph: GraphProto) -> set[str]:
    """What a subgraph reads from outside."""
    own = {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    own |= {name for node in graph.node for name in node.output}
    inside = {name for node in graph.node for name in read(node)}
    return (inside | {info.name for info in graph.output}) - own


def info(name: str, array: Array) -> onnx.ValueInfoProto:
    """What declares a value."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape)
    )
