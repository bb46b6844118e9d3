"""Runs jobs on a Ray cluster, or on a local one; Ray carries them, the supervisors are ours.

A task of Ray connects a job to the daemon of its node (``converter/processes/daemon.py``), which
runs it as ``process`` does: isolation, limits, logs and codes are the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from converter.exchange.sending import Exchange
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import ConfigError, Problem
from converter.model.job import Job
from converter.model.records import NodeInfo
from converter.plugins.executors import Executor, _nodes, _on_nodes
from converter.plugins.executors._on_nodes import OnNodes
from converter.plugins.executors._ray_carrier import Options, RayCarrier, link_of
from converter.storage.location import Location, Url

__all__ = ["Options", "RayExecutor", "check", "create", "create_alone", "takes_latencies"]

SANDBOX = "nodes"
EXCHANGES = True
_PROBE_S = 180.0
_NODE_HINT = "It needs the same installation, and folders as docs/cluster.md says."
_SKEW_HINT = "Install the same there, or set executor.allow_skew=true: each row then names them."


class RayExecutor(OnNodes):
    """Args: alone: what it runs are latencies, each of which has a node for itself."""

    def __init__(
        self, spec: ExecutorSpec, entry: str | None = None, alone: BenchmarkSpec | None = None
    ) -> None:
        options = Options.model_validate(spec.own_options)
        self._options = options
        self._exchange: Exchange | None = None
        super().__init__(
            spec,
            lambda: RayCarrier(spec, options, alone, self._exchange),
            options.node_retries,
            entry,
            # Who takes latencies counts on it.
            in_order=alone is not None,
        )

    def exchange(self, place: Location | None, directory: Path, jobs: Sequence[Job]) -> None:
        if self._options.shared:
            return
        assert isinstance(place, Url), "the configuration was looked at"
        self._exchange = Exchange(place, directory, self._options.pack_mb << 20)
        self._exchange.check(jobs)


def create(spec: ExecutorSpec) -> Executor:
    return RayExecutor(spec)


def create_alone(spec: ExecutorSpec, benchmark: BenchmarkSpec) -> Executor:
    """The executor of latencies: one at a time, alone on a node of ``benchmark.nodes``."""
    return RayExecutor(_on_nodes.alone(spec), alone=benchmark)


def takes_latencies(spec: ExecutorSpec, benchmark: BenchmarkSpec, node: NodeInfo) -> bool:
    """Whether there is a machine like a node among those that latencies are taken on."""
    cluster = link_of(spec, Options.model_validate(spec.own_options))
    return any(
        _nodes.alike(node, cluster.machines[one.id])
        for one in cluster.nodes
        if one.alive and one.id in cluster.machines
        if not benchmark.nodes or any(one.is_called(name) for name in benchmark.nodes)
    )


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
            if node is None or text is None:
                continue
            machine = cluster.machines[node.id] = json.loads(text)["machine"]
            if (other := _nodes.differences(machine)) and not options.allow_skew:
                message = f"the node {node} has other versions than this machine: {other}"
                problems.append(Problem("executor.allow_skew", message, _SKEW_HINT))
    cluster.cancel(list(streams))
    if problems:
        raise ConfigError(problems)
