"""The first wrong node within an If, a Loop or a Scan.

What their graphs give has no name outside. So the graph that ran is made a model of its own, fed
with what it had: for a Loop and a Scan turn by turn, up to the first whose results the other
computation does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from converter.worker.debug import extraction, inside, search
from converter.worker.debug.search import Guilty
from converter.worker.debug.values import Known
from converter.worker.inputs.inputs import Array

OPS = ("If", "Loop", "Scan")
# Of a loop that goes on without end the beginning tells as much.
_TURNS = 1000


@dataclass(frozen=True)
class Within:
    """What was found in a body.

    Attributes:
        model: the body.
        values: of all its names, what it was fed too.
        where: ``turn 2 of Loop '/Loop'``.
    """

    model: ModelProto
    values: dict[str, Array]
    guilty: Guilty
    where: str


@dataclass(frozen=True)
class _Turn:
    where: str
    model: ModelProto
    feeds: dict[str, Array]
    found: dict[str, Array]


def within(
    model: ModelProto, node: NodeProto, values: Mapping[str, Array], known: Known, folder: Path
) -> Within | None:
    """Look into the bodies of a node; ``None``: all that they give, the other computation has.

    Args:
        node: of the main graph of the model.
        values: of all names of that graph.
        known: values of the other computation.

    Raises:
        StageError: SESSION.
        StoppedError: a body does not run by itself.
    """
    for turn in _turns(_Outside(model, values, folder), node):
        wrong = [
            info.name
            for info in turn.model.graph.output
            if info.name in turn.found
            and turn.found[info.name].dtype.kind == "f"
            and known.match(turn.found[info.name], -1) is None
        ]
        if not wrong:
            continue
        given = inside.constants(turn.model) | {*turn.feeds}
        all_values = {**turn.feeds, **turn.found}
        guilty = search.guilty(turn.model.graph, turn.found, given, known, wrong)
        if guilty is None:
            return None
        if guilty.node.op_type in OPS:
            deeper = within(turn.model, guilty.node, all_values, known, folder)
            if deeper is not None:
                where = f"{deeper.where} in {turn.where}"
                return Within(deeper.model, deeper.values, deeper.guilty, where)
        return Within(turn.model, all_values, guilty, turn.where)
    return None


@dataclass(frozen=True)
class _Outside:
    """The graph that a body stands in."""

    model: ModelProto
    values: Mapping[str, Array]
    folder: Path

    def value(self, name: str) -> Array:
        """A value, or a weight."""
        if name in self.values:
            return self.values[name]
        held = next(tensor for tensor in self.model.graph.initializer if tensor.name == name)
        return numpy_helper.to_array(held)

    def turn(self, where: str, body: GraphProto, feeds: Mapping[str, Array]) -> _Turn:
        """Run a body once, by itself."""
        read = extraction.outer(body)
        given = {**{name: self.values[name] for name in read if name in self.values}, **feeds}
        held = [tensor for tensor in self.model.graph.initializer if tensor.name in read]
        graph = helper.make_graph(
            body.node,
            "body",
            [extraction.info(name, np.asarray(array)) for name, array in given.items()],
            [ValueInfoProto(name=info.name) for info in body.output],
            [*body.initializer, *held],
        )
        model = helper.make_model(
            graph,
            opset_imports=self.model.opset_import,
            functions=self.model.functions,
            ir_version=self.model.ir_version,
        )
        return _Turn(where, model, given, inside.values(model, given, self.folder))


def _turns(outside: _Outside, node: NodeProto) -> Iterator[_Turn]:
    if node.op_type == "If":
        yield _branch(outside, node)
    elif node.op_type == "Loop":
        yield from _loop(outside, node)
    else:
        yield from _scan(outside, node)


def _branch(outside: _Outside, node: NodeProto) -> _Turn:
    name = "then_branch" if outside.value(node.input[0]).reshape(-1)[0] else "else_branch"
    return outside.turn(f"{name} of {_called(node)}", _attributes(node)[name], {})


def _loop(outside: _Outside, node: NodeProto) -> Iterator[_Turn]:
    body = _attributes(node)["body"]
    most, goes_on = node.input[0], node.input[1]
    turns = int(outside.value(most).reshape(-1)[0]) if most else _TURNS
    goes: Any = outside.value(goes_on).reshape(()) if goes_on else np.array(True)
    carried = [outside.value(name) for name in node.input[2:]]
    for number in range(min(turns, _TURNS)):
        if not goes:
            return
        entries = [np.array(number, np.int64), goes, *carried]
        feeds = {info.name: array for info, array in zip(body.input, entries, strict=True)}
        turn = outside.turn(f"turn {number + 1} of {_called(node)}", body, feeds)
        yield turn
        results = _results(body, turn)
        goes, carried = results[0].reshape(()), results[1 : 1 + len(carried)]


def _scan(outside: _Outside, node: NodeProto) -> Iterator[_Turn]:
    stated = _attributes(node)
    body, scanned = stated["body"], stated["num_scan_inputs"]
    states = [outside.value(name) for name in node.input[:-scanned]]
    arrays = [outside.value(name) for name in node.input[-scanned:]]
    axes = stated.get("scan_input_axes", [0] * scanned)
    backward = stated.get("scan_input_directions", [0] * scanned)
    length = arrays[0].shape[axes[0]]
    for number in range(length):
        parts = [
            np.take(array, length - 1 - number if back else number, axis)
            for array, axis, back in zip(arrays, axes, backward, strict=True)
        ]
        entries = [*states, *parts]
        feeds = {info.name: array for info, array in zip(body.input, entries, strict=True)}
        turn = outside.turn(f"turn {number + 1} of {_called(node)}", body, feeds)
        yield turn
        states = _results(body, turn)[: len(states)]


def _results(body: GraphProto, turn: _Turn) -> list[Array]:
    """What a turn gives: of a value that is only handed on, what it was fed."""
    every = {**turn.feeds, **turn.found}
    return [np.asarray(every[info.name]) for info in body.output]


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _called(node: NodeProto) -> str:
    return f"{node.op_type} '{node.name or node.output[0]}'"
