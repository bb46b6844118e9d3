"""Prove a file on disk against the reference outputs, in ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from converter.model.artifact import QUANTISED
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import (
    AccuracyRecord,
    CaseCheck,
    DynamicCheck,
    ProviderVerdict,
    VerifyRecord,
)
from converter.plugins import providers
from converter.plugins.runnable import Runnable
from converter.worker.compare import numerics, vacuity
from converter.worker.compare.numerics import Comparison, Noise
from converter.worker.compare.outputs import compare
from converter.worker.inputs import cases, dtypes
from converter.worker.inputs.cases import SECOND, TRACED, Case
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import interface, structure
from converter.worker.recording import isolation, stages
from converter.worker.reference import conditioning, training
from converter.worker.reference import noise as rounding
from converter.worker.reference.reference import Reference, References, check_state
from converter.worker.runtime import running, runtime_errors
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors, first_line
from converter.worker.verify import undecided


@dataclass(frozen=True)
class Verdict:
    """The record for the manifest; ``error`` is ``None`` when the file is right.

    Attributes:
        failed: the first case that shows an error.
        passed: the label of each case that was judged → whether the file is right there.
        undecided: the label of each other case → why a difference says nothing there.
        rule: symbol → the divisor at whose multiples the file is right; it refuses all others.
        accuracy: of a quantised file.
    """

    record: VerifyRecord
    error: StageError | None = None
    failed: Reference | None = None
    passed: Mapping[str, bool] = field(default_factory=dict)
    undecided: Mapping[str, str] = field(default_factory=dict)
    rule: Mapping[str, int] = field(default_factory=dict)
    accuracy: AccuracyRecord | None = None


def verify(
    path: Path,
    references: References,
    job: Job,
    *,
    parameters: Mapping[str, Array] | None = None,
    optimise: bool = True,
    provider: str | None = None,
    graph: ModelProto | None = None,
    declared: Sequence[Reference] | None = None,
    source: Path | None = None,
) -> Verdict:
    """Run the file on every case and compare every output.

    ``path`` is the file as it would be published, its external data beside it; ``parameters``
    are values of parameters that are graph inputs; ``optimise`` is as users run it; ``provider``
    is a module of ``converter.plugins.providers`` (``None``: the standard one); ``graph`` is
    what is in the file, with or without its weights, where that is known; ``declared`` has the
    cases with the dtypes of its interface, where it is run with others; ``source`` is, for a file
    of another format, the ONNX file that it was made from, and ``graph`` what is in that.
    """
    declared, onnx_file = declared or references.declared, source or path
    try:
        with runnable(path, source, references) as file:
            session = running.opened(
                file,
                lambda: structure.interface(graph or structure.read(onnx_file)),
                **_how(provider, optimise, job),
            )
    except StageError as refused:
        return _refused(refused, provider, job)
    graph = graph or structure.read(onnx_file)
    judged = _judge(onnx_file, session, graph, references, job, parameters or {})
    dynamic = _dynamic(graph, session, references, job, judged)
    given_up = judged.given_up(references, job)
    unverified = [axis for axis in dynamic if not axis.passed and axis.declared not in given_up]
    error = _wrong(judged, unverified, graph, declared, references, job)
    declares = _declares(judged, given_up, graph, declared, references, job)
    record = VerifyRecord(
        sensitivity=references.sensitivity,
        status="passed" if error is None else "failed",
        reason=_not_measured(references, declares) if error is None else error.message,
        cases=judged.checks,
        dynamic=dynamic,
        providers=[of_provider(provider, error, job)],
    )
    left_out = {**judged.undecided, **judged.refused}
    return Verdict(record, error, judged.failed, judged.passed, left_out)


def _how(provider: str | None, optimise: bool, job: Job) -> dict[str, Any]:
    return {
        "provider": provider,
        "optimise": optimise,
        "threads": job.threads,
        "provider_options": job.provider_options,
    }


def _declares(
    judged: _Judged,
    given_up: Mapping[str, str],
    graph: ModelProto,
    declared: Sequence[Reference],
    references: References,
    job: Job,
) -> list[str]:
    """What users of the file should know of what it takes and gives."""
    declares = [*interface.notes(graph, job, declared), *judged.warned]
    return declares + [_given_up(name, why, references, job) for name, why in given_up.items()]


def _wrong(
    judged: _Judged,
    unverified: Sequence[DynamicCheck],
    graph: ModelProto,
    declared: Sequence[Reference],
    references: References,
    job: Job,
) -> StageError | None:
    """What is wrong with a file: what its numbers show, or what they cannot show."""
    error = judged.error
    if error is None:
        error = next(map(_axis_error, unverified), None)
        error = error or interface.judge(graph, job, declared)
        return error or _drowned(references, job)
    if error.code is Code.SESSION:  # an input that is declared otherwise, in better words
        return interface.judge(graph, job, declared) or error
    return error if judged.passed[TRACED] else _mutation(error, references)


@contextmanager
def runnable(path: Path, source: Path | None, references: References) -> Iterator[Path]:
    """The file to run: one that drops nothing.

    Raises:
        StageError: OUTPUT_STRUCTURE, where it may drop and is not ONNX: nothing here takes dropout
            out of another format.
    """
    if source is None:
        with training.comparable(path, references.disabled_dropout) as file:
            yield file
        return
    if references.disabled_dropout:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            "the model drops at random, and only ONNX files can be compared without that",
            "convert it with training: eval, or leave this variant out",
        )
    yield path


def _refused(error: StageError, provider: str | None, job: Job) -> Verdict:
    """The verdict on a file that does not open."""
    record = VerifyRecord(
        status="failed", reason=error.message, providers=[of_provider(provider, error, job)]
    )
    return Verdict(record, error)


def of_provider(provider: str | None, error: StageError | None, job: Job) -> ProviderVerdict:
    """What came of a file on a provider (``None``: the standard one)."""
    name = provider or providers.standard()
    missing = error is not None and error.code is Code.EP_UNAVAILABLE
    return ProviderVerdict(
        provider=name,
        version=running.versions(name, job.provider_options),
        status="passed" if error is None else "unavailable" if missing else "failed",
        code=error.code if error else None,
        reason=error.message if error else None,
    )


def _given_up(symbol: str, why: str, references: References, job: Job) -> str:
    name, axis = cases.symbols(job)[symbol][0]
    size = references.cases[0].inputs[name].shape[axis]
    return f"{symbol} is {size} in this file: {why}"


def traced_error(
    path: Path, references: References, job: Job, parameters: Mapping[str, Array]
) -> StageError | None:
    """What is wrong at the traced example: for a file that only its words tell from a right one."""
    with training.comparable(path, references.disabled_dropout) as runnable:
        session = Session(runnable, threads=job.threads)  # has read the copy once it is open
    first = references.cases[0]
    return _run_case(session, first, references, job, parameters, measure=True)[1]


def arithmetic(
    session: Session, path: Path, graph: ModelProto, references: References, job: Job
) -> tuple[StageError | None, Reference | None, dict[str, str]]:
    """What a session gives that computes a file otherwise than ONNX Runtime would.

    Returns:
        What is wrong and at which case, and the labels of cases that say nothing, with the reason.
    """
    judged = _judge(path, session, graph, references, job, {})
    return judged.error, judged.failed, judged.undecided


@dataclass
class _Judged:
    """What the cases showed: ``error`` is the first, ``failed`` the case that shows it.

    Attributes:
        refused: the label of each case whose shapes the file's format does not have, and why.
        warned: what users of the file should know of the cases that are undecided.
    """

    checks: list[CaseCheck] = field(default_factory=list)
    passed: dict[str, bool] = field(default_factory=dict)
    undecided: dict[str, str] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    error: StageError | None = None
    failed: Reference | None = None

    def runnable(
        self, items: Sequence[Reference], session: Session | Runnable
    ) -> Iterator[Reference]:
        """The cases that the file's format has; the others are noted."""
        for item in items:
            # The example itself has to run: a file that refuses it is of no use to anybody.
            why_not = session.refuses(item.case.shapes) if item.case.sizes else ""
            if why_not:
                self.refused[item.case.label] = why_not
            else:
                yield item

    def given_up(self, references: References, job: Job) -> dict[str, str]:
        """Symbols that are a number in the file since its format has no other sizes, and why."""
        found: dict[str, str] = {}
        for symbol in cases.symbols(job):
            moved = [i.case.label for i in references.cases if symbol in i.case.sizes]
            if moved and all(label in self.refused for label in moved):
                found[symbol] = self.refused[moved[0]]
        return found


