"""Reference outputs: what the PyTorch model computes, before any exporter has touched it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from converter.errors import Code, StageError
from converter.job import Job, Sensitivity
from converter.worker import cases, detections, noise, numerics, output_axes, training, vacuity
from converter.worker.cases import SECOND, TRACED, Case
from converter.worker.execution import REFUSALS, Runner
from converter.worker.inputs import Array
from converter.worker.loading import Loaded
from converter.worker.numerics import Noise
from converter.worker.starting import first_line

_OTHER_SIZES = 2


@dataclass(frozen=True)
class Reference:
    """One case with its inputs and the model's outputs, in the order of ``forward``.

    ``noise`` is what the model's own rounding makes of them; ``None``: as in the other cases.
    """

    case: Case
    inputs: dict[str, Array]
    outputs: list[Array]
    noise: Noise | None = None


@dataclass
class References:
    """All cases of a job.

    Attributes:
        noise: the largest rounding errors that the model showed.
        refine: measures the rounding error of the second case too, which takes as long as running
            the model twice; false where it is known already.
        detections: the outputs that list detections, by what they hold.
        sensitivity: how the outputs answer to the input.
        silenced: dropout modules of a model in training mode, run with ratio zero: name → ratio.
        dropped: the ratio of each of their calls in the traced example.
        vacuous: why a comparison would prove nothing, or ``None``.
        unproven: what all cases have in common, so that they cannot tell: a sentence each.
        warnings: what the model did to its inputs or its state.
    """

    cases: list[Reference] = field(default_factory=list)
    noise: Noise = field(default_factory=Noise)
    refine: Callable[[], bool] = lambda: False
    detections: dict[str, int] = field(default_factory=dict)
    sensitivity: Sensitivity | None = None
    silenced: dict[str, float] = field(default_factory=dict)
    dropped: list[float] = field(default_factory=list)
    vacuous: StageError | None = None
    unproven: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def outputs(self) -> list[list[Array]]:
        """PyTorch's outputs in each case."""
        return [item.outputs for item in self.cases]

    def add_warning(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def compute(loaded: Loaded, job: Job) -> References:
    """Run the model on every case.

    Raises:
        StageError: FORWARD (with the model's exception), OUTPUT_STRUCTURE, NONDETERMINISTIC,
            STATE_MUTATED, or DIM_SPECIALISED when the model itself accepts no other size of a
            dynamic axis.
    """
    found = References()
    run = Runner(loaded, job, found.add_warning)
    random = job.training == "train"
    with training.silenced(run.model, random) as found.silenced:
        _run_cases(found, run, loaded, job)

    def refine() -> bool:
        with training.silenced(run.model, random):
            return _measure_noise(found, run, loaded, SECOND)

    found.refine = refine
    return found


def _run_cases(found: References, run: Runner, loaded: Loaded, job: Job) -> None:
    for case in cases.fixed(job):
        inputs = case.draw(job.seed)
        with training.called(run.model, found.silenced) as ratios:
            found.cases.append(Reference(case, inputs, run(inputs)))
        if case.label == TRACED:
            found.dropped = list(ratios)  # the replica that is used again keeps its hooks
    first = found.cases[0]
    names = _output_names(job, len(first.outputs))
    alike = [item.outputs for item in found.cases if item.case.shapes == first.case.shapes]
    found.sensitivity, found.vacuous = vacuity.judge(names, alike)
    if found.vacuous is None:
        found.detections = detections.places(names, first.outputs)
        _measure_noise(found, run, loaded, TRACED)
        found.vacuous = _drowned(found, names, alike, job)
    _check_repeats(names, first, run)
    if found.vacuous is None:
        _look_for_what_never_changes(found, names)
    if found.vacuous is None:
        found.cases += _other_sizes(found, run, loaded, job)
        if loaded.kind != "onnx":  # whose axes are those of the file, and stay
            _look_at_output_axes(found, job, run)


def _drowned(
    found: References, names: list[str], alike: list[list[Array]], job: Job
) -> StageError | None:
    rtol, atol = job.verify.rtol, job.verify.atol
    blind = [
        None
        if output.dtype.kind != "f" or index in found.detections.values()
        else numerics.blind_spot(output, rtol, atol, floor)
        for index, (output, floor) in enumerate(zip(alike[0], found.noise.floors, strict=True))
    ]
    return vacuity.drowned(names, alike, blind, rtol is not None or atol is not None)


def _look_at_output_axes(found: References, job: Job, run: Runner) -> None:
    """Where one stands still, try a size that also moves it behind a stride."""
    tried = [item.case.sizes for item in found.cases]
    twice = [cases.doubled(job, symbol) for symbol in output_axes.still(job, found.outputs)]
    new = [case for case in twice if case.sizes not in tried]
    found.cases += _ran(new, job, run, {}, len(new))
    for note in output_axes.unmoved(job, found.outputs):
        found.add_warning(note)


def _look_for_what_never_changes(found: References, names: list[str]) -> None:
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
        if first.outputs[index].dtype.kind != "f" and others
        if _same([case.outputs[index] for case in found.cases])
    ]
    if still:
        listed = ", ".join(still)
        found.unproven.append(
            f"output {listed} is the same in every case: it is not measured to follow the input"
        )


