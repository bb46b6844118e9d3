"""The files of one model for later points of a sweep, from one load and one set of references.

Each is made in a child of the job's process, forked before any exporter has run: it begins where a
job of its own would, and makes the same bytes. What fails here is made again by its own point,
where it is told; so nothing of it is recorded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from converter.layout import delivery
from converter.model import manifest
from converter.model.job import Job
from converter.model.records import Apart, JobResult, WorkerEvent
from converter.worker.recording import isolation
from converter.worker.sources.loading import Loaded

_PART = "result.part"


def make(
    job: Job,
    loaded: Loaded,
    emit: Callable[[WorkerEvent], None],
    convert: Callable[[Job], JobResult],
) -> None:
    """Make what is asked for beside the job's own file, each in its folder.

    Args:
        convert: carries a job from its export to its result.
    """
    if loaded.device.type != "cpu":  # no fork may use a device that its parent has used
        return
    for number in range(len(job.siblings)):
        emit(Apart(begins=True))
        _made(job.sibling(number), job.sibling_s, convert)
        emit(Apart(begins=False))


def _made(job: Job, seconds: float, convert: Callable[[Job], JobResult]) -> None:
    folder = Path(job.staging_dir)
    folder.mkdir()

    def work() -> None:
        os.dup2(2, 1)  # what it prints is none of the job's log
        # A fork has none of the threads of OpenMP, and would wait for them for ever. PyTorch has
        # computed all that counts: here it is only traced.
        torch.set_num_threads(1)
        result = convert(job)
        if result.status == "ok":
            (folder / _PART).write_text(manifest.dump(result))

    try:
        isolation.run(work, seconds, None, folder / delivery.LOG)
        # Only now: a child that has written it may still have crashed.
        (folder / _PART).rename(folder / delivery.RESULT)
    except (isolation.ChildError, OSError) as error:
        print(f"opset {job.opset} of a later point was not made along with this one: {error}")
        shutil.rmtree(folder, ignore_errors=True)
