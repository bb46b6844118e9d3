"""Executors: how jobs are run.

A plugin of this kind is a module that has ``create(spec: ExecutorSpec) -> Executor``. It may have
``Options``: typed keys of its preset, which it finds in ``spec.own_options``. One that runs jobs on
other machines has two functions more::

    def check(spec: ExecutorSpec) -> None: ...  # raises ConfigError, before anything is made
    def create_alone(spec: ExecutorSpec, benchmark: BenchmarkSpec) -> Executor: ...  # of latencies

and a third where it knows its machines before a job runs there::

    # Whether a latency that was taken on a node says what one of this run would.
    def takes_latencies(spec: ExecutorSpec, benchmark: BenchmarkSpec, node: NodeInfo) -> bool: ...

and, where its ``Options`` have ``shared`` (whether those machines share folders with this one; if
not, files go by the store, see ``Exchanging``)::

    EXCHANGES = True

One whose jobs run in processes of ``converter.processes``, which may be sandboxes, says where::

    SANDBOX: Literal["here", "nodes"] = "here"  # on this machine, or on others

and one whose jobs may make more than their own file, since all of their folders stay here::

    SIBLINGS = True
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from converter.layout import landlock
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import ConfigError, Problem
from converter.model.job import Job
from converter.model.manifest import SandboxKind
from converter.model.records import JobResult, NodeInfo, StageName, Try
from converter.plugins import loader
from converter.storage.location import Location


@dataclass(frozen=True)
class Started:
    """An attempt of a job has begun, in process ``pid``; ``name`` is its label.

    Attributes:
        node: the name of the machine; empty: this one.
    """

    name: str
    attempt: int
    pid: int
    node: str = ""


@dataclass(frozen=True)
class StageEntered:
    name: str
    stage: StageName


@dataclass(frozen=True)
class GivenUp:
    """Nothing is taken of an attempt of a job; another one takes its place, or runs already.

    Attributes:
        lost: the attempt, and why.
    """

    name: str
    lost: Try


@dataclass(frozen=True)
class Waits:
    """An attempt of a job has not begun; ``words``: why, where what carries it says so."""

    name: str
    words: str


@dataclass(frozen=True)
class Finished:
    """A job is done; its artifact, if any, is in its staging folder."""

    result: JobResult


@dataclass(frozen=True)
class Tick:
    """Nothing happened: the consumer may look at its clock and its signals."""


Event = Started | StageEntered | GivenUp | Waits | Finished | Tick
Events = Generator[Event, None, None]


@dataclass(frozen=True)
class Past:
    """What an artifact took in an earlier run.

    Attributes:
        peak_bytes: ``None`` where it is not known.
        estimated: it was never seen, and goes by the size of its model.
    """

    seconds: float
    peak_bytes: int | None = None
    estimated: bool = False


class Executor(Protocol):
    def run(self, jobs: Sequence[Job]) -> Events:
        """Run jobs; exactly one ``Finished`` each, in the order in which they end.

        Each is run by its ``ENTRY``. Who takes the events may append to a deque of jobs: what
        follows from a job that has finished comes after all that were there before.

        Yields at least every 0.25 s if it can. Closing the generator kills and reaps every
        process that it started.
        """


@runtime_checkable
class Remembering(Protocol):
    """An executor that can use what earlier runs took."""

    def remember(self, past: Callable[[], Mapping[str, Past]]) -> None:
        """Args: past: by label; it takes a while, so that nobody asks who does not need it."""


@runtime_checkable
class Counting(Protocol):
    """An executor that knows how many jobs it can run."""

    def workers(self) -> int:
        """Jobs at a time, as of now: nodes come and go. 0: that is not known yet."""


@runtime_checkable
class Exchanging(Protocol):
    """An executor whose machines may share no folder with this one."""

    def exchange(self, place: Location | None, directory: Path, jobs: Sequence[Job]) -> None:
        """Prepare for the jobs of a run; ``run`` is called behind it.

        Args:
            place: of the store; ``None``: the run has none.
            directory: of the run.

        Raises:
            RunError: what the jobs need cannot travel.
        """


def create(spec: ExecutorSpec) -> Executor:
    """The executor that a configuration asks for.

    Raises:
        ConfigError: there is no such executor.
    """
    executor: Executor = loader.load("executors", spec.name).create(spec)
    return executor


def check(spec: ExecutorSpec) -> None:
    """Look at what an executor needs beyond this machine.

    Raises:
        ConfigError: it is not there or not fit, or the sandbox that is asked for is not.
    """
    plugin = loader.load("executors", spec.name)
    if spec.sandbox == "on" and (why := _no_sandbox(spec)):
        hint = "Write executor.sandbox=auto, or choose another executor or machine."
        raise ConfigError(Problem("executor.sandbox", f"found on, and {why}.", hint))
    if hasattr(plugin, "check"):
        plugin.check(spec)


def shares(spec: ExecutorSpec) -> bool:
    """Whether jobs may make what later points of a sweep ask for along with their own file."""
    return getattr(loader.load("executors", spec.name), "SIBLINGS", False) is True


def sandboxed(spec: ExecutorSpec) -> SandboxKind:
    """What of the machine the jobs of an executor are kept from."""
    where = getattr(loader.load("executors", spec.name), "SANDBOX", None)
    if where is None or spec.sandbox == "off":
        return "off"
    if where == "nodes":
        return "of each node"
    offer = landlock.offered()
    if not offer.version:
        return "not offered"
    return "files and network" if offer.tcp else "files"


def unsandboxed(spec: ExecutorSpec) -> list[str]:
    """What a run has to be told where its jobs are not, or not wholly, in a sandbox."""
    kind = sandboxed(spec)
    if kind == "not offered":
        return [f"jobs run without a sandbox: {landlock.offered().reason}"]
    if kind == "files":
        return [f"jobs may use the network: {landlock.NO_TCP}"]
    return []


def _no_sandbox(spec: ExecutorSpec) -> str:
    """Why no job of an executor can be in a sandbox, a clause; empty: nothing says so here."""
    kind = sandboxed(spec)
    if kind == "off":
        return f"executor={spec.name} runs jobs without one"
    return landlock.offered().reason if kind == "not offered" else ""


def measures_elsewhere(
    spec: ExecutorSpec, benchmark: BenchmarkSpec
) -> Callable[[NodeInfo], bool] | None:
    """Tells whether latencies may be taken on a node; ``None``: this machine takes them."""
    plugin = loader.load("executors", spec.name)
    if not hasattr(plugin, "create_alone"):
        return None
    if not hasattr(plugin, "takes_latencies"):
        return lambda node: False
    return partial(plugin.takes_latencies, spec, benchmark)


def alone(spec: ExecutorSpec, benchmark: BenchmarkSpec) -> Executor | None:
    """The executor that takes latencies, one at a time; ``None``: this machine takes them."""
    plugin = loader.load("executors", spec.name)
    if not hasattr(plugin, "create_alone"):
        return None
    executor: Executor = plugin.create_alone(spec, benchmark)
    return executor
