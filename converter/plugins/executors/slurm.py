"""Runs jobs on a cluster of Slurm through submitit, or as tasks of this machine.

A job is a task of an array. It starts a supervisor as ``process`` does: isolation, limits, logs and
codes are the same. What happens there comes back through a file of the run directory, which the
nodes have to share; see ``docs/howto/slurm.md``.
"""

from __future__ import annotations

import socket
from functools import cache

from converter.layout import environment
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import ConfigError, Problem
from converter.model.records import NodeInfo
from converter.plugins.executors import Executor, _on_nodes, _slurm_queue
from converter.plugins.executors._on_nodes import OnNodes
from converter.plugins.executors._slurm_carrier import SlurmCarrier
from converter.plugins.executors._slurm_options import OVERHEAD_S, Needs, Options, parameters

__all__ = ["Options", "SlurmExecutor", "check", "create", "create_alone", "takes_latencies"]

SANDBOX = "nodes"
_INSTALL = "Install the extra: pip install 'onnx-zoo-converter[slurm]'."
_COMMANDS = "Run on a machine that submits to Slurm, or set executor.cluster=local."


class SlurmExecutor(OnNodes):
    """Args: alone: what it runs are latencies, each of which has a node for itself."""

    def __init__(
        self, spec: ExecutorSpec, entry: str | None = None, alone: BenchmarkSpec | None = None
    ) -> None:
        options = Options.model_validate(spec.own_options)
        super().__init__(
            spec,
            lambda: SlurmCarrier(spec, options, alone),
            options.node_retries,
            entry,
            # Who takes latencies counts on it.
            in_order=alone is not None,
        )


def create(spec: ExecutorSpec) -> Executor:
    return SlurmExecutor(spec)


def create_alone(spec: ExecutorSpec, benchmark: BenchmarkSpec) -> Executor:
    """The executor of latencies: one at a time, alone on a node of ``benchmark.nodes``."""
    return SlurmExecutor(_on_nodes.alone(spec), alone=benchmark)


def takes_latencies(spec: ExecutorSpec, benchmark: BenchmarkSpec, node: NodeInfo) -> bool:
    """Whether a node is one of those that latencies are taken on, as far as Slurm tells by names.

    Which nodes have a feature is not asked: a figure of any node then counts.
    """
    if not Options.model_validate(spec.own_options).is_slurm:
        return node.name == socket.gethostname()
    there = _names()
    named = [place for place in benchmark.nodes if place in there]
    by_feature = len(named) < len(benchmark.nodes)
    return node.id in (named if named and not by_feature else there)


@cache
def _names() -> frozenset[str]:
    return frozenset(_slurm_queue.nodes())


def check(spec: ExecutorSpec) -> None:
    """Ask Slurm whether it would take a task.

    Raises:
        ConfigError: it would not, it is not there, or a task has less time than a model may take.
    """
    options = Options.model_validate(spec.own_options)
    problems: list[Problem] = []
    if environment.version("submitit") is None:
        problems.append(Problem("executor", "submitit is not installed", _INSTALL))
    least = (spec.timeout_s + spec.grace_s + OVERHEAD_S) / 60
    if options.time_min != "auto" and options.time_min < least:
        message = f"found {options.time_min}, expected at least {least:.0f}"
        hint = "A model may take executor.timeout_s, and its libraries are imported before."
        problems.append(Problem("executor.time_min", message, hint))
    if options.is_slurm and not _slurm_queue.is_there():
        message = "the commands of Slurm (sbatch, srun) are not on PATH"
        problems.append(Problem("executor.cluster", message, _COMMANDS))
    elif options.is_slurm and (why := _slurm_queue.refusal(parameters(spec, options, Needs()))):
        message = f"Slurm does not take a task: {why}"
        hint = "Look at executor.partition, account, mem_mb, time_min and sbatch."
        problems.append(Problem("executor", message, hint))
    if problems:
        raise ConfigError(problems)