def _same(arrays: list[Array]) -> bool:
    return all(np.array_equal(arrays[0], other) for other in arrays[1:])


def _measure_noise(found: References, run: Runner, loaded: Loaded, label: str) -> bool:
    """Of one of the fixed cases; whether there is one that was not measured yet."""
    for place, item in enumerate(found.cases):
        if item.case.label == label and item.noise is None:
            measured = noise.measure(run, loaded, item.inputs, item.outputs, found.detections)
            found.cases[place] = replace(item, noise=measured)
            found.noise = noise.worst([case.noise for case in found.cases if case.noise])
            return True
    return False


def _output_names(job: Job, count: int) -> list[str]:
    if not job.outputs:
        return [f"#{index}" for index in range(count)]
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
    different = _different(names, first.outputs, run(first.inputs, draw=1, used=True))
    if different is None:
        return
    if _different(names, first.outputs, run(first.inputs, draw=1)) is None:
        raise StageError(
            Code.STATE_MUTATED,
            f"PyTorch gives another {different} for the same input after it has run before: "
            "forward keeps something from call to call, and a file cannot",
            "make the state an input and an output of the model",
        )
    raise StageError(
        Code.NONDETERMINISTIC,
        f"PyTorch gives another {different} when it runs twice on the same input",
        "a random operator is active (dropout without training=self.training? In training mode "
        "nn.MultiheadAttention and nn.LSTM drop by themselves: dropout=0): remove it",
    )


def _different(names: list[str], one: list[Array], other: list[Array]) -> str | None:
    """The first output that is not the same twice, or ``None``."""
    for name, left, right in zip(names, one, other, strict=True):
        if left.shape != right.shape or not np.allclose(
            left, right, rtol=1e-4, atol=1e-6, equal_nan=True
        ):
            return name
    return None


def _other_sizes(found: References, run: Runner, loaded: Loaded, job: Job) -> list[Reference]:
    """Two other sizes for each dynamic symbol, and for all of them together.

    Raises:
        StageError: DIM_SPECIALISED, where the model runs at no other size.
    """
    every = list(cases.symbols(job))
    kept: list[Reference] = []
    refused: dict[str, str] = {}
    for moved in [[symbol] for symbol in every] + ([every] if len(every) > 1 else []):
        kept += _ran(cases.candidates(job, moved), job, run, refused, _OTHER_SIZES)
    for symbol in every:
        sizes = {item.case.sizes[symbol] for item in kept if symbol in item.case.sizes}
        why = refused.get(symbol, "its outputs are empty or not finite there")
        if not sizes:
            raise _no_other_size(symbol, why, loaded)
        if len(sizes) < _OTHER_SIZES:
            listed = ", ".join(map(str, sorted(sizes)))
            found.unproven.append(
                f"axis {symbol} was tried at one other size only ({listed}): the model takes none "
                f"of the others ({why})"
            )
    return kept


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


def _ran(
    offered: Iterable[Case], job: Job, run: Runner, refused: dict[str, str], most: int
) -> list[Reference]:
    """The first cases that the model accepts; ``refused`` takes why it did not, by symbol."""
    kept: list[Reference] = []
    for case in offered:
        inputs = case.draw(job.seed)
        try:
            outputs = run(inputs)
        except (*REFUSALS, StageError) as error:
            refused.setdefault(next(iter(case.sizes)), f"at {case.label}: {first_line(error)}")
            continue
        if all(output.size and np.isfinite(output).all() for output in outputs):
            kept.append(Reference(case, inputs, outputs))
        if len(kept) == most:
            break
    return kept
