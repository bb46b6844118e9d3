"""Files of another precision than the model: what they are to be, and what judges them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from converter.model.artifact import FULL, ONNX, QUANTISED, rounding_of
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import CheckRecord, ProviderVerdict
from converter.plugins import providers
from converter.worker.compare import vacuity
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import BFLOAT16, FLOAT16, REDUCED, Reduced
from converter.worker.onnxfile import checking, multiplications, overflow, structure
from converter.worker.onnxfile import precision as held
from converter.worker.onnxfile.checking import LackingKernel
from converter.worker.reference import training
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime import running
from converter.worker.runtime.session import Session
from converter.worker.verify import (
    emulation,
    quantised,
    rounded_weights,
    undecided,
    unrounded,
    verification,
)
from converter.worker.verify.verification import Verdict

EMULATION = "emulation"
"""In place of a provider, where none ran the file."""
# The float32 file is right on the same cases: not the inputs are at fault.
_OF_NUMBERS = (Code.VERIFY_VALUE, Code.VERIFY_NONFINITE, Code.VERIFY_VACUOUS)
_IN_FULL = f"let operators compute in {FULL} (op_block_list, node_block_list), or leave it out"
_OF_RANGE = "let that operator compute in float32 (op_block_list, node_block_list)"
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


def check(model: ModelProto, job: Job, feeds: Mapping[str, Array]) -> CheckRecord:
    """How much of a file is of the precision that it is called by.

    Args:
        feeds: inputs, at whose shapes multiplications are counted.

    Raises:
        StageError: PRECISION_NOT_REACHED.
    """
    kind = REDUCED.get(job.precision)
    if kind is None and job.precision not in QUANTISED:
        return CheckRecord(status="passed")
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    products = multiplications.share(model, job.precision, shapes)
    if kind is None:
        return quantised.check(model, job, products)
    shares = held.shares(model, kind.element)
    record = CheckRecord(
        status="passed",
        precision_weights=round(shares.weights, 4),
        precision_nodes=round(shares.nodes, 4),
        precision_macs=None if products is None else round(products, 4),
    )
    held_back = shares.weights < _LEAST_WEIGHTS or shares.nodes < _LEAST_NODES
    if job.partial:
        held_back = not shares.weights or not shares.nodes
    if held_back:
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
    """The verdict with what outputs cannot show of a file of another precision.

    Args:
        verdict: of ONNX Runtime on the file.
        parent: the float32 file that it was made from, where it is at hand.
    """
    kind = REDUCED.get(job.precision)
    if job.format == ONNX and job.precision in QUANTISED:
        return quantised.judged(verdict, file, parent, references, job, provider)
    if kind is None:
        return verdict
    return _of_16_bits(verdict, file, parent, references, job, kind, provider)


def _of_16_bits(
    verdict: Verdict,
    file: Path,
    parent: Path | None,
    references: References,
    job: Job,
    kind: Reduced,
    provider: str | None,
) -> Verdict:
    """The verdict with what outputs cannot show of a file of 16-bit floats.

    That is a weight that is not the parent's, where the rounding of the others hides it, and, on a
    CPU, arithmetic that rounds or overflows: ONNX Runtime computes float16 in float32 there, and
    bfloat16 hardly at all (``arithmetic: emulated``).

    Args:
        verdict: of ONNX Runtime on the file. Where the CPU has no kernel for the precision, it is
            that of the emulation instead.
        parent: the float32 file that it was made from, where it is at hand.
    """
    # The device decides, not the file: the same file is native on a GPU.
    runs = provider or job.provider or providers.standard()
    emulates = providers.load(runs).DEVICE == "cpu"
    # Its weights and its sums are for the runtime of its format to check.
    if job.format != ONNX:
        return _told(verdict, None, job, emulates=emulates)
    lacking = _lacking(verdict.error, file, kind) if emulates else None
    if lacking is not None:
        verdict = _emulated(file, references, job, lacking, provider)
    if parent is not None:
        verdict, references = _cleared(verdict, file, parent, references, job)
    verdict = _told(verdict, lacking, job, emulates=emulates)
    # Without the float32 file there is nothing to compare weights or magnitudes with.
    if verdict.error is not None and verdict.error.code in _OF_NUMBERS:
        wrong = _spoilt(verdict.error, references, job)
        record = verdict.record.model_copy(update={"reason": wrong.message})
        return replace(verdict, record=record, error=wrong)
    if verdict.error is not None or parent is None:
        return verdict
    found = _Found(dict(verdict.undecided))
    # Weights first: comparing them needs no session.
    found.error, found.failed = _weight(parent, file), references.cases[0]
    # A device that computes in 16 bits shows infinity by itself.
    if found.error is None and emulates:
        # Before the arithmetic: an overflow that is named says more than a number that is wrong.
        _overflow(parent, file, references, kind, found)
    if found.error is None and emulates and lacking is None:
        _arithmetic(file, references, job, kind, found)
    return found.over(verdict)


def _told(verdict: Verdict, lacking: LackingKernel | None, job: Job, *, emulates: bool) -> Verdict:
    changes: dict[str, object] = {"arithmetic": "emulated" if emulates else "native"}
    if lacking is not None and verdict.error is None:
        said = f"{lacking}: verified in {FULL}, with every result rounded to {job.precision}"
        changes["reason"] = "; ".join(filter(None, (said, verdict.record.reason)))
    return replace(verdict, record=verdict.record.model_copy(update=changes))


def _cleared(
    verdict: Verdict, file: Path, parent: Path, references: References, job: Job
) -> tuple[Verdict, References]:
    """The verdict on a file whose outputs agree, by a tolerance that could hide something.

    With the references that its arithmetic is judged by.
    """
    if verdict.error is None or verdict.error.code is not Code.VERIFY_VACUOUS:
        return verdict, references
    if _excused(references):
        return _without_rounding(verdict, file, parent, references, job), references
    # The tolerance comes from the model in 16 bits throughout; of `mixed` a part of it is not.
    least = vacuity.TOLERATED * _move(references)
    stated = job.verify.rtol is not None or job.verify.atol is not None
    errors = [output.rel_l2 or 0.0 for case in verdict.record.cases for output in case.outputs]
    if stated or not errors or max(errors) > least:
        return verdict, references
    said = f"outputs are right to {least:.2g} of their scale, a quarter of what inputs move them by"
    changes = {"status": "passed", "reason": said}
    record = verdict.record.model_copy(update=changes)
    return replace(verdict, record=record, error=None), references.within(least)


def _without_rounding(
    verdict: Verdict, file: Path, parent: Path, references: References, job: Job
) -> Verdict:
    """The verdict on a file whose graph is looked at without rounding, or the one that it has."""
    kind = REDUCED[job.precision]
    cases = [item.inputs for item in references.cases if item.case.label in verdict.passed]
    if not cases or not unrounded.same(file, parent, kind, cases):
        return verdict
    said = (
        f"{kind.name} rounds outputs by more than a quarter of what they move by for other inputs: "
        f"the graph was verified without rounding, against the {FULL} file"
    )
    changes = {"status": "passed", "reason": said}
    return replace(verdict, record=verdict.record.model_copy(update=changes), error=None)


def _excused(references: References) -> bool:
    """Whether it is no fault of the file that rounding is a large part of what an output moves by.

    That is so of weights that were drawn and conditioned here, and of an output that moves by so
    little that the error which is allowed where no rounding is known would hide it. Any other
    output is spoilt by the precision.
    """
    bounds = references.bounds
    little = vacuity.TOLERATED * _move(references) < bounds.times * bounds.unknown
    return references.conditioned or little


def _move(references: References) -> float:
    """What other inputs move the output by that answers least to them, as a share of its scale."""
    told = references.sensitivity
    return told.input_delta if told is not None and told.input_delta is not None else 0.0


def _spoilt(error: StageError, references: References, job: Job) -> StageError:
    """The error of a file in 16 bits with what the precision does to the model, and a way out."""
    bounds, noise = references.bounds, references.known_noise
    message, hint = error.message, _IN_FULL
    floor = max((each or 0.0 for each in noise.floors), default=0.0) if noise is not None else 0.0
    if error.code is not Code.VERIFY_NONFINITE and bounds.times * floor > bounds.loosest:
        message += f"; {job.precision} rounds this model by {floor:.0%} of its output"
    if job.precision == FLOAT16.name and not job.partial:
        hint += f"; the variant mixed looks for those that need {FULL}"
    return StageError(error.code, message, hint)


@dataclass
class _Found:
    """What is found beside the outputs: the first error, and cases that say nothing."""

    undecided: dict[str, str]
    error: StageError | None = None
    failed: Reference | None = None

    def over(self, verdict: Verdict) -> Verdict:
        """The verdict of the outputs with what was found besides."""
        if self.error is None:
            return replace(verdict, undecided=self.undecided)
        changes = {"status": "failed", "reason": self.error.message}
        record = verdict.record.model_copy(update=changes)
        return replace(verdict, record=record, error=self.error, failed=self.failed)


def _weight(parent: Path, file: Path) -> StageError | None:
    found = rounded_weights.changed(parent, file)
    if found is None:
        return None
    hint = "the variant changed it: change a weight in the model, or before its float32 file"
    return StageError(Code.VERIFY_VALUE, found, hint)


def _overflow(
    parent: Path, file: Path, references: References, kind: Reduced, found: _Found
) -> None:
    """Look for results beyond the range, in every case."""
    with overflow.opened(parent, file, kind) as overflows:
        for item in references.cases:
            label = item.case.label
            if label in found.undecided or 0 in item.case.sizes.values():
                continue  # nothing is said of it, or it has no elements
            # NaN and infinity of other cases show in their outputs, which are judged next.
            beyond = overflows.first(item.inputs, both=item.case.stated)
            if beyond is None:
                continue
            # A pattern of larger numbers says where the range ends, and not that the file is wrong.
            if not item.case.stated and undecided.is_larger(item, references):
                found.undecided[label] = f"out of range: {beyond}"
                continue
            found.failed = item
            shown = f"; the CPU computes it in {FULL} and shows finite numbers"
            told = shown if math.isfinite(beyond.largest) else ""
            message = f"case {item.case}: {beyond}{told}"
            found.error = StageError(Code.VERIFY_NONFINITE, message, _OF_RANGE)
            return


def _arithmetic(file: Path, references: References, job: Job, kind: Reduced, found: _Found) -> None:
    """Judge what the file gives where every tensor of 16 bits is rounded, as on a device."""
    # Dropout off, as for the references; the copy is read here and can go.
    with training.comparable(file, references.disabled_dropout) as runnable:
        model = emulation.emulated(onnx.load(runnable, format="protobuf"), kind)
    graph = structure.light(model)
    decided = [item for item in references.cases if item.case.label not in found.undecided]
    asked = _in_full(replace(references, cases=decided))
    with overflow.session_of(model) as session:
        del model  # the session holds its own copy of the weights
        error, failed, unsaid = verification.arithmetic(session, file, graph, asked, job)
    found.undecided |= unsaid
    if error is None:
        return
    found.failed = failed
    said = f"computed in {job.precision}, as on a device: {error.message}"
    # What was measured there is in `asked`, whose cases are copies.
    found.error = _spoilt(StageError(error.code, said), asked, job)


def _emulated(
    file: Path, references: References, job: Job, lacking: LackingKernel, provider: str | None
) -> Verdict:
    """The verdict on a file that no kernel of the CPU computes, by its emulation alone."""
    with computable(file, references, job) as (path, asked):
        verdict = verification.verify(
            path,
            asked,
            job,
            # ONNX Runtime's optimisations would be those of another graph.
            optimise=False,
            # What the file says of itself is judged, not what its emulation does.
            graph=structure.read(file),
            declared=references.declared,
        )
    # Nothing ran the file itself, and no record may say so.
    name = provider or providers.standard()
    changes: dict[str, object] = {
        "cases": [case.model_copy(update={"provider": EMULATION}) for case in verdict.record.cases],
        "providers": [ProviderVerdict(provider=name, version=running.versions(name),
                                      status="unavailable", reason=str(lacking))],
    }  # fmt: skip
    return replace(verdict, record=verdict.record.model_copy(update=changes))


@contextmanager
def computable(file: Path, references: References, job: Job) -> Iterator[tuple[Path, References]]:
    """A file that a CPU runs in place of one, and the references as it takes and gives them.

    It is the file itself, unless the CPU has no kernels for its precision: then its emulation in
    float32.
    """
    kind = REDUCED.get(job.precision)
    if kind is None or job.format != ONNX or _opens(file, kind):
        yield file, references
        return
    model = emulation.emulated(onnx.load(file, format="protobuf"), kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "emulated.onnx"
        outside = structure.weight_bytes(model) > overflow.MOST_BYTES
        onnx.save_model(model, path, save_as_external_data=outside, location="weights")
        del model
        yield path, _in_full(references)


def _opens(file: Path, kind: Reduced) -> bool:
    if kind is not BFLOAT16:  # of float16 the CPU computes everything
        return True
    try:
        Session(structure.skeleton(structure.read(file)).SerializeToString(), optimise=False)
    except StageError as error:
        return _lacking(error, file, kind) is None
    return True


def _lacking(error: StageError | None, file: Path, kind: Reduced) -> LackingKernel | None:
    """The operator that a CPU refuses a file for, where it has no kernel in the precision."""
    if error is None or error.code is not Code.SESSION:
        return None
    lacking = checking.lacking_kernel(error, lambda: structure.read(file))
    return lacking if lacking is not None and lacking.precision == kind.name else None


def _in_full(references: References) -> References:
    """The references as the emulation takes and gives them: in float32.

    What the file takes in its own precision is rounded before it sees it.
    """
    cases = [
        replace(
            item,
            inputs={name: _widened(array) for name, array in references.feeds(item).items()},
            outputs=list(map(_widened, item.outputs)),
        )
        for item in references.cases
    ]
    return replace(references, cases=cases, keeps_io=True)


def _widened(array: Array) -> Array:
    # Exact: float32 holds every number of 16 bits.
    return array.astype(np.float32) if array.dtype.name in REDUCED else array