def _judge(
    path: Path,
    session: Session | Runnable,
    graph: ModelProto,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
) -> _Judged:
    """Run the file on every case; one at which a difference says nothing is left out.

    Raises:
        StageError: STATE_MUTATED, where PyTorch gives something else without the earlier cases.
    """
    found = _Judged()
    run = functools.partial(_run_case, session)
    ordering = undecided.Ordering(path, graph, references.bounds)
    for reference in found.runnable(references.cases, session):
        case = reference.case
        feeds = {**references.feeds(reference), **parameters}
        # In a child and before the session sees it: an integer division by zero ends the process.
        crash = _crash(path, reference, feeds) if isinstance(session, Session) else None
        check, error = _unchecked(case, session), crash
        if crash is None:
            # A stated case is never left out, so that its rounding is needed at once.
            check, error = run(reference, references, job, parameters, measure=case.stated)
        if error is not None and not case.stated:
            # First what needs no measuring.
            why = undecided.anyway(error, reference, references, ordering, feeds)
            if why is None and crash is None:
                # Takes as long as running the model several times: not where it is in vain.
                check, error = run(reference, references, job, parameters, measure=True)
                if error is not None:
                    why = undecided.by_rounding(error, check, reference, references)
            if why is None and error is not None:
                why = undecided.by_the_standard(error, path, reference, feeds)
                found.warned += [why] if why else []
            if why is not None:
                found.undecided[case.label] = why
                continue
            if error is not None:
                # Before the file is blamed: earlier cases may have changed what PyTorch gave here.
                check_state(references, reference)
        found.checks.append(check)
        found.passed[case.label] = error is None
        # The first error is shown, and the others still count for the limit that is named.
        if error is not None and found.error is None:
            found.error, found.failed = error, reference
    return found


