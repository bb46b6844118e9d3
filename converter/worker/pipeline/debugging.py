"""Where the file of a job begins to be wrong: load → reference → export → … → verify → publish.

The job is done again up to the wrong file. Then its values are held against those of a computation
that is right: which one that is follows from where the file is right (``comparisons``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.model.job import Debug, Job
from converter.model.records import ErrorRecord, FileInfo, JobResult, VerifyRecord
from converter.worker.debug import minimal
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, publishing, simplification
from converter.worker.pipeline import comparisons, pipeline
from converter.worker.pipeline.comparisons import (
    AgainstCpu,
    AgainstGraph,
    AgainstTorch,
    AgainstUnoptimised,
    Comparison,
    Searched,
)
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording.stages import Recorder, StageFailedError
from converter.worker.reference import preparing, reference
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime import custom_ops
from converter.worker.sources import loading
from converter.worker.sources.loading import Loaded
from converter.worker.verify import verification
from converter.worker.verify.verification import Verdict


@dataclass
class Found:
    """What has been found out so far; it outlives the stage that fails."""

    files: list[FileInfo] = field(default_factory=list)
    verify: VerifyRecord = field(default_factory=VerifyRecord)


@custom_ops.loaded
def run(job: Debug, emit: Emit) -> JobResult:
    """Find the first wrong node, and write what shows it.

    Returns:
        A result whose files are those of the folder ``Debug.FOLDER``, by their paths in it; none
        where the file is right.
    """
    return result_of(job, emit, lambda recorder, found: _run(job, recorder, found))


def result_of(job: Job, emit: Emit, stages: Callable[[Recorder, Found], None]) -> JobResult:
    """What comes of the stages of a job that looks into a file."""
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe)
    found = Found()
    error: ErrorRecord | None = None
    try:
        stages(recorder, found)
    except StageFailedError as failed:
        error = failed.error
    return JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "failed",
        error=error,
        stages=recorder.records,
        files=found.files,
        verify=found.verify,
    )


def _run(job: Debug, recorder: Recorder, found: Found) -> None:
    with recorder.stage("load"):
        loaded, complete = preparing.load(job)
    with recorder.stage("reference"):
        references = reference.compute(loaded, complete)
        complete = references.of_job(pipeline.named(complete, references))
    folder = Path(job.staging_dir) / "again"
    with recorder.stage("export"):
        exporter = job.exporters[0]
        values = pipeline.parameters(loaded, complete)
        raw = folder / "raw.onnx"
        pipeline.export(exporter, loaded, references, complete, raw)
    with recorder.stage("check"):
        model = checking.exported(raw, complete, references.cases)
        checking.check(model, complete, exporter, set(values))
        del model
    with recorder.stage("verify") as notes:
        suspect = _suspect(_Work(loaded, references, complete, values, folder), raw, job.providers)
        found.verify = suspect.verdict.record
        case = suspect.case
        if suspect.verdict.error is None or case is None:
            notes.append("the file is right on all cases")
            return
        feeds = {**case.inputs, **values}
        file = comparisons.File(suspect.path, complete, case, feeds, folder)
        searched = suspect.comparison.search(file)
    with recorder.stage("publish"):
        found.files = write(job, searched, suspect.verdict.error, case)


@dataclass(frozen=True)
class _Work:
    """The model, and what is known of it."""

    loaded: Loaded
    references: References
    job: Job
    values: dict[str, Array]
    folder: Path

    def verdict(self, path: Path, provider: str | None = None, *, optimise: bool = True) -> Verdict:
        return verification.verify(
            path,
            self.references,
            self.job,
            parameters=self.values,
            optimise=optimise,
            provider=provider,
        )


@dataclass(frozen=True)
class _Suspect:
    """A file, what was found of it, and what its values are to be held against."""

    path: Path
    verdict: Verdict
    comparison: Comparison
    case: Reference | None


def _suspect(work: _Work, raw: Path, providers: Sequence[str]) -> _Suspect:
    """The first thing that is wrong, in the order in which a file is made and run.

    Raises:
        StageError: EP_UNAVAILABLE, where a provider is not there.
    """
    found = _of_file(work, raw, AgainstTorch(work.loaded))
    path = raw
    if found.verdict.error is None and work.job.simplifier is not None:
        path = _simplified(work)
        found = _of_file(work, path, AgainstGraph(raw, work.job.simplifier))
    for provider in providers:
        if found.verdict.error is not None:
            break
        verdict = work.verdict(path, provider)
        if verdict.error is not None and verdict.error.code is Code.EP_UNAVAILABLE:
            raise verdict.error
        # One that does not open the file has come to no case.
        case = verdict.failed or work.references.cases[0]
        found = _Suspect(path, verdict, AgainstCpu(provider), case)
    return found


def _of_file(work: _Work, path: Path, comparison: Comparison) -> _Suspect:
    """A file as users run it, on ONNX Runtime's CPU."""
    verdict = work.verdict(path)
    if verdict.error is None or verdict.failed is None:
        return _Suspect(path, verdict, comparison, verdict.failed)
    plain = work.verdict(path, optimise=False)
    if plain.error is None:
        return _Suspect(path, verdict, AgainstUnoptimised(), verdict.failed)
    shown = plain if plain.failed else verdict
    return _Suspect(path, shown, comparison, shown.failed)


def _simplified(work: _Work) -> Path:
    """The simplified file, which is written beside the export."""
    job, folder = work.job, work.folder
    model = checking.exported(folder / "raw.onnx", job, work.references.cases)
    done = simplification.simplify(
        model, str(job.simplifier), job.simplifier_options, set(), folder
    )
    path = folder / "simplified.onnx"
    publishing.save(done.model or model, path, job.export, {}, folder)
    return path


def write(job: Job, found: Searched, error: StageError, case: Reference) -> list[FileInfo]:
    """Lay what was found in ``Debug.FOLDER``."""
    folder = Path(job.staging_dir) / Debug.FOLDER
    folder.mkdir()
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in case.inputs.items())
    made = f"{job.exporters[0]}, opset {job.opset}" if job.exporters else f"opset {job.opset}"
    told = minimal.Told(
        model=f"{job.label} ({made})",
        case=f"{case.case.label} ({shapes})",
        verdict=f"{error.code}: {error.message}",
        against=found.against,
        comparison=found.words,
        left_out=found.left_out,
        script=found.script,
        notes=found.notes,
        together=found.together,
    )
    names = minimal.write(folder, found.model, found.guilty, found.values, found.constants, told)
    return [
        FileInfo(path=name, bytes=path.stat().st_size, sha256=files.sha256(path))
        for name, path in ((name, folder / name) for name in names)
    ]
