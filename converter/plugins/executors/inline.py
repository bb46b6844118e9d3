"""Runs each job in this very process: for replay and debugging. No limits, no isolation."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

from converter.layout.delivery import clear_staging
from converter.model.batch import ExecutorSpec
from converter.model.job import ExporterAttempt, Job, WorkerEvent
from converter.plugins.executors import Events, Executor, Finished, StageEntered, Started
from converter.processes.outcome import io_failure, left


class InlineExecutor:
    """Args: entry: ``module:function`` of the pipeline."""

    def __init__(self, entry: str = "converter.worker.pipeline.pipeline:run") -> None:
        self._entry = entry

    def run(self, jobs: Sequence[Job]) -> Events:
        module, _, function = self._entry.partition(":")
        for job in jobs:
            yield Started(job.name, 1, os.getpid())
            try:
                clear_staging(job)
            except OSError as error:
                yield Finished(io_failure(job, error))
                continue
            news: list[WorkerEvent] = []
            try:
                result = getattr(importlib.import_module(module), function)(job, news.append)
            except (SystemExit, KeyboardInterrupt) as error:
                # The runner's own signals raise nothing: it is the model's, and so is its row.
                result = left(job, news, error)
            stages = [item for item in news if not isinstance(item, ExporterAttempt)]
            yield from (StageEntered(job.name, stage) for stage in stages)
            yield Finished(result)


def create(spec: ExecutorSpec) -> Executor:
    return InlineExecutor()
