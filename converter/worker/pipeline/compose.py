"""Run the files of several graphs of one model together: load → reference → verify.

Each file was compared with its own part of the model. What is wrong between them shows here:
caches of two layers that are exchanged, positions that are off by one, weights that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from converter.layout.files import sha256
from converter.model.errors import Code, StageError
from converter.model.job import Composed, Job
from converter.model.records import CaseCheck, ErrorRecord, JobResult, OutputCheck, VerifyRecord
from converter.model.spec import Generate
from converter.worker.compare import numerics, vacuity
from converter.worker.compare.numerics import Comparison
from converter.worker.inputs.inputs import Array, draw
from converter.worker.pipeline import onnx_wording, wiring
from converter.worker.pipeline.pipeline import Emit
from converter.worker.pipeline.wiring import Graph, Made
from converter.worker.recording.stages import OnError, Recorder, StageFailedError
from converter.worker.reference import noise as rounding
from converter.worker.reference import preparing
from converter.worker.reference.execution import Runner
from converter.worker.runtime import custom_ops
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors, first_line
from converter.worker.sources import calling, loading
from converter.worker.sources.loading import Loaded

_Floors = dict[tuple[int, int | None], float | None]
_SAMPLES = ("", "second")
_LISTED = 20
_HINT = (
    "each graph is right by itself: look at which output feeds which input, the order of the "
    "caches, and positions (generate.feed)"
)


@dataclass
class Part:
    """A graph in PyTorch and as a file."""

    loaded: Loaded
    run: Runner
    session: Session


@dataclass
class Step:
    """What PyTorch gave in one step.

    Attributes:
        label: names it in the record.
        graph: that ran.
        feeds: its inputs, ``outputs`` what it gave, as it gave them.
        wanted: the outputs that are compared, and their names.
    """

    label: str
    graph: str
    feeds: dict[str, Array]
    outputs: list[Array]
    names: list[str]
    wanted: list[Array]


@dataclass
class _Found:
    """What has been found out so far; it outlives the stage that fails."""

    parts: dict[str, Part] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    before: list[Step] = field(default_factory=list)
    whole: Loaded | None = None
    verify: VerifyRecord = field(default_factory=VerifyRecord)

    def outputs(self) -> dict[str, list[str]]:
        return {name: part.session.outputs for name, part in self.parts.items()}


@custom_ops.loaded
def run(job: Composed, emit: Emit, on_error: OnError | None = None) -> JobResult:
    """Run the graphs together in PyTorch and through their files, and compare the two.

    Returns:
        A result without a file.
    """
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe, on_error)
    found = _Found()
    error: ErrorRecord | None = None
    try:
        _run(job, recorder, found)
    except StageFailedError as failed:
        error = failed.error
    whole = found.whole
    result = JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "oom" if error.code is Code.MEM_LIMIT else "failed",
        error=error,
        stages=recorder.records,
        verify=found.verify,
        device=str(whole.device) if whole else None,
        weights_sha256=whole.weights_sha256 if whole else None,
        conditioned=whole.conditioned if whole else None,
    )
    return onnx_wording.of_result(result, job)


def _run(job: Composed, recorder: Recorder, found: _Found) -> None:
    with recorder.stage("load"):
        found.whole, _ = preparing.load(job)
        found.whole.reading.stop()  # the rows of the graphs have what was read
        _check_weights(job, found.whole)
        found.parts = {name: _part(name, job, found.whole) for name in job.graphs}
    generation: _Generation | None = None
    with recorder.stage("reference"):
        if job.generate is not None:
            generation = _Generation(job.generate, job, found)
            generation.refer()
        else:
            graphs = wiring.of_chain(job.chain, job.graphs, found.outputs())
            found.steps = list(_chain(graphs, found))
        if generation is not None:
            generation.check_moves()
    with recorder.stage("verify"):
        checks: list[CaseCheck] = []
        error: StageError | None = None
        # All steps, since the record shows where it begins to be wrong.
        for check, wrong in generation.files() if generation else _files(job, found):
            checks.append(check)
            error = error or wrong
        said = generation.said() if generation else f"{' → '.join(job.chain)} compared as a whole"
        found.verify = VerifyRecord(
            status="passed" if error is None else "failed",
            reason=said if error is None else error.message,
            cases=checks,
        )
        if error is not None:
            raise error


def _part(name: str, job: Composed, whole: Loaded) -> Part:
    graph, file = job.graphs[name], Path(job.graph_files[name])
    for part, wanted in job.graph_hashes.get(name, {}).items():
        path = file.parent / part
        if not path.is_file() or sha256(path) != wanted:
            message = f"{part} of {graph.name} is not the file that was verified"
            raise StageError(Code.INPUT_CHANGED, message, "nothing may write there during a run")
    loaded = calling.called(replace(whole), graph)
    run = Runner(loaded, graph, lambda text: None)
    return Part(loaded, run, Session(file, threads=job.threads))


def _check_weights(job: Composed, whole: Loaded) -> None:
    """Raise where a graph was exported with other weights than the model has now.

    Raises:
        StageError: NONDETERMINISTIC.
    """
    for name, theirs in job.graph_weights.items():
        if theirs is not None and theirs != whole.weights_sha256:
            raise StageError(
                Code.NONDETERMINISTIC,
                f"{job.graphs[name].name} has other weights than the model when it is built again",
                "the builder draws them differently each time: seed it, or state weights: "
                "{checkpoint: PATH}",
            )


def _call(part: Part, feeds: dict[str, Array], graph: str, label: str) -> list[Array]:
    """The outputs of a file.

    Raises:
        StageError: SESSION.
    """
    try:
        return part.session.run(feeds)
    except RuntimeErrors as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
        message = f"{label}: the file of {graph} does not run: {first_line(error)}"
        hint = f"it was fed {shapes}: are the axes that grow in its dynamic_axes?"
        raise StageError(Code.SESSION, message, hint) from error


def _torch(part: Part, feeds: dict[str, Array], graph: str, label: str) -> list[Array]:
    outputs = part.run(feeds)
    if len(outputs) != len(part.session.outputs):
        message = (
            f"{label}: PyTorch's {graph} gives {len(outputs)} outputs there, its file "
            f"{len(part.session.outputs)}"
        )
        raise StageError(Code.OUTPUT_STRUCTURE, message)
    return outputs


class _Generation:
    """Greedy generation: in PyTorch without a cache, and through the files with it."""

    def __init__(self, generate: Generate, job: Composed, found: _Found) -> None:
        self._generate, self._job, self._found = generate, job, found
        self._graphs = wiring.of_generation(generate, job.graphs, found.outputs())
        first = job.graphs[generate.first]
        self._prompt = draw(generate.token, first.inputs[generate.token], seed=job.seed)
        self._tokens: list[Array] = []
        self._ties = 0
        self._floors: _Floors = {}

    def refer(self) -> None:
        """PyTorch on the whole sequence at every step: wrong caches cannot hide in it."""
        generate, found = self._generate, self._found
        made = Made()
        for name in generate.once:
            part = found.parts[name]
            feeds = self._graphs[name].feeds(made)
            outputs = _torch(part, feeds, name, name)
            made.add(part.session.outputs, outputs)
            found.before.append(Step(name, name, feeds, outputs, [], []))
        part, sequence = found.parts[generate.first], self._prompt
        place = part.session.outputs.index(generate.logits)
        for number in range(1, generate.tokens + 1):
            length = sequence.shape[-1]
            feeds = self._graphs[generate.first].feeds(made, sequence, length)
            label = f"token {number}"
            outputs = _torch(part, feeds, generate.first, label)
            wanted = [_last(outputs[place], sequence)]
            step = Step(label, generate.first, feeds, outputs, [generate.logits], wanted)
            found.steps.append(step)
            self._tokens.append(_greedy(wanted[0]))
            sequence = _with(sequence, self._tokens[-1])

    def check_moves(self) -> None:
        """Raise where all steps give the same: nothing is compared then.

        Raises:
            StageError: VERIFY_VACUOUS.
        """
        first, *others = (step.wanted[0] for step in self._found.steps)
        scale = vacuity.rms(first)
        moves = [vacuity.rms(np.subtract(other, first, dtype=np.float64)) for other in others]
        if others and max(moves) <= numerics.tolerance(0.0) * scale:
            raise StageError(
                Code.VERIFY_VACUOUS,
                f"{self._generate.logits} is the same at all {len(moves) + 1} tokens: the model "
                "does not look at them",
                "give it weights under which its output depends on the tokens",
            )

    def files(self) -> Iterator[tuple[CaseCheck, StageError | None]]:
        """Each step through the files, with PyTorch's tokens fed on."""
        generate, found = self._generate, self._found
        made = Made()
        for name in generate.once:
            part = found.parts[name]
            made.add(part.session.outputs, _call(part, self._graphs[name].feeds(made), name, name))
        once, sequence, new = made.copy(), self._prompt, self._prompt
        for number, step in enumerate(found.steps):
            name = generate.first if number == 0 else generate.then or generate.first
            if generate.then is None:  # without a cache nothing of an earlier step is used
                made, new = once.copy(), sequence
            part = found.parts[name]
            graph = self._graphs[name]
            if number and generate.then:  # its caches are filled by now
                graph = replace(graph, cached=frozenset())
            feeds = graph.feeds(made, new, sequence.shape[-1])
            outputs = _call(part, feeds, name, step.label)
            made.add(part.session.outputs, outputs)
            got = _last(outputs[part.session.outputs.index(generate.logits)], new)
            yield self._judged(number, step, name, feeds, got)
            new = self._tokens[number][..., None]
            sequence = _with(sequence, self._tokens[number])

    def _judged(
        self, number: int, step: Step, graph: str, feeds: dict[str, Array], got: Array
    ) -> tuple[CaseCheck, StageError | None]:
        (wanted,) = step.wanted
        compared = _compared(self._job, self._found, step, wanted, got, step.names[0], self._floors)
        case = _case(step.label, feeds, self._found.parts[graph], [compared.check])
        same = got.shape == wanted.shape and np.array_equal(_greedy(got), self._tokens[number])
        if compared.code is None:
            # Within the bounds the two best are nearer than rounding can tell.
            self._ties += not same
            return case, None
        tokens = ""
        if got.shape == wanted.shape and not same:
            tokens = f"{_text(_greedy(got))}, PyTorch gives {_text(self._tokens[number])}; "
        message = f"{step.label} ({graph}): {tokens}{compared.reason}"
        return case, StageError(compared.code, message, _HINT)

    def said(self) -> str:
        """What was compared, for the record of files that are right."""
        tokens = [_text(token) for token in self._tokens]
        listed = " ".join(tokens[:_LISTED]) + (" …" if len(tokens) > _LISTED else "")
        return (
            f"tokens compared: {len(tokens)} ({len({*tokens})} different), ties: {self._ties}; "
            f"PyTorch without a cache gives {listed}"
        )


