"""The fewest nodes of a file that another way to run it gets wrong.

A way fuses nodes (ONNX Runtime's optimisations, another runtime), and what it fuses has no values
to look at: to ask for them is to forbid the fusion. So the graph is cut instead, and each piece is
a model of its own: first its beginning, with all that leads to the cut, until one node more makes
it wrong; then the end of that, fed with right values, until one node less makes it right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from converter.model.errors import StageError
from converter.worker.debug import extraction, inside
from converter.worker.debug.inside import StoppedError
from converter.worker.debug.values import distance, form
from converter.worker.debug.ways import Way
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.runtime.starting import RuntimeErrors, first_line

# Each node of what is left is tried without.
_FEW = 48
_INLINE = 1 << 30


@dataclass(frozen=True)
class Piece:
    """A part of a graph that comes out wrong.

    Attributes:
        nodes: in the order of the graph.
        output: the value that is off most.
        error: by how much, as a share of its largest magnitude.
        stops: why the way refuses the part; empty: it runs.
    """

    nodes: list[NodeProto]
    output: str
    error: float
    stops: str = ""


@dataclass(frozen=True)
class Graph:
    """A file with its right values.

    Attributes:
        model: with its weights.
        values: of all names, inputs too.
        constants: the names of those that depend on no input.
        wrong: the outputs that the way gets wrong.
    """

    model: ModelProto
    values: Mapping[str, Array]
    constants: Collection[str]
    wrong: Sequence[str]


def smallest(graph: Graph, way: Way, bound: float, folder: Path) -> Piece | None:
    """Search; ``None`` where no piece is wrong, though the file is.

    Args:
        bound: the largest error that is none.
        folder: for the pieces.
    """
    return _Cutting(graph, way, bound, folder).run()


class _Cutting:
    def __init__(self, graph: Graph, way: Way, bound: float, folder: Path) -> None:
        self._graph = graph
        self._way = way
        self._bound = bound
        self._folder = folder
        self._nodes = _leading_to(graph)

    def run(self) -> Piece | None:
        nodes = self._nodes
        found = self._tried(nodes)
        if found is None:
            return None
        right, end = 0, len(nodes)
        while end - right > 1:
            middle = (right + end) // 2
            piece = self._tried(nodes[:middle])
            right, end, found = (middle, end, found) if piece is None else (right, middle, piece)
        start, right = 0, end
        while right - start > 1:
            middle = (start + right) // 2
            piece = self._tried(nodes[middle:end])
            start, right, found = (
                (start, middle, found) if piece is None else (middle, right, piece)
            )
        return self._thinned(found)

    def _thinned(self, found: Piece) -> Piece:
        """Without what stands between the nodes and has no part in it."""
        needed = _needed(found.output, found.nodes)
        found = self._tried(needed) or found
        if len(found.nodes) > _FEW:
            return found
        for node in list(found.nodes):
            fewer = [other for other in found.nodes if other is not node]
            if fewer and node.output[0] != found.output:
                found = self._tried(fewer) or found
        return found

    def _tried(self, nodes: Sequence[NodeProto]) -> Piece | None:
        """What is wrong with these nodes by themselves; ``None``: nothing."""
        outputs = self._outputs(nodes)
        if not outputs:
            return None
        values = self._graph.values
        model, fed = extraction.extracted(
            self._graph.model, nodes, outputs, values, self._graph.constants
        )
        feeds = {name: values[name] for name in fed}
        path = saved(model, self._folder / "piece.onnx")
        try:
            got = self._way.run(path, feeds)
        except (StageError, *RuntimeErrors) as error:
            why = str(error) if isinstance(error, StageError) else first_line(error)
            # What nobody runs says nothing of this way.
            return (
                Piece(list(nodes), outputs[-1], np.inf, why) if self._runs(model, feeds) else None
            )
        errors = {name: off(got[name], values[name]) for name in outputs}
        worst = max(errors, key=lambda name: errors[name])
        if errors[worst] <= self._bound:
            return None
        return Piece(list(nodes), worst, errors[worst])

    def _outputs(self, nodes: Sequence[NodeProto]) -> list[str]:
        """What the others read of them, or users do."""
        own = {id(node) for node in nodes}
        wanted = {*self._graph.wrong}
        for node in self._nodes:
            if id(node) not in own:
                wanted |= {*extraction.read(node)}
        made = [name for node in nodes for name in node.output if name in wanted]
        return [name for name in made if isinstance(self._graph.values.get(name), np.ndarray)]

    def _runs(self, model: ModelProto, feeds: Mapping[str, Array]) -> bool:
        try:
            inside.values(model, feeds, self._folder)
        except (StageError, StoppedError):
            return False
        return True


def off(found: Array, expected: Array) -> float:
    """How far a value is from what it should be; infinite where it has another shape or type."""
    return distance(found, expected) if form(found) == form(expected) else np.inf


def saved(model: ModelProto, path: Path) -> Path:
    """Write a model, in place of an earlier one; what is large goes beside it."""
    for old in (path, path.with_name(f"{path.name}.data")):
        old.unlink(missing_ok=True)
    large = structure.weight_bytes(model) > _INLINE
    onnx.save_model(model, path, save_as_external_data=large, location=f"{path.name}.data")
    return path


def _leading_to(graph: Graph) -> list[NodeProto]:
    """The nodes that the wrong outputs are computed by, in the order of the graph."""
    wanted, found = {*graph.wrong}, []
    for node in reversed(graph.model.graph.node):
        computes = [name for name in node.output if name and name not in graph.constants]
        if wanted & {*computes}:
            found.append(node)
            wanted |= {*extraction.read(node)}
    return found[::-1]


def _needed(output: str, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Those of some nodes that a value needs."""
    wanted, found = {output}, []
    for node in reversed(nodes):
        if wanted & {*node.output}:
            found.append(node)
            wanted |= {*extraction.read(node)}
    return found[::-1]
