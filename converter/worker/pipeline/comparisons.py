"""What the values of a wrong file are held against, and what that says: one class for each kind.

Which it is follows from where the file is right. Wrong without ONNX Runtime's optimisations too, it
is the file: PyTorch's own values say where, or those of the graph that the simplifier was given.
Right without them, it is the optimisations; right on the CPU, it is the other runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import onnx
import torch
from onnx import ModelProto, NodeProto

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.debug import bodies, cutting, eager, extraction, inside, search, ways
from converter.worker.debug.cutting import Piece, off
from converter.worker.debug.minimal import TOGETHER
from converter.worker.debug.scripts import AGAINST_DATA, Script
from converter.worker.debug.search import Guilty
from converter.worker.debug.values import USUAL, Known, Value, distance, form
from converter.worker.debug.ways import OnProvider, Optimised, Way
from converter.worker.inputs.inputs import Array
from converter.worker.reference.reference import Reference
from converter.worker.runtime import running
from converter.worker.runtime.starting import RuntimeErrors, first_line
from converter.worker.sources.loading import Loaded

# Two kernels for one operator add up in another order.
_OTHER_KERNELS = 1e-5


@dataclass(frozen=True)
class File:
    """A wrong file, and a case that shows it.

    Attributes:
        feeds: of the case, and values of parameters that are inputs.
        folder: for files on the way.
    """

    path: Path
    job: Job
    case: Reference
    feeds: Mapping[str, Array]
    folder: Path


@dataclass(frozen=True)
class Searched:
    """What was found.

    Attributes:
        values: of all names, inputs too.
        words: what was held against what: ``file against PyTorch``.
        against: the computation that is right, with its version.
        together: what stands above the other nodes of the block; ``None``: they are not told.
    """

    model: ModelProto
    guilty: Guilty
    values: dict[str, Array]
    constants: set[str]
    words: str
    against: str
    left_out: int = 0
    together: str | None = TOGETHER
    script: Script | None = AGAINST_DATA
    notes: Sequence[str] = field(default_factory=list)


class Comparison(Protocol):
    """A kind of comparison."""

    def search(self, file: File) -> Searched:
        """Where the file begins to differ.

        Raises:
            StageError: VERIFY_VALUE, where no node does by itself; SESSION.
        """


@dataclass(frozen=True)
class AgainstTorch:
    """A file whose nodes do not give what PyTorch's operators give."""

    loaded: Loaded

    def search(self, file: File) -> Searched:
        words, against = (
            "file against PyTorch",
            f"PyTorch {torch.__version__}, operator by operator",
        )
        graph = _Values(file)
        if graph.stopped is not None:
            return graph.stop(graph.stopped, words, against)
        recording = eager.record(self.loaded, file.job, file.case.inputs)
        guilty = graph.judged(recording.values, file.case.outputs)
        found = graph.searched(guilty, words, against, left_out=recording.left_out)
        return deeper(found, recording.values, file.folder)


@dataclass(frozen=True)
class AgainstGraph:
    """A simplified file whose nodes do not give what those before gave.

    Attributes:
        before: the file that the simplifier was given.
        simplifier: its name.
    """

    before: Path
    simplifier: str

    def search(self, file: File) -> Searched:
        words = "simplified against not simplified"
        against = f"the graph before {self.simplifier}"
        graph = _Values(file)
        if graph.stopped is not None:
            return graph.stop(graph.stopped, words, against)
        other = onnx.load(self.before)
        right = inside.values(other, file.feeds, file.folder, threads=file.job.threads)
        floats = [(name, array) for name, array in right.items() if array.dtype.kind == "f"]
        known = [Value(number, name, "", array) for number, (name, array) in enumerate(floats)]
        guilty = graph.judged(known, [right[info.name] for info in other.graph.output])
        return graph.searched(guilty, words, against)


class AgainstUnoptimised:
    """A file that ONNX Runtime's optimisations make wrong."""

    def search(self, file: File) -> Searched:
        graph = _Values(file)
        way, wrong, bound = _level(graph, file)
        piece = _cut(graph, way, wrong, bound, file)
        level = way.level.removeprefix("ORT_ENABLE_").lower()
        words = f"optimised against not (wrong from the level {level} on)"
        what = "the same nodes without optimisations"
        guilty = _of_piece(graph, piece, what)
        node, notes = _optimised(graph, piece, way, bound, file.folder)
        if node is not None:
            guilty = Guilty(**{**vars(guilty), "node": node})
        return graph.searched(
            guilty,
            words,
            f"{running.versions('cpu')} without graph optimisations",
            together="It stands for these nodes of the file:" if node is not None else TOGETHER,
            script=way.script(),
            notes=notes,
        )


