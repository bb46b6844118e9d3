"""What the executor ``slurm`` is configured with, and what sbatch is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from converter.model.base import Frozen, Text
from converter.model.batch import ExecutorSpec, Positive

# Of the memory that is asked for, beside that of the job: libraries that are imported for it.
_OVERHEAD_MB = 1024
# Of the time, beside that of the job: start, imports, and the warning of submitit before the end.
OVERHEAD_S = 300.0


class Options(Frozen):
    """Further keys of ``executor``.

    Attributes:
        cluster: ``slurm``; ``local``: processes of this machine, by submitit.
        partition: that tasks run in; ``null``: Slurm's default. Example: ``gpu``.
        account: that they are charged to. Example: ``vision``.
        qos: quality of service that they ask for. Example: ``preemptible``.
        constraint: features that nodes must have. Example: ``avx512``.
        gres: what a model that needs a GPU asks for. Example: ``gpu:a100:1``.
        cpus: cores of each task, and its threads. Example: ``4``.
        mem_mb: memory of each task in MiB; ``auto``: ``memory_mb`` and 1024 more where that is a
            number, else what the partition gives. Example: ``16384``.
        time_min: minutes after which Slurm ends a task; ``auto``: ``timeout_s``, ``grace_s`` and
            five minutes. Example: ``60``.
        sbatch: further options of sbatch by their names. Example: ``{reservation: nightly}``.
        setup: lines of shell before each task. Example: ``[module load cuda]``.
        batch: tasks of one array at most.
        array_parallelism: tasks of one array that may run at a time.
        allow_skew: whether nodes may have other versions of packages than this machine; each row
            then names them.
        lease_s: seconds after which a task ends whose driver is not heard of. Example: ``120``.
        node_retries: further tries of a job whose task was lost.
        wait_s: seconds for which a submission that Slurm refuses is tried again. Example: ``1200``.
        poll_s: seconds between two questions to Slurm. Example: ``60``.
    """

    # No choice by what is there: a module that nobody loaded would have the head node do all.
    cluster: Literal["slurm", "local"] = "slurm"
    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None
    gres: Text = "gpu:1"
    cpus: Annotated[int, Field(ge=1)] = 1
    mem_mb: Annotated[int, Field(ge=256)] | Literal["auto"] | None = "auto"
    time_min: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    sbatch: dict[Text, str | int | bool] = Field(default_factory=dict)
    setup: list[Text] = Field(default_factory=list)
    batch: Annotated[int, Field(ge=1)] = 500
    array_parallelism: Annotated[int, Field(ge=1)] = 256
    allow_skew: bool = False
    lease_s: Positive = 30.0
    node_retries: Annotated[int, Field(ge=0, le=100)] = 3
    wait_s: Positive = 300.0
    poll_s: Positive = 15.0

    @property
    def is_slurm(self) -> bool:
        return self.cluster == "slurm"


@dataclass(frozen=True, order=True)
class Needs:
    """What tasks of one array have in common.

    Attributes:
        unfit: nodes that tasks must not run on.
        avoid: nodes that they should not run on, where there are others.
        places: the nodes and features of which latencies are taken on one, empty: wherever Slurm
            will; ``None``: these are none.
    """

    gpu: bool = False
    unfit: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    places: tuple[str, ...] | None = None


def parameters(
    spec: ExecutorSpec, options: Options, needs: Needs, nodes: Mapping[str, bool] | None = None
) -> dict[str, Any]:
    """The options of sbatch for a task, by their names with ``_`` for ``-``.

    Args:
        nodes: those that there are, and whether nothing runs there.
    """
    memory = options.mem_mb
    if memory == "auto":
        memory = spec.memory_mb + _OVERHEAD_MB if isinstance(spec.memory_mb, int) else None
    asked: dict[str, Any] = {
        "job_name": "converter",
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "gres": options.gres if needs.gpu else None,
        "cpus_per_task": options.cpus,
        "mem": f"{memory}M" if memory is not None else None,
        "time": minutes(spec, options),
        "exclude": ",".join(sorted({*needs.unfit, *needs.avoid})) or None,
        # Retries are ours: Slurm would begin again with a job that has killed its node.
        "no_requeue": True,
    }
    if needs.places is not None:
        # All of its cores: none is left for others, and none is kept from the measurement.
        asked |= {"exclusive": True, "cpus_per_task": None, **_place(needs, nodes or {})}
    asked |= {name.replace("-", "_"): value for name, value in options.sbatch.items()}
    if asked.get("requeue"):
        del asked["no_requeue"]
    return {name: one for name, one in asked.items() if one is not None and one is not False}


def _place(needs: Needs, nodes: Mapping[str, bool]) -> dict[str, str]:
    """Where latencies are taken: on a node that is named, or on one with a feature."""
    left = {*needs.unfit, *needs.avoid}
    named = [place for place in needs.places or () if place in nodes and place not in left]
    features = [place for place in needs.places or () if place not in nodes]
    idle = [name for name in named if nodes[name]]
    # One of them: `--nodelist` with several is a task on all.
    if idle or (named and not features):
        return {"nodelist": (idle or named)[0]}
    return {"constraint": "|".join(features)} if features else {}


def minutes(spec: ExecutorSpec, options: Options) -> int:
    """The time that a task has."""
    if options.time_min != "auto":
        return options.time_min
    return math.ceil((spec.timeout_s + spec.grace_s + OVERHEAD_S) / 60)
