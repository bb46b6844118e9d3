"""Make one artifact from another one that is there: load → derive → check → verify → publish.

The plugin makes files. Everything that says whether they are right is the same code as for the
file that they are made from, on the same cases.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from converter.layout.files import sha256
from converter.model.artifact import ONNX, QUANTISED
from converter.model.errors import Code, StageError
from converter.model.job import Derived, Job
from converter.model.records import (
    AccuracyRecord,
    CheckRecord,
    ErrorRecord,
    FileInfo,
    JobResult,
    MadeRecord,
    OnnxInfo,
    VerifyRecord,
)
from converter.worker.onnxfile import checking, publishing, structure
from converter.worker.pipeline import giving, making, onnx_wording
from converter.worker.pipeline.judging import Judge
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording.stages import OnError, Recorder, StageFailedError
from converter.worker.reference import kept
from converter.worker.reference.kept import Kept
from converter.worker.reference.reference import References
from converter.worker.runtime import custom_ops, starting
from converter.worker.sources import data, loading
from converter.worker.verify import mutation, precision, real, runtimes, verification
from converter.worker.verify.settled import settled
from converter.worker.verify.verification import Verdict


@dataclass
class _Done:
    """What has been found out so far; it outlives the stage that fails."""

    made: MadeRecord | None = None
    accuracy: AccuracyRecord | None = None
    check: CheckRecord = field(default_factory=CheckRecord)
    verify: VerifyRecord = field(default_factory=VerifyRecord)
    files: list[FileInfo] = field(default_factory=list)
    onnx: OnnxInfo | None = None


@custom_ops.loaded
def run(job: Derived, emit: Emit, on_error: OnError | None = None) -> JobResult:
    """Make and prove one artifact.

    Returns:
        The result; its files lie in ``job.staging_dir``, paths relative to that.
    """
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe, on_error)
    done = _Done()
    error: ErrorRecord | None = None
    try:
        _run(job, recorder, done)
    except StageFailedError as failed:
        error = failed.error
    check = CheckRecord.of(recorder.records)
    result = JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "oom" if error.code is Code.MEM_LIMIT else "failed",
        error=error,
        stages=recorder.records,
        files=done.files,
        onnx=done.onnx,
        check=done.check.model_copy(update={"status": check.status}),
        verify=done.verify,
        made=done.made,
        accuracy=done.accuracy,
    )
    return onnx_wording.of_result(result, job)


def _run(job: Derived, recorder: Recorder, done: _Done) -> None:
    final, parent = Path(job.staging_dir) / job.target, Path(job.parent_file)
    with recorder.stage("load"):
        _require_runtime(job, done)
        _unchanged(job)
        custom_ops.require(job)
        found = kept.read(Path(job.references), job)
        # With inputs and outputs of the types that the variant declares.
        references = precision.asked_of(found.references, job)
        judge = Judge(job, found, references, structure.read(parent))
        judged = _judging(judge, data.metric(job))
    with recorder.stage("derive"):
        # The whole verdict: a plugin that searches has to see what decides in the end.
        given = giving.given(job, found, judge.parent, judged)
        done.made = making.make(job, final, given)
        # Once more: a plugin that writes into its parent's folder would be compared with itself.
        _unchanged(job)
    with recorder.stage("check"):
        done.check = _checked(job, found, final)
    with recorder.stage("verify"):
        verdict = judged(final)
        verdict = replace(verdict, record=_calibrated(verdict.record, done.made))
        done.verify, done.accuracy = verdict.record, verdict.accuracy
        if verdict.error is not None:
            raise verdict.error
        if job.verify.mutations and job.format == ONNX:
            verdict = _mutated(job, found.job, final, verdict, references)
            done.verify = verdict.record
            if verdict.error is not None:
                raise verdict.error
    with recorder.stage("publish"):
        if job.format == ONNX:
            graph = structure.read(final)
            done.files = publishing.seal(final, graph)
            done.onnx = publishing.described(graph, job, job.plugin, None)
        else:
            done.files = publishing.seal_all(final, job.belongings)


def _judging(judge: Judge, metric: Callable[..., Any] | None) -> Callable[[Path], Verdict]:
    """What gives the verdict on a file: on the cases, and on what real samples say of it."""
    asked, references = judge.found.job, judge.references

    def judged(path: Path) -> Verdict:
        verdict = judge.verdict(path)
        if all(item.case.real is None for item in references.cases):
            return verdict
        with precision.computable(path, references, judge.job) as (file, fed):
            return settled(real.judged(verdict, file, fed, asked, {}, metric, judge.source))

    return judged


def _require_runtime(job: Derived, done: _Done) -> None:
    """Raise where this machine lacks what verifies the file, before it is made.

    Raises:
        StageError: EP_UNAVAILABLE.
    """
    if not job.provider:
        return
    try:
        starting.require(job.provider, job.provider_options)
    except StageError as error:
        verdict = verification.of_provider(job.provider, error, job)
        done.verify = VerifyRecord(providers=[verdict])
        raise


def _checked(job: Derived, found: Kept, final: Path) -> CheckRecord:
    """Whether the file is sound and of its precision.

    Raises:
        StageError: CHECKER and others; PRECISION_NOT_REACHED.
    """
    if job.format != ONNX:
        return runtimes.check(final, Path(job.parent_file), job)
    model = checking.load(final)
    # With the parent's request: a variant keeps opset, names and axes.
    asked = found.job
    if job.precision in QUANTISED:
        # The integers are called otherwise, and their scales stand beside them.
        export = asked.export.model_copy(update={"parameter_names": []})
        asked = asked.model_copy(update={"export": export})
    checking.check(model, asked, job.plugin, set(), job.precision)
    return precision.check(model, job, found.references.cases[0].inputs)


def _calibrated(record: VerifyRecord, made: MadeRecord) -> VerifyRecord:
    """The record of a right file, which says where its ranges are not of the user's data."""
    found = made.calibration
    if record.status != "passed" or found is None or found.kind == "data":
        return record
    said = f"calibrated on {found.samples} drawn inputs, not on data"
    reason = "; ".join(text for text in (record.reason, said) if text)
    return record.model_copy(update={"reason": reason})


def _beyond_outputs(
    job: Derived, references: References, asked: Job, damaged: Path, verdict: Verdict
) -> StageError | None:
    """What is wrong with a damaged copy that its outputs do not show."""
    if job.precision not in QUANTISED:
        return None
    return precision.judged(verdict, damaged, Path(job.parent_file), references, asked).error


def _mutated(
    job: Derived, asked: Job, final: Path, verdict: Verdict, references: References
) -> Verdict:
    """The verdict with the count of damages that were noticed, or VERIFY_VACUOUS."""
    folder = Path(job.staging_dir) / "damaged"
    folder.mkdir()
    judge = functools.partial(_beyond_outputs, job, references, asked)
    with precision.computable(final, references, job) as (file, fed):
        verdict = mutation.prove(file, verdict, fed, asked, {}, folder, judge)
    shutil.rmtree(folder)
    return settled(verdict)


def _unchanged(job: Derived) -> None:
    """Raise where the parent, or what was kept of it, is not what the runner hashed."""
    parent, references = Path(job.parent_file), Path(job.references)
    wanted = {parent.parent / name: wanted for name, wanted in job.parent_files.items()}
    for path, expected in {**wanted, references: job.references_sha256}.items():
        if not path.is_file() or sha256(path) != expected:
            raise StageError(
                Code.INPUT_CHANGED,
                f"{path.name} of {job.parent} is not the file that was verified",
                f"nothing may write there; if the plugin {job.plugin} does, it is at fault",
            )
