"""Verify a file that is there already against its source: load → reference → verify.

The verdict is by numbers. Names of nodes, producer and hash do not matter; inputs are matched by
name, because that is how they are fed, outputs by position.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from converter.errors import Code, StageError
from converter.job import ErrorRecord, Job, JobResult, Recheck
from converter.worker import (
    checking,
    loading,
    pipeline,
    preparing,
    publishing,
    reference,
    structure,
    verification,
)
from converter.worker.loading import Loaded
from converter.worker.pipeline import Emit
from converter.worker.reference import References
from converter.worker.stages import Recorder, StageFailedError
from converter.worker.verification import Verdict


@dataclass
class _Found:
    """What has been found out so far; it outlives the stage that fails."""

    loaded: Loaded | None = None
    references: References | None = None
    verdict: Verdict | None = None


def run(job: Recheck, emit: Emit) -> JobResult:
    """Compute the reference from the source again and compare the file with it.

    Returns:
        A result without an artifact; ``guilty_stage`` is ``runtime`` where the file is right
        without ONNX Runtime's optimisations.
    """
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe)
    found = _Found()
    error: ErrorRecord | None = None
    try:
        _run(job, recorder, found)
    except StageFailedError as failed:
        error = failed.error
    result = JobResult(
        name=job.name,
        status="ok" if error is None else "failed",
        error=error,
        stages=recorder.records,
        device=str(found.loaded.device) if found.loaded else None,
        weights_sha256=found.loaded.weights_sha256 if found.loaded else None,
        conditioned=found.loaded.conditioned if found.loaded else None,
    )
    if found.verdict is not None:
        result = result.model_copy(update={"verify": found.verdict.record})
    elif found.references is not None and found.references.vacuous is not None:
        result = result.model_copy(update={"verify": verification.vacuous(found.references)})
    return result


def _run(job: Recheck, recorder: Recorder, found: _Found) -> None:
    with recorder.stage("load"):
        found.loaded, complete = preparing.load(job)
    with recorder.stage("reference") as notes:
        found.references = reference.compute(found.loaded, complete)
        notes += found.references.warnings
        if found.references.vacuous is not None:
            raise found.references.vacuous
    with recorder.stage("verify"):
        found.verdict = verify(Path(job.file), complete, found.loaded, found.references)
        if found.verdict.error is not None:
            raise found.verdict.error


def verify(
    file: Path, job: Job, loaded: Loaded, references: References, provider: str = "cpu"
) -> Verdict:
    """The verdict on a file, and the guilty stage where it is wrong.

    Args:
        provider: to run it on; a module of ``converter.providers``.

    Raises:
        StageError: CHECKER, INPUT_DROPPED.
    """
    values = pipeline.parameters(loaded, job)
    _check_inputs(file, list(job.inputs), values)
    if references.silenced:
        # The copy without dropout is written beside the file: not into somebody's archive.
        copy = Path(job.staging_dir) / f"{job.name}.onnx"
        publishing.save(checking.load(file), copy, job.export)
        file = copy
    verdict = verification.verify(file, references, job, parameters=values, provider=provider)
    if verdict.error is None:
        return verdict
    plain = verification.verify(
        file, references, job, parameters=values, provider=provider, optimise=False
    )
    guilty = "runtime" if plain.error is None else None
    return Verdict(verdict.record.model_copy(update={"guilty_stage": guilty}), verdict.error)


def _check_inputs(file: Path, wanted: list[str], parameters: Collection[str]) -> None:
    """Raise where the file is no model, or cannot be fed what the source is fed.

    Raises:
        StageError: CHECKER, INPUT_DROPPED.
    """
    model = structure.read(file)
    declared = [value.name for value in structure.graph_inputs(model)]
    needed = [value.name for value in structure.fed_inputs(model)]
    missing = [name for name in wanted if name not in declared]
    unknown = [name for name in needed if name not in wanted and name not in parameters]
    if missing or unknown:
        complaints = [f"has no input {', '.join(missing[:5])}"] if missing else []
        complaints += [f"needs {', '.join(unknown[:5])}, which the source lacks"] if unknown else []
        raise StageError(
            Code.INPUT_DROPPED,
            f"the file {' and '.join(complaints)}",
            f"inputs are matched by name: the source has {', '.join(wanted)}",
        )