def _drowned(references: References, job: Job) -> StageError | None:
    """Whether the tolerance of an output would take what depends on the input for rounding."""
    # No tolerance judges it.
    if job.precision in QUANTISED:
        return None
    first = references.cases[0]
    # Of one shape, since outputs of other sizes cannot be subtracted.
    alike = [item for item in references.cases if item.case.shapes == first.case.shapes]
    # A pattern moves outputs so far that too large a tolerance would not show.
    alike = [item for item in alike if item.case.stated]
    noise = [item.noise for item in alike if item.noise is not None]
    # Nothing was measured where each case met the tightest bound, which is the tolerance then.
    floors = rounding.worst(noise).floors if noise else [0.0] * len(first.outputs)
    # Detections are compared in pairs, and constants need not move.
    skipped = {*references.detections.values()}
    skipped |= {i for i, name in enumerate(references.names) if name in job.constant_outputs}
    rtol, atol = job.verify.rtol, job.verify.atol
    # Of ids and booleans nothing is tolerated either.
    blind = [
        None
        if not dtypes.is_float(output) or index in skipped
        else numerics.blind_spot(output, rtol, atol, floor, references.bounds)
        for index, (output, floor) in enumerate(zip(first.outputs, floors, strict=True))
    ]
    outputs = [item.outputs for item in alike]
    vacuous = vacuity.below_noise_floor(
        references.names, outputs, blind, rtol is not None or atol is not None
    )
    return conditioning.advised(vacuous, job)


def _mutation(error: StageError, references: References) -> StageError:
    """Wrong numbers on the traced example of a model that writes into its input, or ``error``."""
    prefix = f"{Code.INPUT_MUTATED}: "
    notes = [text.removeprefix(prefix) for text in references.warnings if text.startswith(prefix)]
    # A wrong shape, or NaN, has another reason than an input that was written into.
    if error.code is not Code.VERIFY_VALUE or not notes:
        return error
    return StageError(
        Code.INPUT_MUTATED,
        f"{notes[0]}, and the file does not follow: {error.message}",
        "return a new tensor: x = x * 2 for x.mul_(2)",
    )


def _not_measured(references: References, declares: list[str]) -> str | None:
    """What the record of a right file has to say all the same."""
    notes = [*references.unproven, *declares]
    if count := len(references.disabled_dropout):
        notes.insert(
            0,
            f"active dropout is random: verified with the ratio of {count} "
            f"module{'s' * (count != 1)} at zero; what it drops is not measured",
        )
    return "; ".join(notes) or None


def vacuous(references: References) -> VerifyRecord:
    """The record of a model whose outputs prove nothing."""
    return VerifyRecord(
        status="vacuous",
        reason=references.vacuous.message if references.vacuous else None,
        sensitivity=references.sensitivity,
    )


def _unchecked(case: Case, session: Session | Runnable) -> CaseCheck:
    return CaseCheck(label=case.label, shapes=case.shapes, provider=session.provider, outputs=[])


def _crash(path: Path, reference: Reference, feeds: Mapping[str, Array]) -> StageError | None:
    """How ONNX Runtime ends the process at a size of zero, where some of its kernels divide."""
    if 0 not in reference.case.sizes.values():
        return None

    def run() -> None:
        # A session of the child's own: the threads of the parent's are not there.
        def whole() -> None:
            session = Session(path)
            session.run(session.typed(feeds, cast=True))

        stages.refusal(whole)

    crash = isolation.failure(run)
    if crash is None:
        return None
    return StageError(
        Code.SESSION,
        f"case {reference.case}: ONNX Runtime {crash}",
        "keep empty tensors from it, or find the operator: its kernel is at fault",
    )


