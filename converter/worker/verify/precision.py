"""Files of another precision than the model: what they are to be, and what judges them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from converter.model.errors import Code, StageError
from converter.model.job import ONNX, QUANTISED, CheckRecord, Job, rounding_of
from converter.plugins import providers
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import precision as held
from converter.worker.onnxfile import structure
from converter.worker.reference import training
from converter.worker.reference.reference import Reference, References
from converter.worker.verify import emulation, overflow, rounded_weights, verification
from converter.worker.verify.verification import Verdict

FULL = "float32"
# The float32 file is right on the same cases: not the inputs are at fault.
_OF_NUMBERS = (Code.VERIFY_VALUE, Code.VERIFY_NONFINITE, Code.VERIFY_VACUOUS)
_IN_FULL = f"let operators compute in {FULL} (op_block_list, node_block_list), or leave it out"
_TYPES = {"float16": TensorProto.FLOAT16}
# Of the weights and of the nodes with floats: normalisations and what nobody has in half may stay.
_LEAST_WEIGHTS, _LEAST_NODES = 0.5, 0.2


def asked_of(references: References, job: Job) -> References:
    """The references as a file of the job's precision is judged by them."""
    if rounding_of(job.precision) == FULL:
        return references
    # The references of a variant were read with its bounds already.
    if references.precision == job.precision and references.keeps_io != job.cast_io:
        return references
    if references.precision == job.precision:
        # `in_precision` would drop the rounding that was kept, which cannot be measured again here.
        return replace(references, keeps_io=not job.cast_io)
    return references.in_precision(job.precision, keeps_io=not job.cast_io)


def check(model: ModelProto, job: Job) -> CheckRecord:
    """How much of a file is of the precision that it is called by.

    Raises:
        StageError: PRECISION_NOT_REACHED.
    """
    if job.precision not in _TYPES:
        return CheckRecord(status="passed")
    shares = held.shares(model, _TYPES[job.precision])
    record = CheckRecord(
        status="passed",
        precision_weights=round(shares.weights, 4),
        precision_nodes=round(shares.nodes, 4),
    )
    if shares.weights < _LEAST_WEIGHTS or shares.nodes < _LEAST_NODES:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"only {shares.weights:.0%} of the weights and {shares.nodes:.0%} of the nodes with "
            f"floats are {job.precision}",
            f"shorten what is kept in {FULL} (op_block_list), or leave this variant out",
        )
    return record


def judged(
    verdict: Verdict,
    file: Path,
    parent: Path | None,
    references: References,
    job: Job,
    provider: str | None = None,
) -> Verdict:
    """The verdict with what outputs cannot show of a float16 file.

    That is a weight that is not the parent's, where the rounding of the others hides it, and, on a
    CPU, arithmetic that overflows: ONNX Runtime computes float16 in float32 there
    (``arithmetic: emulated``).

    Args:
        parent: the float32 file that it was made from, where it is at hand.
    """
    if job.precision == FULL:
        return verdict
    # What its own runtime makes of it is for that to say.
    if job.format != ONNX or job.precision in QUANTISED:
        return verdict
    # The device decides, not the file: the same file is native on a GPU.
    emulated = providers.load(provider or providers.standard()).DEVICE == "cpu"
    record = verdict.record.model_copy(update={"arithmetic": "emulated" if emulated else "native"})
    verdict = replace(verdict, record=record)
    # Without the float32 file there is nothing to compare weights or magnitudes with.
    if verdict.error is not None and verdict.error.code in _OF_NUMBERS:
        wrong = StageError(verdict.error.code, verdict.error.message, _IN_FULL)
        return replace(verdict, error=wrong)
    if verdict.error is not None or parent is None:
        return verdict
    traced = references.cases[0]
    # Weights first: comparing them needs no session.
    error = _weight(parent, file)
    # A device that computes in float16 shows infinity by itself.
    failed: Reference | None = traced
    undecided = dict(verdict.undecided)
    if error is None and emulated:
        # Before the arithmetic: an overflow that is named says more than a number that is wrong.
        error = _overflow(parent, file, traced)
    if error is None and emulated:
        error, failed, unsaid = _arithmetic(file, references, job)
        undecided |= unsaid
    if error is None:
        return replace(verdict, undecided=undecided)
    changes = {"status": "failed", "reason": error.message}
    record = record.model_copy(update=changes)
    return replace(verdict, record=record, error=error, failed=failed)


def _weight(parent: Path, file: Path) -> StageError | None:
    found = rounded_weights.changed(parent, file)
    if found is None:
        return None
    hint = "the variant changed it: give a weight that is another one another name"
    return StageError(Code.VERIFY_VALUE, found, hint)


def _overflow(parent: Path, file: Path, traced: Reference) -> StageError | None:
    found = overflow.first(parent, file, traced.inputs)
    if found is None:
        return None
    return StageError(
        Code.VERIFY_NONFINITE,
        f"case {traced.case}: {found}; the CPU computes it in {FULL} and shows finite numbers",
        "let that operator compute in float32 (op_block_list, node_block_list)",
    )


def _arithmetic(
    file: Path, references: References, job: Job
) -> tuple[StageError | None, Reference | None, dict[str, str]]:
    """What the file gives where every float16 tensor is rounded, as on a device."""
    # Dropout off, as for the references; the copy is read here and can go.
    with training.comparable(file, references.disabled_dropout) as runnable:
        model = emulation.emulated(onnx.load(runnable, format="protobuf"))
    graph = structure.light(model)
    # Inputs that the file takes in its own precision are rounded before it sees them.
    cases = [
        replace(
            item,
            inputs={name: _widened(array) for name, array in references.feeds(item).items()},
            outputs=list(map(_widened, item.outputs)),
        )
        for item in references.cases
    ]
    # Their interface is float32 now, as that of the emulated file is.
    asked = replace(references, cases=cases, keeps_io=True)
    with overflow.opened(model) as session:
        del model  # the session holds its own copy of the weights
        error, failed, undecided = verification.arithmetic(session, file, graph, asked, job)
    if error is None:
        return None, None, undecided
    error = StageError(
        error.code,
        f"computed in {job.precision}, as on a device: {error.message}",
        _IN_FULL,
    )
    return error, failed, undecided


def _widened(array: Array) -> Array:
    # Exact: float32 holds every number of float16.
    return array.astype(np.float32) if array.dtype == np.float16 else array
