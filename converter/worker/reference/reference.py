"""Reference outputs: what the PyTorch model computes, before any exporter has touched it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch.nn import Module

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import Sensitivity
from converter.worker.compare import detections, numerics, vacuity
from converter.worker.compare.numerics import Bounds, Noise
from converter.worker.inputs import cases, dtypes
from converter.worker.inputs.cases import SECOND, TRACED, Case, Sample
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import REDUCED
from converter.worker.onnxfile import output_axes
from converter.worker.recording import coverage
from converter.worker.recording.coverage import Ways
from converter.worker.reference import (
    budget,
    conditioning,
    exploration,
    naming,
    ranges,
    sizes,
    training,
)
from converter.worker.reference import noise as rounding
from converter.worker.reference.budget import Work
from converter.worker.reference.execution import REFUSALS, Path, Runner
from converter.worker.reference.exploration import Explored
from converter.worker.runtime.starting import first_line
from converter.worker.sources.loading import Loaded
from converter.worker.sources.onnx_source import OnnxFile


@dataclass
class Reference:
    """One case with its inputs and the model's outputs, in the order of ``forward``.

    Attributes:
        ways: which way the conditions of the model's code went.
        noise: what the model's own rounding makes of the outputs, once it was measured.
        exact: it was measured with all that rounds.
    """

    case: Case
    inputs: dict[str, Array]
    outputs: list[Array]
    ways: Ways = field(default_factory=Ways)
    noise: Noise | None = None
    exact: bool = False

    @property
    def blind(self) -> bool:
        """Whether both ways of a condition may give the same: an input is zeros, times anything."""
        zeros = [self.inputs[name] for name in self.case.filled if not self.inputs[name].any()]
        # A zero id or a closed mask is a value like others, unless nothing comes out of it.
        floats = any(dtypes.is_float(array) for array in zeros)
        return floats or (bool(zeros) and not any(output.any() for output in self.outputs))


@dataclass
class References:
    """All cases of a job.

    Attributes:
        names: of the outputs; their numbers where the configuration gives none.
        rerun: runs a case once more, on a replica of the model that has run nothing else.
        measure: measures the rounding of the model on one case in a precision, which takes as long
            as running it twice, or with all that rounds (``exact``) several times.
        detections: the outputs that list detections, by what they hold.
        sensitivity: how the outputs answer to the input.
        disabled_dropout: dropout modules of a model in training mode, run with ratio zero, by name.
        dropped: the ratio of each of their calls in the traced example.
        vacuous: why a comparison would prove nothing, or ``None``.
        unproven: what all cases have in common, so that they cannot tell: a sentence each.
        warnings: what the model did to its inputs or its state.
        explored: what the search for cases refused, dropped and left out.
        settled: what a job is, of its own fields, once the rules of its sizes were found.
        conditioned: the model's random weights were fitted to inputs of the declared scale.
        precision: in which the file computes that is judged (a key of ``numerics.BOUNDS``); to be
            set before any rounding is measured (``in_precision``).
        loosest: the relative L2 error that is allowed at most, where it is less than that of the
            precision.
        keeps_io: inputs and outputs of that file are float32; else they may be of its precision.
        further: samples with what the float32 file gives, once they were asked for.
    """

    cases: list[Reference] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    # References that were read from a file have no model to run: they repeat what they hold.
    rerun: Callable[[Reference], list[Array]] = lambda item: item.outputs
    measure: Callable[[Reference, bool, str], Noise] = lambda item, exact, precision: Noise.none(
        len(item.outputs), numerics.BOUNDS[precision]
    )
    detections: dict[str, int] = field(default_factory=dict)
    sensitivity: Sensitivity | None = None
    disabled_dropout: dict[str, float] = field(default_factory=dict)
    dropped: list[float] = field(default_factory=list)
    vacuous: StageError | None = None
    unproven: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    explored: Explored = field(default_factory=Explored)
    settled: dict[str, Any] = field(default_factory=dict)
    conditioned: bool = False
    precision: str = "float32"
    loosest: float = math.inf
    keeps_io: bool = True
    further: list[Reference] | None = None

    def in_precision(self, precision: str, *, keeps_io: bool = True) -> References:
        """The same cases, for a file that computes in another precision.

        What was measured belongs to the precision, and stays with these.
        """
        cases = [replace(item, noise=None, exact=False) for item in self.cases]
        return replace(self, cases=cases, precision=precision, keeps_io=keeps_io)

    @property
    def bounds(self) -> Bounds:
        found = numerics.bounds_of(self.precision, conditioned=self.conditioned)
        return replace(found, loosest=self.loosest) if self.loosest < found.loosest else found

    def within(self, loosest: float) -> References:
        """The same, for a file that may be off by no more than that share of an output."""
        found = replace(self, loosest=loosest)
        found.cases = [
            replace(item, noise=replace(item.noise, bounds=found.bounds)) if item.noise else item
            for item in self.cases
        ]
        return found

    def feeds(self, item: Reference) -> dict[str, Array]:
        """What the file is given in a case: float32 in its precision where it keeps none."""
        return self._inputs(item) if not self.keeps_io else dict(item.inputs)

    def of_job(self, job: Job) -> Job:
        """The job with the rules of sizes that were found, and without axes that PyTorch fixes."""
        return job.model_copy(update=self.settled)

    @property
    def declared(self) -> list[Reference]:
        """The cases with the dtypes that the file's interface has."""
        if self.keeps_io:
            return self.cases
        return [
            replace(item, inputs=self._inputs(item), outputs=[*map(self._brought, item.outputs)])
            for item in self.cases
        ]

    def _inputs(self, item: Reference) -> dict[str, Array]:
        return {name: self._brought(array) for name, array in item.inputs.items()}

    def _brought(self, array: Array) -> Array:
        kind = REDUCED.get(self.precision)
        if kind is None or array.dtype != np.float32:
            return array
        # What it cannot hold is infinite for the file as well.
        with np.errstate(over="ignore"):
            return array.astype(kind.dtype)

    @property
    def outputs(self) -> list[list[Array]]:
        """PyTorch's outputs in each case."""
        return [item.outputs for item in self.cases]

    @property
    def noise(self) -> Noise:
        """The largest rounding of the stated cases."""
        return rounding.worst([self.noise_of(item) for item in self.cases if item.case.stated])

    def noise_of(self, item: Reference, *, exact: bool = True) -> Noise:
        """The rounding of one case; measured when it is asked for first.

        Args:
            exact: all of it; else less may do, and takes less time.
        """
        # Of 16 bits one measurement has all.
        exact = exact and self.precision == "float32"
        if item.noise is None or (exact and not item.exact):
            noise = self.measure(item, exact, self.precision)
            # Those of the precision alone: what was measured does not know whose weights they are.
            noise = replace(noise, bounds=self.bounds)
            if item.noise is not None:  # which detections come and go was looked for already
                noise = replace(noise, edge=item.noise.edge)
            item.exact = exact
            # Equal elements are rounded alike by the file, and random rounding averages that away.
            noise = noise.times(self.bounds.coherent) if item.case.ties else noise
            # Of values that look alike one draw may by chance round less than another would.
            least = self.bounds.unknown if item.case.filled else 0.0
            item.noise = noise.at_least(least)
        return item.noise

    @property
    def known_noise(self) -> Noise | None:
        """The largest rounding of the stated cases that were measured; ``None``: none was.

        Which detections come and go is another matter in each case.
        """
        known = [item.noise for item in self.cases if item.case.stated and item.noise is not None]
        if not known:
            return None
        worst = rounding.worst(known)
        return Noise(worst.floors, worst.parts, bounds=worst.bounds)

    def add_warning(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def compute(loaded: Loaded, job: Job, limits: Iterable[float] = ()) -> References:
    """Run the model on every case.

    Args:
        limits: numbers on both sides of which a file that is to be judged may differ.

    Raises:
        StageError: FORWARD (with the model's exception), OUTPUT_STRUCTURE, NONDETERMINISTIC,
            STATE_MUTATED, or DIM_SPECIALISED when the model itself accepts no other size of a
            dynamic axis.
    """
    # Without parameters nothing was fitted to a scale.
    parameters = isinstance(loaded.model, Module) and any(True for _ in loaded.model.parameters())
    found = References(conditioned=loaded.conditioned and parameters)
    run = Runner(loaded, job, found.add_warning)
    random = job.training == "train"
    # Around all cases, and ended before the noise is measured: the exporter needs the own ratios.
    with training.dropout_disabled(run.model, random) as found.disabled_dropout:
        _run_cases(found, run, loaded, job, limits)

    def measure(item: Reference, exact: bool, precision: str) -> Noise:
        # By now the dropout ratios are the model's own again.
        case, members = (item.inputs, item.outputs), found.detections
        with training.dropout_disabled(run.model, random):
            return rounding.measure(run, loaded, *case, members, exact=exact, precision=precision)

    def rerun(item: Reference) -> list[Array]:
        with training.dropout_disabled(run.model, random):
            return run(item.inputs)

    found.measure, found.rerun = measure, rerun
    return found


def check_state(found: References, item: Reference) -> None:
    """Raise where what PyTorch gave in a case was made by the cases before it.

    Raises:
        StageError: STATE_MUTATED.
    """
    different = _different(found.names, item.outputs, found.rerun(item))
    if different is not None:
        raise _keeps_state(different)


def _of_input(error: StageError | None, items: Sequence[Reference]) -> StageError | None:
    """The error with the input that is not finite itself, where one is."""
    if error is None or error.code is not Code.VERIFY_NONFINITE:
        return error
    for item in items:
        for name, array in item.inputs.items():
            if dtypes.is_float(array) and not vacuity.finite(array):
                said = f"{error.message}: input {name} of '{item.case.label}' holds such itself"
                return StageError(error.code, said, error.hint)
    return error


def _run_cases(
    found: References, run: Runner, loaded: Loaded, job: Job, limits: Iterable[float]
) -> None:
    watch = exploration.watches(run.model)
    _run_stated(found, run, job, loaded.samples, watch=watch)
    first = found.cases[0]
    found.names = names = _output_names(job, run.paths, len(first.outputs))
    alike = [item.outputs for item in found.cases if item.case.shapes == first.case.shapes]
    # Weights change with the statistics, so that what has run so far is void.
    # Not where a part of the model runs: all graphs have the weights that fit the first of them.
    if job.call is None and job.first is None and conditioning.unsteady(loaded, alike):
        conditioning.prepare(loaded, job, conditioning.SEVERAL)
        _run_stated(found, run, job, loaded.samples, watch=watch)
        first = found.cases[0]
        alike = [item.outputs for item in found.cases if item.case.shapes == first.case.shapes]
    constant = {index for index, name in enumerate(names) if name in job.constant_outputs}
    found.sensitivity, vacuous = vacuity.judge(names, alike, constant)
    found.vacuous = conditioning.advised(_of_input(vacuous, found.cases), job)
    if found.vacuous is None:
        found.detections = detections.places(names, first.outputs)
    work = run.work
    # Its operators run in ONNX Runtime, where no dispatch mode counts them.
    if isinstance(loaded.model, OnnxFile):
        work = budget.of_file(loaded.model, first.inputs)
    elif not work.operators:  # no second sample
        with _counted(run):
            # The repeat is due anyway, and counts as well as a call of its own would.
            _check_repeats(names, first, run)
    # Before other sizes are tried, at which pinned inputs change as well.
    if found.vacuous is None:
        _look_for_what_never_changes(found, names, constant)
    if found.vacuous is None:
        # Limits of the file that is judged, and numbers that operators were seen to cut with.
        job = _explore(found, run, loaded, job, work, [*limits, *work.limits], watch=watch)
    found.explored.left_out += [*cases.left_out(job), *loaded.left_out]
    second = next((item for item in found.cases if item.case.label == SECOND), None)
    if cases.symbols(job) and second is not None:  # the last call may have been of another size
        run(second.inputs, used=True)
    _check_repeats(names, first, run)  # last: nothing may have stayed behind


def _run_stated(
    found: References, run: Runner, job: Job, real: Sequence[Sample], *, watch: bool
) -> None:
    """The traced example, the second sample, the user's own cases and real samples."""
    # It may be the second time, with other statistics in the model.
    found.cases.clear()
    for case in [*cases.fixed(job), *cases.of_data(job, real)]:
        inputs = case.draw(job.seed)
        # The hooks see the calls of this case, so that the ratios are those of the traced example.
        with ExitStack() as around:
            ratios = around.enter_context(training.called(run.model, found.disabled_dropout))
            # Not the first call: counting puts frames of torch between an error and the model.
            if case.label == SECOND and not run.work.operators:
                around.enter_context(_counted(run))
            ways = Ways()
            # Only forward is watched: under the tracer a copy of the model took four times as long.
            around.enter_context(_named(case))
            outputs = run(inputs, within=coverage.watching(ways) if watch else nullcontext())
        found.cases.append(Reference(case, inputs, outputs, ways))
        if case.label == TRACED:
            found.dropped = list(ratios)  # the replica that is used again keeps its hooks


@contextmanager
def _named(case: Case) -> Iterator[None]:
    """Within it a real sample that PyTorch refuses is named: there may be many."""
    try:
        yield
    except REFUSALS as error:
        if case.real is None:
            raise
        raise StageError(
            Code.FORWARD,
            f"{case}: PyTorch refuses this sample: {first_line(error)}",
            "Take it out of `data`, or correct it; its log has the traceback.",
        ) from error
    except StageError as error:
        # An ONNX source words its refusal itself.
        if case.real is None:
            raise
        raise StageError(error.code, f"{case}: {error.message}", error.hint) from error


@contextmanager
def _counted(run: Runner) -> Iterator[None]:
    run.counts = True
    try:
        yield
    finally:
        run.counts = False


def _explore(
    found: References,
    run: Runner,
    loaded: Loaded,
    job: Job,
    work: Work,
    limits: Iterable[float],
    *,
    watch: bool,
) -> Job:
    """Other sizes and other values; gives the job with the rules of its sizes that were found."""
    explored = found.explored
    # The search starts from the stated cases, so that it tries none of them again.
    explored.kept = [(item.case, item.inputs, item.outputs) for item in found.cases]
    explored.ways = [item.ways for item in found.cases]
    count = len(explored.kept)
    ordered = detections.ranked(found.detections, found.cases[0].outputs)
    # Before the budget is spent: two other sizes of each symbol are tried whatever it is.
    search = exploration.Exploration(run, job, explored, watch=watch, ordered=ordered)
    passes = budget.passes(job, loaded.model, work)
    refused = search.ends_of_rules(work)
    search.other_sizes()
    found.unproven += sizes.find(search, explored, passes)
    sizes.check_ends(search.job, refused)
    _check_sizes(found, loaded, search.job, [case for case, _, _ in explored.kept[count:]])
    if len(explored.kept) > count:  # before other cases cover what these have left
        _check_repeats(found.names, found.cases[0], run)
    search.search(passes, work, limits)
    # Last, since it takes as long as a small export and is asked for where conditions stay open.
    search.turn(lambda: ranges.ends(loaded, search.job, found.cases[0].inputs))
    # Again: a limit of sizes shows where larger ones were tried.
    found.unproven += sizes.find(search, explored, passes)
    job = search.job
    found.settled = {key: getattr(job, key) for key in ("dims", "assumed", "dynamic_axes")}
    found.unproven += sizes.notes(job, explored)
    found.cases += [
        Reference(*kept, ways=ways)
        for kept, ways in zip(explored.kept[count:], explored.ways[count:], strict=True)
    ]
    if loaded.kind != "onnx":  # whose axes are those of the file, and stay
        for note in output_axes.unmoved(job, found.outputs):
            found.add_warning(note)
        output_axes.check_claims(job, found.cases)
    return job


def _look_for_what_never_changes(found: References, names: list[str], constant: set[int]) -> None:
    """Inputs that are pinned (``fill`` constant or file), whole numbers that stay the same."""
    first, *others = found.cases
    pinned = [name for name in first.inputs if _same([case.inputs[name] for case in found.cases])]
    if pinned and not others:
        found.vacuous = StageError(
            Code.VERIFY_VACUOUS,
            f"only one input was tried ({', '.join(pinned)}: fill constant or file): a value or a "
            "branch that the export has frozen would not show",
            "state other values in verify.cases, or let one input vary (fill)",
        )
    if pinned:
        listed = ", ".join(pinned)
        found.unproven.append(f"{listed} is the same in every case: its effect is not measured")
    still = [
        name
        for index, name in enumerate(names)
        # Floats that stay are VERIFY_VACUOUS; whole numbers may stay by right and are named.
        if not dtypes.is_float(first.outputs[index]) and others and index not in constant
        if _same([case.outputs[index] for case in found.cases])
    ]
    if still:
        listed = ", ".join(still)
        found.unproven.append(
            f"output {listed} is the same in every case: it is not measured to follow the input"
        )


def _same(arrays: list[Array]) -> bool:
    return all(np.array_equal(arrays[0], other) for other in arrays[1:])


def _output_names(job: Job, paths: list[Path], count: int) -> list[str]:
    if not job.outputs:
        return naming.of_outputs(paths, job.inputs) or [f"#{index}" for index in range(count)]
    if len(job.outputs) != count:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"outputs names {len(job.outputs)} ({', '.join(job.outputs)}), "
            f"forward returns {count} tensor{'s' * (count != 1)}",
            "name each output once",
        )
    return job.outputs