@dataclass(frozen=True)
class AgainstCpu:
    """A file that a provider gets wrong, and ONNX Runtime's CPU does not."""

    provider: str

    def search(self, file: File) -> Searched:
        graph = _Values(file)
        way = OnProvider(self.provider, file.job.provider_options, file.job.threads)
        errors = _errors(graph, way, file)
        bound = _bound(errors)
        wrong = [name for name, error in errors.items() if error > bound]
        piece = _cut(graph, way, wrong, bound, file)
        version = running.versions(self.provider, file.job.provider_options)
        return graph.searched(
            _of_piece(graph, piece, "the same nodes on ONNX Runtime's CPU", self.provider),
            f"provider against CPU ({self.provider}, {version})",
            f"{running.versions('cpu')} on the CPU, without graph optimisations",
            together="It is wrong together with these, and right with fewer of them:",
            script=way.script(),
        )


class _Values:
    """The graph of a file, and what each of its nodes gives without optimisations.

    Attributes:
        stopped: ONNX Runtime stops in it.
    """

    def __init__(self, file: File) -> None:
        self.model = onnx.load(file.path)
        self.feeds = dict(file.feeds)
        self.constants = inside.constants(self.model)
        self.found: dict[str, Array] = {}
        self.stopped: inside.StoppedError | None = None
        try:
            self.found = inside.values(
                self.model, self.feeds, file.folder, threads=file.job.threads
            )
        except inside.StoppedError as stopped:
            if stopped.node is None:
                raise StageError(Code.SESSION, str(stopped)) from stopped
            self.stopped = stopped

    @property
    def all(self) -> dict[str, Array]:
        return {**self.feeds, **self.found}

    def judged(self, known: list[Value], outputs: Sequence[Array]) -> Guilty:
        return judge(self.model, self.found, self.constants | {*self.feeds}, known, outputs)

    def searched(self, guilty: Guilty, words: str, against: str, **others: Any) -> Searched:
        return Searched(self.model, guilty, self.all, self.constants, words, against, **others)

    def stop(self, stopped: inside.StoppedError, words: str, against: str) -> Searched:
        node = stopped.node
        assert node is not None, "else there is nothing to tell"
        guilty = Guilty(node, [node], "", None, float("inf"), 0.0, stops=str(stopped))
        return self.searched(guilty, words, against)


def judge(
    model: ModelProto,
    found: Mapping[str, Array],
    given: set[str],
    known: list[Value],
    outputs: Sequence[Array],
) -> Guilty:
    """The first node whose value the other computation does not have.

    Args:
        found: what each node gives.
        given: inputs and constants: right by themselves.
        known: the values of the other computation, ``outputs`` its outputs.

    Raises:
        StageError: VERIFY_VALUE, where no node makes the outputs that are wrong.
    """
    wanted = {info.name: array for info, array in zip(model.graph.output, outputs, strict=True)}
    errors = {name: distance(found[name], array) for name, array in wanted.items()}
    bound = search.tolerance([*errors.values()], USUAL)
    wrong = [name for name, error in errors.items() if error > bound]
    # Where numbers are wrong, shapes follow: they alone are looked at where no number is.
    formed = [name for name, array in wanted.items() if form(found[name]) != form(array)]
    guilty = search.guilty(
        model.graph, found, given, Known(known, bound), wrong or formed, by_form=not wrong
    )
    if guilty is None:
        raise _nobody(wrong or formed)
    return guilty


def deeper(found: Searched, known: list[Value], folder: Path) -> Searched:
    """What was found, within the If, Loop or Scan that it is, where a node there shows it."""
    node = found.guilty.node
    if node.op_type not in bodies.OPS:
        return found
    try:
        # What is wrong within a turn may be small beside what many turns make of it.
        inner = bodies.within(found.model, node, found.values, Known(known, USUAL), folder)
    except (StageError, inside.StoppedError) as error:
        return replace(found, notes=[f"Its body does not run by itself: {error}"])
    if inner is None:
        said = "All that its body gives is right in each turn: the number of turns, or the branch"
        return replace(found, notes=[f"{said} that is taken, may be what is wrong."])
    return replace(
        found,
        model=inner.model,
        guilty=inner.guilty,
        values=inner.values,
        constants=inside.constants(inner.model),
        notes=[f"It stands in {inner.where}; the model that shows it has the body's nodes alone."],
    )


