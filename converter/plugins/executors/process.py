"""Runs each job in a process of its own, several at a time, bounded in time and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from converter.layout import environment
from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.plugins.executors import Events, Executor, Past
from converter.plugins.executors._dispatch import Dispatcher, Rules
from converter.plugins.executors._waiting import Memory
from converter.processes import limits
from converter.processes.local import LocalCarrier, servers

__all__ = ["ProcessExecutor", "create", "servers"]

SANDBOX = "here"
SIBLINGS = True


class ProcessExecutor:
    """Args: entry: ``module:function`` in place of that of each job, importable in a worker."""

    def __init__(self, spec: ExecutorSpec, entry: str | None = None) -> None:
        self._workers = environment.cores() if spec.workers == "auto" else spec.workers
        self._limits = limits.of(spec)
        self._past: Callable[[], Mapping[str, Past]] = dict
        memory = Memory(limits.budget(spec), self._workers)
        self._rules = Rules(spec.retries, entry, memory=memory)

    def remember(self, past: Callable[[], Mapping[str, Past]]) -> None:
        self._past = past

    def workers(self) -> int:
        return self._workers

    def run(self, jobs: Sequence[Job]) -> Events:
        # One at a time ends when it ends: models keep their order.
        several = min(self._workers, len(jobs)) > 1
        rules = replace(self._rules, past=self._past()) if several else self._rules
        return Dispatcher(LocalCarrier(self._limits, self._workers), rules).run(jobs)


def create(spec: ExecutorSpec) -> Executor:
    return ProcessExecutor(spec)
