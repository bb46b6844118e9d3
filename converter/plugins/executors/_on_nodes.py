"""What executors on the nodes of a cluster have in common; how they differ is their carrier's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.plugins.executors import Events, Past
from converter.plugins.executors._dispatch import Dispatcher, Rules
from converter.processes.carrier import Carrier


class NodesCarrier(Carrier, Protocol):
    """A carrier that starts attempts on the nodes of a cluster."""

    def workers(self) -> int:
        """Attempts that can run at a time, as of now; 0: that is not known yet."""


class OnNodes:
    """Runs jobs with a carrier, a new one for each run.

    Args:
        node_retries: further tries of a job whose node was lost.
        entry: ``module:function`` in place of that of each job, importable on the nodes.
        in_order: see ``Rules``.
    """

    def __init__(
        self,
        spec: ExecutorSpec,
        carrier: Callable[[], NodesCarrier],
        node_retries: int,
        entry: str | None,
        *,
        in_order: bool,
    ) -> None:
        self._retries = spec.retries
        self._make = carrier
        self._carrier = carrier()
        self._node_retries = node_retries
        self._entry = entry
        self._in_order = in_order
        self._past: Callable[[], Mapping[str, Past]] = dict

    def remember(self, past: Callable[[], Mapping[str, Past]]) -> None:
        self._past = past

    def workers(self) -> int:
        return self._carrier.workers()

    def run(self, jobs: Sequence[Job]) -> Events:
        self._carrier = self._make()
        past = self._past() if jobs else {}
        rules = Rules(self._retries, self._entry, self._node_retries, past, in_order=self._in_order)
        return Dispatcher(self._carrier, rules).run(jobs)


def alone(spec: ExecutorSpec) -> ExecutorSpec:
    """For latencies: one at a time, and none that was killed is taken again."""
    return spec.model_copy(update={"workers": 1, "retries": 0})
