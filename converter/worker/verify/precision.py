"""Files of another precision than the model: what they are to be, and what judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from converter.model.errors import Code, StageError
from converter.model.job import ONNX, QUANTISED, CheckRecord, Job, rounding_of
from converter.plugins import providers
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import multiplications, quantised, structure
from converter.worker.onnxfile import precision as held
from converter.worker.reference import training
from converter.worker.reference.reference import Reference, References
from converter.worker.verify import (
    accuracy,
    emulation,
    overflow,
    quantised_weights,
    rounded_weights,
    verification,
)
from converter.worker.verify.verification import Verdict

FULL = "float32"
# The float32 file is right on the same cases: not the inputs are at fault.
_OF_NUMBERS = (Code.VERIFY_VALUE, Code.VERIFY_NONFINITE, Code.VERIFY_VACUOUS)
_OF_WEIGHTS = "the variant changed it: give a weight that is another one another name"
_OF_RANGES = "calibrate on samples of the scale that the model is verified on (`data`)"
_IN_FULL = f"let operators compute in {FULL} (op_block_list, node_block_list), or leave it out"
_TYPES = {"float16": TensorProto.FLOAT16}
# Of the weights and of the nodes with floats: normalisations and what nobody has in half may stay.
_LEAST_WEIGHTS, _LEAST_NODES = 0.5, 0.2
# Of a quantised file the weights and the multiplications. Tables of a language model may hold more
# than its matrices, which are all that has four bits.
_LEAST = {"int8": (0.5, 0.2), "int4": (0.2, 0.5)}
_KINDS = {"int8": quantised.EIGHT, "int4": quantised.FOUR}


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


def check(model: ModelProto, job: Job, feeds: Mapping[str, Array]) -> CheckRecord:
    """How much of a file is of the precision that it is called by.

    Args:
        feeds: inputs, at whose shapes multiplications are counted.

    Raises:
        StageError: PRECISION_NOT_REACHED.
    """
    if job.precision == FULL:
        return CheckRecord(status="passed")
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    products = multiplications.share(model, job.precision, shapes)
    if job.precision in QUANTISED:
        return _quantised(model, job, products)
    if job.precision not in _TYPES:
        return CheckRecord(status="passed")
    shares = held.shares(model, _TYPES[job.precision])
    record = CheckRecord(
        status="passed",
        precision_weights=round(shares.weights, 4),
        precision_nodes=round(shares.nodes, 4),
        precision_macs=None if products is None else round(products, 4),
    )
    if shares.weights < _LEAST_WEIGHTS or shares.nodes < _LEAST_NODES:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"only {shares.weights:.0%} of the weights and {shares.nodes:.0%} of the nodes with "
            f"floats are {job.precision}",
            f"shorten what is kept in {FULL} (op_block_list), or leave this variant out",
        )
    return record


def _quantised(model: ModelProto, job: Job, products: float | None) -> CheckRecord:
    """Of the weights that are integers, and of the products that are of integers."""
    integers = [item for item in quantised.weights(model) if item.kind in _KINDS[job.precision]]
    count = sum(item.elements for item in integers)
    others = held.float_elements(model, quantised.scales(model))
    # Those of the other width are no weights of this precision either.
    others += sum(i.elements for i in quantised.weights(model) if i.kind in _other(job.precision))
    share = count / (count + others) if count else 0.0
    record = CheckRecord(
        status="passed",
        precision_weights=round(share, 4),
        precision_macs=None if products is None else round(products, 4),
    )
    least_weights, least_products = _LEAST[job.precision]
    if count and share >= least_weights and (products or 0.0) >= least_products:
        return record
    reached = f"{share:.0%} of the weights and {products or 0.0:.0%} of the multiplications"
    raise StageError(
        Code.PRECISION_NOT_REACHED,
        f"only {reached} are {job.precision}" if count else f"no weight is {job.precision}",
        f"shorten what is kept in {FULL} (op_block_list, node_block_list), or leave this variant "
        "out",
    )


def _other(precision: str) -> frozenset[int]:
    return quantised.FOUR if precision == "int8" else quantised.EIGHT


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
    # What its own runtime makes of another format is for that to say.
    if job.precision == FULL or job.format != ONNX:
        return verdict
    if job.precision in QUANTISED:
        return _by_accuracy(verdict, file, parent, references, job)
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


def _by_accuracy(
    verdict: Verdict, file: Path, parent: Path | None, references: References, job: Job
) -> Verdict:
    """The verdict with what integers stand for, and how much of the signal they keep."""
    if verdict.error is not None:
        return verdict
    traced = references.cases[0]
    compared = None if parent is None else quantised_weights.compare(parent, file)
    error = None
    if compared is not None and compared.wrong:
        error = StageError(Code.VERIFY_VALUE, compared.wrong, _OF_WEIGHTS)
    if error is None and parent is not None:
        # Real samples where there are any: the traced example may be of another distribution.
        _, items = accuracy.measured(references, verdict.undecided)
        outside = quantised_weights.cut_off(parent, file, references.feeds(items[0]))
        error = StageError(Code.VERIFY_VALUE, outside, _OF_RANGES) if outside else None
    found, failed = accuracy.judge(file, parent, references, job, verdict.undecided)
    if compared is not None:
        found = found.model_copy(update={"weights_compared": compared.weights})
    error = error or failed
    if error is None:
        return replace(verdict, accuracy=found)
    changes = {"status": "failed", "reason": error.message}
    record = verdict.record.model_copy(update=changes)
    return replace(verdict, record=record, error=error, failed=traced, accuracy=found)


def _weight(parent: Path, file: Path) -> StageError | None:
    found = rounded_weights.changed(parent, file)
    if found is None:
        return None
    return StageError(Code.VERIFY_VALUE, found, _OF_WEIGHTS)


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
