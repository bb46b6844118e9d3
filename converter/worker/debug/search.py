"""The first node of a graph that gives something wrong, and what it should have given.

A value is right where the other computation has it too, whatever it is called there: names and
fusions differ, numbers do not. From the wrong outputs back, nodes whose inputs are all right and
whose output is not are where it begins. One operator of PyTorch may be several nodes, whose values
PyTorch never has; so the block that ends at the value which comes closest to what PyTorch computes
next belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto

from converter.worker.debug import extraction
from converter.worker.debug.values import Form, Known, Value, distance, form
from converter.worker.inputs.inputs import Array

# They compute nothing: what they give is as right as what they take. PyTorch moves elements in
# other steps, by views of its own.
_MOVES = {
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Split", "Slice",
    "Expand", "Concat", "Gather", "Tile",
}  # fmt: skip
# Operators of PyTorch become a dozen nodes at most, and fused ones are few.
_NODES, _VALUES = 16, 6
# What differs by more is another value, not a wrong one.
_NEAR = 10.0
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Guilty:
    """Where a graph begins to be wrong.

    Attributes:
        node: the first one that is.
        block: it, and what follows up to ``output``: one operator of the other computation.
        output: the value that ``expected`` is compared with.
        expected: what it should be; ``None``: nothing comes near, as where a branch was frozen.
        error: the largest difference of the two, as a share of the largest magnitude.
        before: the largest such difference among the node's inputs.
        follows: what the node is computed from, in the other computation; ``None``: inputs alone.
        stops: why ``runtime`` stops there; empty: it does not.
        form: its shape and dtype, where those are wrong and the numbers are not.
        ops: what a title calls the block; empty: by its operators.
    """

    node: NodeProto
    block: list[NodeProto]
    output: str
    expected: Value | None
    error: float
    before: float
    follows: Value | None = None
    stops: str = ""
    form: Form | None = None
    ops: str = ""
    runtime: str = "ONNX Runtime"


def guilty(
    graph: GraphProto,
    values: Mapping[str, Array],
    given: set[str],
    known: Known,
    outputs: Sequence[str],
    *,
    by_form: bool = False,
) -> Guilty | None:
    """Search; ``None`` where no node makes one of the outputs.

    Args:
        values: what each node gives.
        given: inputs and constants: right by themselves.
        known: values of the other computation.
        outputs: those of the graph that are wrong.
        by_form: they are wrong by their shape or dtype alone, their numbers are right.
    """
    return _Search(graph, values, given, known, outputs, by_form).run()


class _Search:
    def __init__(
        self,
        graph: GraphProto,
        values: Mapping[str, Array],
        given: set[str],
        known: Known,
        outputs: Sequence[str],
        by_form: bool,
    ) -> None:
        self._graph = graph
        self._by_form = by_form
        self._outputs = outputs
        self._values = values
        self._given = given
        self._known = known
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._place = {id(node): number for number, node in enumerate(graph.node)}
        self._matched: dict[str, Value] = {}
        self._since: dict[str, int] = {}
        self._match_all()

    def _match_all(self) -> None:
        """In the order of the graph: what follows from a value comes behind it on both sides."""
        behind: dict[str, int] = {}
        for node in self._graph.node:
            since = max((behind.get(name, -1) for name in extraction.read(node)), default=-1)
            for name in node.output:
                behind[name] = self._since[name] = since
                array = self._values.get(name)
                if array is None or array.dtype.kind != "f" or name in self._given:
                    continue
                if (value := self._known.match(array, since)) is not None:
                    self._matched[name] = value
                    behind[name] = value.number

    def run(self) -> Guilty | None:
        wrong = self._wrong()
        if not wrong:
            return None
        first = next((node for node in wrong if self._begins(node)), wrong[0])
        return self._of_form(first) if self._by_form else self._with_block(first, wrong)

    def _right(self, name: str) -> bool:
        if not name or name in self._given or name not in self._values:
            return True
        array = self._values[name]
        # Sizes and indices follow from the graph alone, or from values that are compared.
        if array.dtype.kind not in "f":
            return True
        if name in self._matched:
            return not self._by_form or form(array) in self._forms(name)
        maker = self._makers.get(name)
        return maker is not None and maker.op_type in _MOVES and self._begins(maker)

    def _forms(self, name: str) -> dict[Form, str]:
        """The shapes in which the other computation has the elements of a value."""
        return self._known.forms(self._values[name], self._since[name])

    def _wrong(self) -> list[NodeProto]:
        """The nodes that a wrong output leads back to, in the order of the graph."""
        waiting = list(self._outputs)
        found: dict[int, NodeProto] = {}
        while waiting:
            node = self._makers.get(waiting.pop())
            if node is None or id(node) in found:
                continue
            found[id(node)] = node
            waiting += [name for name in extraction.read(node) if not self._right(name)]
        return sorted(found.values(), key=lambda node: self._place[id(node)])

    def _begins(self, node: NodeProto) -> bool:
        # With what its subgraphs read from outside.
        return all(self._right(name) for name in extraction.read(node))

    def _of_form(self, first: NodeProto) -> Guilty:
        """A node that gives right numbers in a wrong shape, or in a wrong type."""
        output = next(name for name in first.output if name in self._values)
        value = self._matched.get(output)
        if value is not None:
            # The last one: views come after what they are views of.
            (shape, dtype), where = list(self._forms(output).items())[-1]
            array = value.array.reshape(shape).astype(dtype)
            value = Value(value.number, value.what, where, array)
        off = 0.0 if value is None else distance(self._values[output], value.array)
        return Guilty(first, [first], output, value, off, 0.0, form=form(self._values[output]))

    def _with_block(self, first: NodeProto, wrong: Sequence[NodeProto]) -> Guilty:
        region = list(self._behind(first, wrong))
        candidates = self._expected(first)
        pairs = [
            (distance(self._values[name], value.array), place, value.number, name, value)
            for place, node in enumerate(region)
            for name in node.output
            if name in self._values and self._values[name].dtype.kind == "f"
            for value in candidates
            if value.array.shape == self._values[name].shape
        ]
        near = [pair for pair in pairs if pair[0] <= _NEAR]
        behind = [self._matched[name] for name in first.input if name in self._matched]
        follows = max(behind, key=lambda value: value.number, default=None)
        before = max((self._off(name) for name in first.input), default=0.0)
        if not near:
            output = next((name for name in first.output if name), "")
            return Guilty(first, [first], output, None, float("inf"), before, follows)
        error, place, _, output, value = min(near, key=lambda pair: pair[:3])
        block = [*self._moves(first), *self._needed(output, region[: place + 1])]
        return Guilty(first, block, output, value, error, before, follows)

    def _off(self, name: str) -> float:
        value = self._matched.get(name)
        return distance(self._values[name], value.array) if value is not None else 0.0

    def _behind(self, first: NodeProto, wrong: Sequence[NodeProto]) -> Iterator[NodeProto]:
        """The node and those that follow from it, among the wrong ones."""
        reached = {*first.output}
        start = self._place[id(first)]
        found = 0
        for node in wrong:
            after = self._place[id(node)] >= start
            if node is first or (after and reached & {*node.input}):
                reached |= {*node.output}
                yield node
                found += 1
            if found == _NODES:
                return

    def _expected(self, first: NodeProto) -> list[Value]:
        """What PyTorch computes behind the inputs of a node, and the graph does not have."""
        # Its own output may be right and come too early: where the graph ends, and PyTorch goes on.
        names = (*first.input, *first.output)
        matched = [self._matched[name] for name in names if name in self._matched]
        start = max((value.number for value in matched), default=-1)
        have = {value.number for value in self._matched.values()}
        behind = [value for value in self._known.values if value.number > start]
        return [value for value in behind if value.number not in have][:_VALUES]

    def _moves(self, first: NodeProto) -> list[NodeProto]:
        """What only moves elements on the way to a node: where it moves the wrong ones."""
        found: dict[int, NodeProto] = {}
        waiting = list(first.input)
        while waiting:
            name = waiting.pop()
            maker = self._makers.get(name)
            if maker is None or name in self._matched or name in self._given:
                continue
            if maker.op_type in _MOVES and self._values[name].dtype.kind == "f":
                found[self._place[id(maker)]] = maker
                waiting += list(maker.input)
        return [found[place] for place in sorted(found)]

    def _needed(self, output: str, region: Sequence[NodeProto]) -> list[NodeProto]:
        """Of a region what a value needs."""
        wanted, block = {output}, []
        for node in reversed(region):
            if wanted & {*node.output}:
                block.append(node)
                wanted |= {*node.input}
        return block[::-1]


def tolerance(errors: Sequence[float], usual: float) -> float:
    """The difference from which on a value is wrong, where the outputs are off by ``errors``."""
    finite = [error for error in errors if np.isfinite(error) and error > 0]
    # Below it lies the rounding of float32 itself.
    return max(_ROUNDING, min([usual, *(error / 10 for error in finite)]))
