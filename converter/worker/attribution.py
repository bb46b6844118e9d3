"""Which step is guilty when numbers differ: the export, the simplifier or the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converter.errors import StageError
from converter.job import GuiltyStage, Job, SimplifyRecord
from converter.worker import checking, publishing, simplification
from converter.worker.inputs import Array
from converter.worker.reference import References
from converter.worker.verification import Verdict, verify

# Where the simplifier is guilty its work is taken back, and the file is right.
_GUILTY = {
    "export": "the export itself is wrong: an operator became another one",
    "runtime": "the file is right without ONNX Runtime's graph optimisations, and wrong with them: "
    "another version of ONNX Runtime may do better",
}


@dataclass(frozen=True)
class Proof:
    """The verdict on the file that would ship, and what became of its simplification."""

    verdict: Verdict
    simplify: SimplifyRecord | None


def prove(
    raw: Path,
    final: Path,
    simplify: SimplifyRecord | None,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
    told: Mapping[str, str],
) -> Proof:
    """Verify ``final``; where it fails, fall back to the unsimplified export and name the guilty.

    The export is judged first: where it is wrong itself, nothing that follows can be right. Where
    it is right, the simplifier or ONNX Runtime's optimisations have spoiled it.

    Args:
        raw: the exporter's own file.
        final: the one that would ship, rewritten when its simplification is taken back.
        told: what its ``metadata_props`` say.
    """
    verdict = verify(final, references, job, parameters=parameters)
    if verdict.error is None:
        return Proof(verdict, simplify)
    # The same file without ONNX Runtime's optimisations: right there means they are at fault.
    plain = verify(final, references, job, parameters=parameters, optimise=False)
    if simplify is None or not simplify.applied:
        return _blamed(verdict, "export" if plain.error else "runtime", simplify)
    simplify = simplification.reverted(simplify, verdict.error.message)
    publishing.save(checking.exported(raw, job, references.cases), final, job.export, told)
    verdict = verify(final, references, job, parameters=parameters)
    if verdict.error is None:
        return _blamed(verdict, "simplify" if plain.error else "runtime", simplify)
    plain = verify(final, references, job, parameters=parameters, optimise=False)
    return _blamed(verdict, "export" if plain.error else "runtime", simplify)


def _blamed(verdict: Verdict, guilty: GuiltyStage, simplify: SimplifyRecord | None) -> Proof:
    return Proof(blamed(verdict, guilty), simplify)


def blamed(verdict: Verdict, guilty: GuiltyStage) -> Verdict:
    """The verdict with its guilty stage, which is the hint where there is none."""
    record = verdict.record.model_copy(update={"guilty_stage": guilty})
    error = verdict.error
    if error is not None and not error.hint:
        error = StageError(error.code, error.message, _GUILTY.get(guilty, ""))
    return replace(verdict, record=record, error=error)