def _run_case(
    session: Session | Runnable,
    reference: Reference,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
    *,
    measure: bool,
) -> tuple[CaseCheck, StageError | None]:
    case = reference.case
    check = _unchecked(case, session)
    try:
        outputs = session.run({**references.feeds(reference), **parameters})
    except RuntimeErrors as error:
        # A graph that runs at the traced size and not at another one has frozen an axis.
        code = Code.DIM_SPECIALISED if case.sizes else Code.SESSION
        why = first_line(error)
        advice = _HINTS.get(code) or runtime_errors.hint(why)
        failure = StageError(code, f"case {case}: {why}", advice)
        failure.__cause__ = error  # so that the log has all of it
        return check, failure
    # Counts first: pairing outputs by position would compare the wrong ones.
    if len(outputs) != len(reference.outputs):
        message = (
            f"case {case}: the graph has {len(outputs)} outputs "
            f"({', '.join(session.outputs)}), PyTorch returns {len(reference.outputs)}"
        )
        return check, StageError(Code.OUTPUT_STRUCTURE, message)
    compared = _compare(session, reference, references, job, outputs, measure=measure)
    check = check.model_copy(update={"outputs": [item.check for item in compared]})
    for place, item in enumerate(compared):
        if item.code is not None:
            message = f"case {case}: {item.reason}"
            code = item.code
            # A wrong shape has a better name where the file kept the size of the example.
            if case.sizes and _keeps_size(
                item, references.cases[0].outputs[place], reference, place
            ):
                code = Code.DIM_SPECIALISED
            hint = _hint(code, case)
            # An error of unknown share (a zero output) is not called nearly right.
            if code is Code.VERIFY_VALUE and (item.check.rel_l2 or 1.0) < _CLOSE:
                hint = _NEARLY
            if item.check.not_compared == "dtype":
                hint = _OTHER_DTYPE
            if code is Code.VERIFY_NONFINITE and _finite(reference.outputs):
                hint = _ONLY_THE_FILE
            return check, StageError(code, message, hint)
    return check, None


def _keeps_size(item: Comparison, traced: Array, reference: Reference, place: int) -> bool:
    """Whether an output has a size of the traced example where PyTorch's has another."""
    expected = reference.outputs[place].shape
    # With another number of axes no size corresponds to any.
    if item.check.not_compared != "shape" or len(item.check.shape) != len(expected):
        return False
    # The traced output may have had another rank.
    rows = zip(item.check.shape, traced.shape, expected, strict=False)
    return any(found == old != new for found, old, new in rows)


def _compare(
    session: Session | Runnable,
    reference: Reference,
    references: References,
    job: Job,
    outputs: list[Array],
    *,
    measure: bool,
) -> list[Comparison]:
    """By the tightest bounds; where they fail, by those that the model's own rounding asks for."""
    compared: list[Comparison] = []
    for noise in _bounds(reference, references, len(outputs), measure=measure):
        compared = compare(
            session.outputs,
            reference.outputs,
            outputs,
            job.verify,
            noise,
            references.detections,
            narrowed=not references.keeps_io,
        )
        if job.precision in QUANTISED:
            return [_shown(item, place, references, job) for place, item in enumerate(compared)]
        # More rounding excuses wrong numbers only. Another shape or NaN stays what it is.
        if all(item.code is not Code.VERIFY_VALUE for item in compared):
            break
    return compared


def _shown(item: Comparison, place: int, references: References, job: Job) -> Comparison:
    """An output of a quantised file, whose numbers its accuracy judges."""
    stated = job.verify.rtol is not None or job.verify.atol is not None
    listed = place in references.detections.values() and item.check.not_compared == "shape"
    if item.code is Code.VERIFY_VALUE and not stated:
        return Comparison(item.check.model_copy(update={"passed": True, "atol": 0.0, "rtol": 0.0}))
    # Noise moves scores across a threshold: another number of detections is no other shape.
    if item.code is Code.VERIFY_SHAPE and listed:
        return Comparison(item.check.model_copy(update={"passed": True}))
    return item


def _finite(outputs: Sequence[Array]) -> bool:
    return all(map(vacuity.finite, outputs))


