"""Prove a file on disk against the reference outputs, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from converter.errors import Code, StageError
from converter.job import CaseCheck, DynamicCheck, Job, VerifyRecord
from converter.worker import interface, structure, training
from converter.worker.cases import SECOND, TRACED
from converter.worker.inputs import Array
from converter.worker.outputs import compare
from converter.worker.reference import Reference, References
from converter.worker.session import Session
from converter.worker.starting import RuntimeErrors, first_line


@dataclass(frozen=True)
class Verdict:
    """The record for the manifest; ``error`` is ``None`` when the file is right."""

    record: VerifyRecord
    error: StageError | None = None


def verify(
    path: Path,
    references: References,
    job: Job,
    *,
    parameters: Mapping[str, Array] | None = None,
    optimise: bool = True,
    provider: str = "cpu",
) -> Verdict:
    """Run the file on every case and compare every output.

    ``path`` is the file as it would be published, its external data beside it; ``parameters``
    are values of parameters that are graph inputs; ``optimise`` is as users run it; ``provider``
    is a module of ``converter.providers``.
    """
    try:
        with training.comparable(path, references.silenced) as runnable:
            session = Session(runnable, provider=provider, optimise=optimise, threads=job.threads)
    except StageError as refused:
        return Verdict(VerifyRecord(status="failed", reason=refused.message), refused)
    checks: list[CaseCheck] = []
    first: StageError | None = None
    passed: dict[str, bool] = {}
    for reference in references.cases:
        check, error = _run_case(session, reference, references, job, parameters or {})
        checks.append(check)
        passed[reference.case.label] = error is None
        first = first or error
    if first is not None and first.code is Code.VERIFY_VALUE and references.refine():
        return verify(
            path, references, job, parameters=parameters, optimise=optimise, provider=provider
        )
    graph = onnx.load(path, load_external_data=False)
    dynamic = _dynamic(graph, references, job, passed)
    if first is None:
        first = next((_axis_error(axis) for axis in dynamic if not axis.passed), None)
        first = first or interface.judge(graph, job, references.cases)
    elif first.code is Code.SESSION:  # an input that is declared otherwise, in better words
        first = interface.judge(graph, job, references.cases) or first
    elif not passed[TRACED]:
        first = _mutation(first, references)
    declares = interface.notes(graph, job, references.cases)
    record = VerifyRecord(
        sensitivity=references.sensitivity,
        status="passed" if first is None else "failed",
        reason=_not_measured(references, declares) if first is None else first.message,
        cases=checks,
        dynamic=dynamic,
    )
    return Verdict(record, first)


def _mutation(error: StageError, references: References) -> StageError:
    """Wrong numbers on the traced example of a model that writes into its input, or ``error``."""
    prefix = f"{Code.INPUT_MUTATED}: "
    notes = [text.removeprefix(prefix) for text in references.warnings if text.startswith(prefix)]
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
    if count := len(references.silenced):
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


def _run_case(
    session: Session,
    reference: Reference,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
) -> tuple[CaseCheck, StageError | None]:
    case = reference.case
    check = CaseCheck(label=case.label, shapes=case.shapes, provider=session.provider, outputs=[])
    try:
        outputs = session.run({**reference.inputs, **parameters})
    except RuntimeErrors as error:
        # A graph that runs at the traced size and not at another one has frozen an axis.
        code = Code.DIM_SPECIALISED if case.sizes else Code.SESSION
        return check, StageError(code, f"case {case}: {first_line(error)}", _HINTS.get(code, ""))
    if len(outputs) != len(reference.outputs):
        message = (
            f"case {case}: the graph has {len(outputs)} outputs "
            f"({', '.join(session.outputs)}), PyTorch returns {len(reference.outputs)}"
        )
        return check, StageError(Code.OUTPUT_STRUCTURE, message)
    compared = compare(
        session.outputs,
        reference.outputs,
        outputs,
        job.verify,
        reference.noise or references.noise,
        references.detections,
    )
    check = check.model_copy(update={"outputs": [item.check for item in compared]})
    for item in compared:
        if item.code is not None:
            message = f"case {case}: {item.reason}"
            hint = _hint(item.code, case.label, case.sizes)
            if item.check.not_compared == "dtype":
                hint = _OTHER_DTYPE
            return check, StageError(item.code, message, hint)
    return check, None


_OTHER_DTYPE = "cast the output in forward, to float32 for example, or try the other exporter"
_HINTS = {
    Code.DIM_SPECIALISED: "the model's code fixes this axis; rewrite it, or remove the axis",
    Code.VERIFY_SHAPE: "the exporter froze a shape; try the other exporter",
    Code.VERIFY_NONFINITE: "give inputs in the range that the model expects (fill, low, high)",
}


def _hint(code: Code, label: str, sizes: Mapping[str, int]) -> str:
    if code is not Code.VERIFY_VALUE:
        return _HINTS.get(code, "")
    if sizes:
        return "right at the traced size only: the graph has frozen a size"
    if label == SECOND:
        return "wrong for other values: a branch or a value was frozen while tracing"
    if label == TRACED:
        return "see stages.verify and the log; try the other exporter or simplify: false"
    return "the graph does not follow the model in this case"


def _dynamic(
    graph: ModelProto, references: References, job: Job, passed: Mapping[str, bool]
) -> list[DynamicCheck]:
    """One record for each declared axis of an input."""
    shapes = {value.name: value.shape for value in structure.graph_inputs(graph)}
    records = []
    for name, axes in job.dynamic_axes.items():
        for axis, symbol in axes.items():
            if name not in job.inputs:
                continue
            moved = [item.case for item in references.cases if symbol in item.case.sizes]
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