def _nobody(wrong: Sequence[str]) -> StageError:
    return StageError(
        Code.VERIFY_VALUE,
        f"no node makes the outputs that are wrong ({', '.join(wrong) or 'none here'})",
        "an output that is an input or a constant of the graph, or an error that is no greater "
        "than rounding, has no node to be blamed",
    )


def _errors(graph: _Values, way: Way, file: File) -> dict[str, float]:
    """How far each output of the whole file is off; of a way that refuses it infinitely."""
    names = [info.name for info in graph.model.graph.output]
    try:
        got = way.run(file.path, graph.feeds)
    except StageError as refused:
        if refused.code is not Code.SESSION:
            raise
        return dict.fromkeys(names, float("inf"))
    except RuntimeErrors:
        return dict.fromkeys(names, float("inf"))
    return {name: off(got[name], graph.found[name]) for name in names}


def _bound(errors: Mapping[str, float]) -> float:
    """The error of a piece that is one, where the outputs of the whole file are off by these."""
    return max(_OTHER_KERNELS, search.tolerance([*errors.values()], USUAL))


def _level(graph: _Values, file: File) -> tuple[Optimised, list[str], float]:
    """The first level at which the file is wrong, with its wrong outputs and what is an error.

    Raises:
        StageError: VERIFY_VALUE, where it is at none.
    """
    for way in ways.levels():
        errors = _errors(graph, way, file)
        bound = _bound(errors)
        wrong = [name for name, error in errors.items() if error > bound]
        # Optimisations round otherwise: as much as that is no error of the level.
        if max(errors.values(), default=0.0) > USUAL:
            return way, wrong, bound
    raise _nobody([])


def _cut(graph: _Values, way: Way, wrong: Sequence[str], bound: float, file: File) -> Piece:
    if not wrong:
        raise _nobody(wrong)
    whole = cutting.Graph(graph.model, graph.all, graph.constants, wrong)
    piece = cutting.smallest(whole, way, bound, file.folder)
    if piece is None:
        raise StageError(
            Code.VERIFY_VALUE,
            "the file is wrong as a whole, and no part of it is",
            "the parts have the shapes of the sample: what a dynamic axis does is not seen in them",
        )
    return piece


def _of_piece(
    graph: _Values, piece: Piece, what: str, runtime: str = "ONNX Runtime, optimised,"
) -> Guilty:
    return Guilty(
        piece.nodes[-1],
        piece.nodes,
        piece.output,
        Value(0, what, "", graph.all[piece.output]),
        piece.error,
        0.0,
        stops=piece.stops,
        runtime=runtime,
    )


def _optimised(
    graph: _Values, piece: Piece, way: Optimised, bound: float, folder: Path
) -> tuple[NodeProto | None, list[str]]:
    """The node that ONNX Runtime has in place of some, and what else it has there."""
    small, fed = extraction.extracted(
        graph.model, piece.nodes, [piece.output], graph.all, graph.constants
    )
    feeds = {name: graph.all[name] for name in fed}
    path = cutting.saved(small, folder / "piece.onnx")
    saved = folder / "optimised.onnx"
    try:
        way.run(path, feeds, saved)
    except (StageError, *RuntimeErrors) as error:
        why = str(error) if isinstance(error, StageError) else first_line(error)
        return None, [f"The optimised graph does not run by itself: {why}"]
    made = onnx.load(saved)
    before = set(map(_said, piece.nodes))
    new = [node for node in made.graph.node if _said(node) not in before]
    if not new:
        kept = "the same nodes" if made.graph.node else "a constant"
        return None, [f"ONNX Runtime has {kept} in place of these nodes."]
    try:
        values = inside.values(made, feeds, folder)
    # What fits this processor alone may not be loaded again.
    except (StageError, inside.StoppedError):
        values = {}
    right = graph.all
    for node in new:
        named = [name for name in node.output if name in values and name in right]
        if any(off(values[name], right[name]) > bound for name in named):
            return node, _others(new, node)
    return new[-1], _others(new, new[-1])


def _said(node: NodeProto) -> tuple[str, ...]:
    # Without attributes: ONNX Runtime writes out those that have a default.
    return (node.op_type, *node.input, *node.output)


def _others(new: Sequence[NodeProto], node: NodeProto) -> list[str]:
    names = ", ".join(f"{other.op_type}" for other in new if other is not node)
    return [f"Beside it, ONNX Runtime has {names} in their place."] if names else []