def _check_repeats(names: list[str], first: Reference, run: Runner) -> None:
    """Raise when the model does not agree with itself on the same inputs.

    Raises:
        StageError: NONDETERMINISTIC, or STATE_MUTATED where only earlier calls make a difference.
    """
    # Another draw, or a random operator that is seeded alike would repeat itself.
    different = _different(names, first.outputs, run(first.inputs, draw=1, used=True))
    if different is None:
        return
    # The draw of the call above, on a fresh replica: where it agrees, nothing random is at work.
    if _different(names, first.outputs, run(first.inputs, draw=1)) is None:
        raise _keeps_state(different)
    raise StageError(
        Code.NONDETERMINISTIC,
        f"PyTorch gives another {different} when it runs twice on the same input",
        "a random operator is active (dropout without training=self.training? In training mode "
        "nn.MultiheadAttention and nn.LSTM drop by themselves: dropout=0): remove it",
    )


def _keeps_state(output: str) -> StageError:
    return StageError(
        Code.STATE_MUTATED,
        f"PyTorch gives another {output} for the same input after it has run before: "
        "forward keeps something from call to call, and a file cannot",
        "make the state an input and an output of the model",
    )


def _different(names: list[str], one: list[Array], other: list[Array]) -> str | None:
    """The first output that is not the same twice, or ``None``."""
    for name, left, right in zip(names, one, other, strict=True):
        if left.dtype.kind == "O":  # strings
            same = np.array_equal(left, right)
        else:
            if dtypes.is_narrow(left):  # of which NumPy knows no tolerance
                left, right = left.astype(np.float32), right.astype(np.float32)
            same = left.shape == right.shape and np.allclose(
                left, right, rtol=1e-4, atol=1e-6, equal_nan=True
            )
        if not same:
            return name
    return None


