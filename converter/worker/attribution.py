"""Which step is guilty when numbers differ: the export, the simplifier or the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converter.job import Job, SimplifyRecord
from converter.worker import checking, publishing, simplification
from converter.worker.inputs import Array
from converter.worker.reference import References
from converter.worker.verification import Verdict, verify


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
) -> Proof:
    """Verify ``final``; where it fails, fall back to the unsimplified export and name the guilty.

    ``raw`` is the exporter's own file; ``final`` the one that would ship, rewritten when its
    simplification is taken back.
    """
    verdict = verify(final, references, job, parameters=parameters)
    if verdict.error is None:
        return Proof(verdict, simplify)
    if simplify is not None and simplify.applied:
        simplify = simplification.reverted(simplify, verdict.error.message)
        publishing.save(checking.load(raw), final, job.export)
        verdict = verify(final, references, job, parameters=parameters)
        if verdict.error is None:
            return Proof(verdict, simplify)
    # The same file without ONNX Runtime's optimisations: right there means they are at fault.
    plain = verify(final, references, job, parameters=parameters, optimise=False)
    guilty = "runtime" if plain.error is None else "export"
    record = verdict.record.model_copy(update={"guilty_stage": guilty})
    return Proof(Verdict(record, verdict.error), simplify)
