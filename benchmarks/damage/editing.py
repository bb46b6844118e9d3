"""Reading and editing a graph: attributes, constants, uses of a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Damage:
    """One change of a file.

    Attributes:
        kind: the family that it belongs to.
        place: the node or value that it changes.
        apply: changes a copy of the file.
        interface: only names of sizes change: no output can show it.
    """

    kind: str
    place: str
    apply: Callable[[ModelProto], None]
    interface: bool = False

    def __str__(self) -> str:
        return f"{self.kind} of {self.place}"


def nodes(model: ModelProto, *types: str) -> Iterator[tuple[int, NodeProto]]:
    """Nodes of the main graph of some types, with their place."""
    for number, node in enumerate(model.graph.node):
        if node.op_type in types:
            yield number, node


def attribute(node: NodeProto, name: str) -> Any:
    """The value of an attribute, ``None`` where it is not stated."""
    found = next((item for item in node.attribute if item.name == name), None)
    if found is None:
        return None
    value = helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def constants(graph: GraphProto) -> dict[str, Array]:
    """Initializers and outputs of Constant nodes, by name."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and attribute(node, "value") is not None:
            found[node.output[0]] = numpy_helper.to_array(attribute(node, "value"))
    return found


def replace_constant(model: ModelProto, number: int, place: int, values: Array) -> None:
    """Give one input of one node a constant of its own: others may share the old one."""
    name = f"damaged_{number}_{place}"
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.node[number].input[place] = name


def bypass(model: ModelProto, number: int) -> None:
    """Take a node out: its readers read its first input."""
    node = model.graph.node[number]
    source, gone = node.input[0], node.output[0]
    if gone in {value.name for value in model.graph.output}:
        node.CopyFrom(helper.make_node("Identity", [source], [gone]))
        return
    del model.graph.node[number]
    for other in model.graph.node:
        other.input[:] = [source if name == gone else name for name in other.input]


def insert_after(
    model: ModelProto, value: str, made: Callable[[str, str], list[NodeProto]]
) -> None:
    """Put nodes between a value and all its readers; ``made`` gives them for two names."""
    fresh = f"{value}_changed"
    for node in model.graph.node:
        node.input[:] = [fresh if name == value else name for name in node.input]
    new = made(value, fresh)
    places = [n for n, node in enumerate(model.graph.node) if value in node.output]
    at = places[0] + 1 if places else 0
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*kept[:at], *new, *kept[at:]])
