"""Runs each job in this very process: for replay and debugging. No limits, no isolation."""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Sequence

from converter.layout.delivery import clear_staging
from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.model.records import WorkerEvent
from converter.plugins.executors import Events, Executor, Finished, StageEntered, Started
from converter.processes.outcome import io_failure, left


class InlineExecutor:
    """Args: entry: ``module:function`` in place of that of each job."""

    def __init__(self, entry: str | None = None) -> None:
        self._entry = entry

    def workers(self) -> int:
        return 1

    def run(self, jobs: Sequence[Job]) -> Events:
        # The runner's own deque, not a copy: it appends what follows from a file.
        waiting = jobs if isinstance(jobs, deque) else deque(jobs)
        while waiting:
            job = waiting.popleft()
            module, _, function = (self._entry or job.ENTRY).partition(":")
            yield Started(job.label, 1, os.getpid())
            try:
                clear_staging(job)
            except OSError as error:
                # The exception would end the generator, and with it the jobs that follow.
                yield Finished(io_failure(job, error))
                continue
            news: list[WorkerEvent] = []
            try:
                result = getattr(importlib.import_module(module), function)(job, news.append)
            except (SystemExit, KeyboardInterrupt) as error:
                # The runner's own signals raise nothing: it is the model's, and so is its row.
                result = left(job, news, error)
            # Told behind the job: while it runs in here, nobody takes events.
            stages = [item for item in news if isinstance(item, str)]
            yield from (StageEntered(job.label, stage) for stage in stages)
            yield Finished(result)


def create(spec: ExecutorSpec) -> Executor:
    return InlineExecutor()