def _last(logits: Array, tokens: Array) -> Array:
    """The logits of the last token, of all or of that one alone."""
    return logits[..., -1, :] if logits.ndim > tokens.ndim else logits


def _greedy(logits: Array) -> Array:
    return np.asarray(logits.argmax(axis=-1))


def _with(sequence: Array, token: Array) -> Array:
    return np.concatenate([sequence, token[..., None].astype(sequence.dtype)], axis=-1)


def _text(token: Array) -> str:
    return "/".join(str(int(each)) for each in np.ravel(token))


def _chain(graphs: Sequence[Graph], found: _Found) -> Iterator[Step]:
    """PyTorch's own chain, of two samples."""
    for sample, word in enumerate(_SAMPLES):
        made = Made()
        for graph in graphs:
            part, label = found.parts[graph.name], f"{graph.name} {word}".strip()
            feeds = graph.feeds(made, sample=sample)
            outputs = _torch(part, feeds, graph.name, label)
            made.add(part.session.outputs, outputs)
            yield Step(label, graph.name, feeds, outputs, part.session.outputs, outputs)


def _files(job: Composed, found: _Found) -> Iterator[tuple[CaseCheck, StageError | None]]:
    graphs = {g.name: g for g in wiring.of_chain(job.chain, job.graphs, found.outputs())}
    made = Made()
    for number, step in enumerate(found.steps):
        sample, place = divmod(number, len(graphs))
        if place == 0:
            made, found.before = Made(), []
        part = found.parts[step.graph]
        feeds = graphs[step.graph].feeds(made, sample=sample)
        outputs = _call(part, feeds, step.graph, step.label)
        made.add(part.session.outputs, outputs)
        floors: _Floors = {}
        compared = [
            _compared(job, found, step, want, got, name, floors)
            for name, want, got in zip(step.names, step.wanted, outputs, strict=True)
        ]
        found.before.append(step)
        wrong = next((one for one in compared if one.code is not None), None)
        case = _case(step.label, feeds, part, [one.check for one in compared])
        error = None
        if wrong is not None and wrong.code is not None:
            error = StageError(wrong.code, f"{step.label}: {wrong.reason}", _HINT)
        yield case, error


