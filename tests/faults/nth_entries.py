"""Jobs of a trial: the real one, whose result is kept, and one that lays that down again."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path

from entries import Emit
from nth_server import KEPT

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import JobResult
from converter.worker.onnxfile import publishing
from converter.worker.recording.stages import Recorder, StageFailedError

_RESULT = "result.json"


def _folder(job: Job) -> Path:
    # A model of the second night is the same or has another opset.
    return Path(os.environ[KEPT], job.label, str(job.opset))


def keeping(job: Job, emit: Emit) -> JobResult:
    """Do the job, and keep what came of it."""
    module, _, function = job.ENTRY.partition(":")
    result: JobResult = getattr(import_module(module), function)(job, emit)
    folder = _folder(job)
    shutil.copytree(job.staging_dir, folder / "files")
    (folder / _RESULT).write_text(result.model_dump_json())
    return result


def again(job: Job, emit: Emit) -> JobResult:
    """What was kept of a job, written and sealed as the job does it, without its computations."""
    folder = _folder(job)
    result = JobResult.model_validate_json((folder / _RESULT).read_bytes())
    recorder = Recorder(job, emit, lambda error, job: (Code.LOAD, str(error), ""))
    parts = [*result.files, *([result.references] if result.references else [])]
    try:
        for stage in job.STAGES:
            with recorder.stage(stage):
                for part in parts if stage == "publish" else []:
                    path = Path(job.staging_dir, part.path)
                    path.write_bytes((folder / "files" / part.path).read_bytes())
                    assert publishing.sealed(path) == part
    except StageFailedError as failed:
        return JobResult(
            name=job.name,
            artifact=job.artifact,
            status="failed",
            error=failed.error,
            stages=recorder.records,
        )
    return result