def _check_sizes(found: References, loaded: Loaded, job: Job, kept: list[Case]) -> None:
    """Raise where a symbol can take no other size; say where it can take one only.

    Raises:
        StageError: DIM_SPECIALISED.
    """
    for symbol in cases.symbols(job):
        sizes = {case.sizes[symbol] for case in kept if symbol in case.sizes}
        refused = found.explored.refused.get(symbol, {})
        why = next(iter(refused.values()), "its outputs are empty or not finite there")
        if not sizes:
            raise _no_other_size(symbol, why, loaded)
        if len(sizes) < exploration.OTHER_SIZES:
            listed = ", ".join(map(str, sorted(sizes)))
            found.unproven.append(
                f"axis {symbol} was tried at one other size only ({listed}): the model takes none "
                f"of the others ({why})"
            )


def _no_other_size(symbol: str, why: str, loaded: Loaded) -> StageError:
    if loaded.kind == "onnx":
        return StageError(
            Code.DIM_SPECIALISED,
            f"axis {symbol} is dynamic in the file, but the file itself runs at no other size "
            f"({why})",
            "something inside the file fixes the size: get a file without it, or one whose axis "
            "is a number",
        )
    return StageError(
        Code.DIM_SPECIALISED,
        f"axis {symbol} is declared dynamic, but the PyTorch model runs at no other size ({why})",
        f"remove {symbol} from dynamic_axes, or give axes that change together one name",
    )