def _case(label: str, feeds: dict[str, Array], part: Part, outputs: list[OutputCheck]) -> CaseCheck:
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    return CaseCheck(label=label, shapes=shapes, provider=part.session.provider, outputs=outputs)


def _compared(
    job: Job,
    found: _Found,
    step: Step,
    want: Array,
    got: Array,
    name: str,
    floors: _Floors,
) -> Comparison:
    """By the tightest bound; where it fails, by what the rounding of all graphs so far asks for.

    Args:
        floors: of steps that were measured already, by their identity.
    """
    rtol, atol = job.verify.rtol, job.verify.atol
    compared = numerics.compare(name, want, got, rtol=rtol, atol=atol, floor=0.0)
    if compared.code is not Code.VERIFY_VALUE:
        return compared
    place = found.parts[step.graph].session.outputs.index(name)
    steps = [(each, None) for each in found.before] + [(step, place)]
    floor = 0.0
    for each, output in steps:
        key = id(each), output
        if key not in floors:
            floors[key] = _floor(found, each, output)
        measured = floors[key]
        # What a graph rounds goes through the others: the sum is what all of them may show.
        floor += numerics.BOUNDS["float32"].unknown if measured is None else measured
    return numerics.compare(name, want, got, rtol=rtol, atol=atol, floor=floor)


def _floor(found: _Found, step: Step, output: int | None) -> float | None:
    """How far PyTorch's own rounding moves an output of a step, or all of its outputs."""
    part = found.parts[step.graph]
    measured = rounding.measure(part.run, part.loaded, step.feeds, step.outputs, {}, exact=True)
    if output is not None:
        return measured.floors[output]
    known = [floor for floor in measured.floors if floor is not None]
    return max(known, default=None)
