"""Jobs of a trial with kills: the real one, whose result is kept, and one that lays it down again.

Other than those of ``nth_entries.py`` the latter need no torch: each trial has fork servers of its
own, which are there in a moment. They take a while in each stage, as jobs do.
"""

from __future__ import annotations

import os
import shutil
import time
from importlib import import_module
from pathlib import Path

from entries import Emit
from nth_server import KEPT

from converter.layout import files
from converter.model.job import Job
from converter.model.records import JobResult

_RESULT = "result.json"
_STAGE_S = 0.04


def _folder(job: Job) -> Path:
    # A model of another night or point has another opset, and its latency another entry.
    return Path(os.environ[KEPT], job.label, str(job.opset), job.ENTRY.partition(":")[0])


def keeping(job: Job, emit: Emit) -> JobResult:
    """Do the job, and keep what came of it."""
    module, _, function = job.ENTRY.partition(":")
    result: JobResult = getattr(import_module(module), function)(job, emit)
    folder = _folder(job)
    Path(job.staging_dir).mkdir(parents=True, exist_ok=True)
    shutil.copytree(job.staging_dir, folder / "files", dirs_exist_ok=True)
    (folder / _RESULT).write_text(result.model_dump_json())
    return result


def again(job: Job, emit: Emit) -> JobResult:
    """What was kept of a job, written as the job does it, without its computations."""
    folder = _folder(job)
    result = JobResult.model_validate_json((folder / _RESULT).read_bytes())
    parts = [*result.files, *([result.references] if result.references else [])]
    for stage in job.STAGES:
        emit(stage)
        time.sleep(_STAGE_S)
        for part in parts if stage == "publish" else []:
            path = Path(job.staging_dir, part.path)
            path.write_bytes((folder / "files" / part.path).read_bytes())
            files.fsync(path)
    for number in range(len(job.siblings)):
        made = Path(job.sibling(number).staging_dir)
        shutil.copytree(folder / "files" / made.name, made)
    return result
