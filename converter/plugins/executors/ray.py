"""Runs jobs on a Ray cluster, or on a local one; Ray carries them, the supervisors are ours.

A task of Ray connects a job to the daemon of its node (``converter/processes/daemon.py``), which
runs it as ``process`` does: isolation, limits, logs and codes are the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from converter.exchange.sending import Exchange
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import ConfigError, Problem
from converter.model.job import Job
from converter.plugins.executors import Events, Executor, Past
from converter.plugins.executors._dispatch import Dispatcher, Rules
from converter.plugins.executors._nodes import differences
from converter.plugins.executors._ray_carrier import Options, RayCarrier, link_of
from converter.storage.location import Location, Url

__all__ = ["Options", "RayExecutor", "check", "create", "create_alone"]

EXCHANGES = True
_PROBE_S = 180.0
_NODE_HINT = "It needs the same installation, and folders as docs/cluster.md says."
_SKEW_HINT = "Install the same there, or set executor.allow_skew=true: each row then names them."


class RayExecutor:
    """Args: entry: ``module:function`` in place of that of each job, importable on the nodes."""

    def __init__(
        self, spec: ExecutorSpec, entry: str | None = None, alone: BenchmarkSpec | None = None
    ) -> None:
        self._spec = spec
        self._options = Options.model_validate(spec.own_options)
        self._entry = entry
        self._alone = alone
        self._past: Mapping[str, Past] = {}
        self._exchange: Exchange | None = None

    def exchange(self, place: Location | None, directory: Path, jobs: Sequence[Job]) -> None:
        if self._options.shared:
            return
        assert isinstance(place, Url), "the configuration was looked at"
        self._exchange = Exchange(place, directory, self._options.pack_mb << 20)
        self._exchange.check(jobs)

    def remember(self, past: Mapping[str, Past]) -> None:
        self._past = past

    def run(self, jobs: Sequence[Job]) -> Events:
        carrier = RayCarrier(self._spec, self._options, self._alone, self._exchange)
        rules = Rules(
            self._spec.retries,
            self._entry,
            self._options.node_retries,
            self._past,
            in_order=self._alone is not None,
        )
        return Dispatcher(carrier, rules).run(jobs)


def create(spec: ExecutorSpec) -> Executor:
    return RayExecutor(spec)


def create_alone(spec: ExecutorSpec, benchmark: BenchmarkSpec) -> Executor:
    """The executor of latencies: one at a time, alone on a node of ``benchmark.nodes``."""
    return RayExecutor(spec.model_copy(update={"workers": 1, "retries": 0}), alone=benchmark)


def check(spec: ExecutorSpec) -> None:
    """Join the cluster, start the daemons of its nodes, and compare what is installed there.

    Raises:
        ConfigError: there is no such cluster, or a node cannot run the converter or has other
            versions of packages.
    """
    options = Options.model_validate(spec.own_options)
    cluster = link_of(spec, options)
    # The head of a cluster often has no cores to give away.
    nodes = {node.id: node for node in cluster.nodes if node.alive and node.cpus > 0}
    streams = {
        cluster.start({"warm": True}, None, {"num_cpus": 0, "node": node}): node for node in nodes
    }
    problems: list[Problem] = []
    end = time.monotonic() + _PROBE_S
    while streams and time.monotonic() < end:
        for stream, text, why in cluster.poll(0.2):
            node = nodes[streams[stream]] if stream in streams else None
            if node is not None and text is None:
                del streams[stream]
                if why and any(n.id == node.id and n.alive for n in cluster.nodes):
                    problems.append(Problem("executor", f"the node {node}: {why}", _NODE_HINT))
                continue
            other = differences(json.loads(text)["machine"]) if node is not None and text else ""
            if other and not options.allow_skew:
                message = f"the node {node} has other versions than this machine: {other}"
                problems.append(Problem("executor.allow_skew", message, _SKEW_HINT))
    cluster.cancel(list(streams))
    if problems:
        raise ConfigError(problems)