def _bounds(
    reference: Reference, references: References, count: int, *, measure: bool
) -> Iterator[Noise]:
    """No rounding, that of cases which were measured already, that of this case: some, then all.

    Measuring it takes as long as running the model several times, and few cases need it.

    Args:
        measure: whether it is worth that.
    """
    # Most right files pass here, and nothing else has to be measured for them.
    yield Noise.none(count, references.bounds)
    # The rounding of another case costs nothing to try, and is mostly enough.
    if reference.noise is None and references.known_noise is not None:
        yield references.known_noise
    # Without float64 products it takes a third of the time and mostly shows enough.
    if measure:
        yield references.noise_of(reference, exact=False)
        # Of 16 bits there is one measurement, and it has all.
        if not reference.exact and references.precision == "float32":
            yield references.noise_of(reference)


# For the words of a hint only: the verdict is given by then.
_CLOSE = 1e-3
_NEARLY = (
    "close to PyTorch, but further than its own rounding explains; if that is near enough, state "
    "verify.rtol and verify.atol"
)
_OTHER_DTYPE = "cast the output in forward, to float32 for example"
_ONLY_THE_FILE = (
    "PyTorch is finite there: the file divides by zero or overflows (torch.linspace with one step "
    "divides by steps - 1), or lacks a branch for such values; write that part of forward with "
    "other operators"
)
_HINTS = {
    Code.DIM_SPECIALISED: "the model's code fixes this axis; rewrite it, or remove the axis",
    Code.VERIFY_SHAPE: interface.FROZEN_SHAPE,
    Code.VERIFY_NONFINITE: "give inputs in the range that the model expects (fill, low, high)",
}


_FROZEN_SIZE = (
    "a size, or a condition on one, was frozen while tracing; if no line of the model reads one, "
    "an operator of the file is wrong at this size"
)
_ROUNDED = (
    "the file has the factor {} in float32, where a product of it and this size is rounded to "
    "another whole number than in PyTorch; compute the size with whole numbers "
    "(x.shape[-1] * 7 // 10, and size= in place of scale_factor=), or state sizes where both agree "
    "(dims: multiple_of)"
)
_FROZEN_VALUE = "wrong for other values: a branch or a value was frozen while tracing"
_NOT_FOLLOWED = "the graph does not follow the model in this case"
OF_TRACING = frozenset(
    {
        _ONLY_THE_FILE,
        _FROZEN_SIZE,
        _FROZEN_VALUE,
        _NOT_FOLLOWED,
        _HINTS[Code.DIM_SPECIALISED],
        interface.FROZEN_SHAPE,
    }
)
"""Hints that look for the fault in the model's code, or in how it was exported."""


def _hint(code: Code, case: Case) -> str:
    if case.scale is not None and code in (Code.VERIFY_SHAPE, Code.DIM_SPECIALISED):
        return _ROUNDED.format(case.scale)
    if code is not Code.VERIFY_VALUE:
        return _HINTS.get(code, "")
    if case.sizes:
        return _FROZEN_SIZE
    if case.label == SECOND:
        return _FROZEN_VALUE
    if case.label == TRACED:
        return ""  # converter.worker.verify.attribution knows which step did it
    return _NOT_FOLLOWED


def _dynamic(
    graph: ModelProto,
    session: Session | Runnable,
    references: References,
    job: Job,
    judged: _Judged,
) -> list[DynamicCheck]:
    """One record for each declared axis of an input."""
    passed = judged.passed
    shapes = {value.name: value.shape for value in structure.graph_inputs(graph)}
    # What the file itself says counts; of another format the graph is that of its parent.
    shapes |= session.declared()
    records = []
    for name, axes in job.dynamic_axes.items():
        for axis, symbol in axes.items():
            # Axes of outputs are judged where the interface is.
            if name not in job.inputs:
                continue
            # The sizes that a case names are those that differ from the example.
            moved = [item.case for item in references.cases if symbol in item.case.sizes]
            # Undecided cases vouch for nothing.
            moved = [case for case in moved if case.label in passed]
            # A file from elsewhere may leave even the number of axes open.
            shape = shapes[name]
            symbolic = axis >= len(shape) or not isinstance(shape[axis], int)
            records.append(
                DynamicCheck(
                    input=name,
                    axis=axis,
                    declared=symbol,
                    symbolic=symbolic,
                    sizes_tested=sorted({case.sizes[symbol] for case in moved}),
                    # An axis that no case has moved is not verified, whatever the file declares.
                    passed=symbolic and bool(moved) and all(passed[case.label] for case in moved),
                )
            )
    return records


def _axis_error(axis: DynamicCheck) -> StageError:
    return StageError(
        Code.DIM_SPECIALISED,
        f"axis {axis.axis} of {axis.input} ({axis.declared}) is not dynamic in the file",
        _HINTS[Code.DIM_SPECIALISED],
    )
