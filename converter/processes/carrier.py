"""What an attempt of a job is given, and what starts attempts: here, or on other machines.

Who schedules (``plugins/executors/_dispatch.py``) knows jobs and what their ends mean; a carrier
knows processes and machines. Between them go numbers of attempts, and messages.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from converter.exchange.luggage import Luggage
from converter.model.job import Job
from converter.processes.limits import Limits

Message = dict[str, Any]
"""What an attempt says, as JSON has it: one key, and what it is about.

``pid``: its process has begun. ``stage``, ``attempt``: news of the pipeline. ``result``: the end;
``sent`` beside it: its files are in the store, not in its staging folder; ``stranded``, if true:
they could not be brought to the node or from there, which may go better elsewhere.
``lost``: it has ended without a result, by itself or by somebody's signal. Where there are several
nodes also ``node`` (a ``NodeInfo``, before all else) and three more ends. ``node_lost``: what
carried it has ended, which is not the job's doing; ``unsuited``: it never began there, and is to be
tried elsewhere; ``no_node``: there is none for it.
"""

ENDS = frozenset({"result", "lost", "node_lost", "unsuited", "no_node"})


@dataclass(frozen=True)
class Work:
    """One attempt, before it is known where it runs.

    Attributes:
        attempt: counted from 1.
        entry: ``module:function`` of the pipeline.
        avoid: nodes that it should not run on where there are others.
        peak_bytes: what the job held in an earlier run; ``None``: not known.
    """

    job: Job
    attempt: int
    entry: str
    avoid: frozenset[str] = frozenset()
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Assignment:
    """One attempt of a job, and the surroundings that the runner has and a server may not.

    Attributes:
        luggage: what is brought here for it, where no folder is shared with the driver.
    """

    job: Job
    attempt: int
    limits: Limits
    entry: str
    environ: dict[str, str]
    path: list[str]
    folder: str
    luggage: Luggage | None = None


class Carrier(Protocol):
    """Starts attempts and tells what they say; each is called by a number of the caller's.

    Attributes:
        several_nodes: attempts of one job may run at the same time without knowing of each other,
            on machines that are lost without a word.
    """

    several_nodes: bool

    def opened(self) -> AbstractContextManager[None]:
        """Around all else."""

    def room(self) -> bool:
        """Whether another attempt may be started now."""

    def idle(self) -> bool:
        """Whether one that is started now would run at once, though nobody else waits."""

    def start(self, key: int, work: Work) -> None:
        """Begin an attempt.

        Raises:
            OSError: nothing can be started any more.
        """

    def poll(self, timeout_s: float) -> list[tuple[int, Message]]:
        """What attempts have said, in order; empty after ``timeout_s`` without a word.

        Behind a message of ``ENDS`` comes no more of that attempt, and all its processes are gone;
        after ``node_lost`` they may not be.

        Raises:
            OSError: what carries them all has ended.
        """

    def close(self, keys: Collection[int]) -> None:
        """Kill and reap attempts; no more is heard of them."""
