"""Which step is at fault when numbers differ: the export, the simplifier or the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from converter.model.errors import StageError
from converter.model.job import Job
from converter.model.records import FaultyStage, SimplifyRecord
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, publishing, simplification, structure
from converter.worker.reference.reference import References
from converter.worker.verify import stamp
from converter.worker.verify.verification import Verdict, verify

# Where the simplifier is at fault its work is taken back, and the file is right.
_ADVICE = {
    "export": "the export itself is wrong: an operator became another one",
    "runtime": "the file is right without ONNX Runtime's graph optimisations, and wrong with them: "
    "another version of ONNX Runtime may do better",
}


@dataclass(frozen=True)
class Proof:
    """The verdict on the file that would ship, what became of its simplification, what is in it."""

    verdict: Verdict
    simplify: SimplifyRecord | None
    graph: ModelProto


def prove(
    raw: Path,
    final: Path,
    graph: ModelProto,
    simplify: SimplifyRecord | None,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
    told: Mapping[str, str],
) -> Proof:
    """Verify ``final``; where it fails, fall back to the plain export and name the step at fault.

    The export is judged first: where it is wrong itself, nothing that follows can be right. Where
    it is right, the simplifier or ONNX Runtime's optimisations have spoiled it.

    Args:
        raw: the exporter's own file.
        final: the one that would ship, rewritten when its simplification is taken back.
        graph: what is in it; its weights do not matter.
        told: what its ``metadata_props`` say.
    """
    # With optimisations, as users run it.
    verdict = verify(final, references, job, parameters=parameters, graph=graph)
    if verdict.error is None:
        return Proof(verdict, simplify, graph)
    # The same file without ONNX Runtime's optimisations: right there means they are at fault.
    plain = verify(final, references, job, parameters=parameters, optimise=False, graph=graph)
    # Nothing was simplified, so only the export and the runtime are left to blame.
    if simplify is None or not simplify.applied:
        faulty: FaultyStage = "export" if plain.error else "runtime"
        return Proof(blamed(verdict, faulty), simplify, graph)
    # Taken back before the plain file is judged: the row keeps the simplifier's error also where
    # the export turns out to be wrong itself.
    simplify = simplification.reverted(simplify, verdict.error.message)
    # From the disk: the exporter's weights are not kept in memory for the rare case of a failure.
    model = checking.exported(raw, job, references.cases)
    # With the words that were promised: `conclusion.told` relies on the file saying them.
    publishing.save(model, final, job.export, stamp.unsimplified(told), raw.parent)
    graph = structure.light(model)
    del model  # the session holds its own copy of the weights
    verdict = verify(final, references, job, parameters=parameters, graph=graph)
    if verdict.error is None:
        # `plain` was the simplified file: wrong without optimisations too, it is not their fault.
        return Proof(blamed(verdict, "simplify" if plain.error else "runtime"), simplify, graph)
    # The file is another one by now, of which the first answer says nothing.
    plain = verify(final, references, job, parameters=parameters, optimise=False, graph=graph)
    return Proof(blamed(verdict, "export" if plain.error else "runtime"), simplify, graph)


def blamed(verdict: Verdict, faulty: FaultyStage) -> Verdict:
    """The verdict with its faulty stage, which is the hint where there is none."""
    record = verdict.record.model_copy(update={"faulty_stage": faulty})
    error = verdict.error
    # A hint that is there knows the case or the axis, and says more than the stage does.
    if error is not None and not error.hint:
        error = StageError(error.code, error.message, _ADVICE.get(faulty, ""))
    return replace(verdict, record=record, error=error)
