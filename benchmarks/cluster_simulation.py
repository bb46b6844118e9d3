"""How long a large zoo takes on a cluster, simulated with the times of a run that was measured.

Models and what derives from them are drawn from the rows of a run (its manifest), and scheduled
event by event: a variant waits for its model, a node has cores and memory, one driver hands out
one job after the other, nodes start late and are lost now and then. Beside the makespan stands
what no order of jobs can go below, and what limits it::

    python benchmarks/cluster_simulation.py RUN [--models 10000] [--artifacts 6] [--nodes 100] …

What it leaves out: the network, the store, latencies, and that jobs slow each other down.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from converter.display.estimate import Took, took
from converter.layout import runfiles

_WINDOW = 64  # jobs that are tried, where the first does not fit a node
_UNKNOWN_MIB = 2048
_DAY_S = 86400.0


@dataclass(frozen=True)
class Job:
    """One artifact.

    Attributes:
        remembered: seconds that it took in an earlier run, which is what its order is made of.
        after: the place of the job whose file it derives from.
    """

    seconds: float
    remembered: float
    memory_mib: float = 0.0
    cores: int = 1
    after: int | None = None


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    startup_s: until a node takes its first job, also in place of one that was lost.
    dispatch_s: that the driver needs for each job; it does one after the other.
    start_s: on the node, before each job.
    """

    nodes: int
    cores: int
    memory_mib: float
    startup_s: float = 0.0
    dispatch_s: float = 0.0
    start_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """Times of cores are added up over all of them.

    Attributes:
        tail_s: at the end, since when some core had nothing to do for want of jobs.
        driver_s: of cores that were given a job for which the driver had no time yet.
        unfit_s: of free cores while the jobs that waited asked for more memory than was free.
        starved_s: of free cores while no job waited.
        lost_s: of cores of lost nodes, spent on jobs that had to begin again.
    """

    makespan_s: float
    tail_s: float
    driver_s: float
    unfit_s: float
    starved_s: float
    lost_s: float
    retried: int


Order = Callable[[int, Sequence[Job]], float]
"""What jobs are sorted by, the least first."""


def first_come(place: int, jobs: Sequence[Job]) -> float:
    return 0.0  # jobs that are alike go in the order in which they come


def longest_first(place: int, jobs: Sequence[Job]) -> float:
    return -jobs[place].remembered


def longest_chain_first(jobs: Sequence[Job]) -> Order:
    """Like ``longest_first``, with what waits for a job."""
    behind = [0.0] * len(jobs)
    for job in jobs:
        if job.after is not None:
            behind[job.after] = max(behind[job.after], job.remembered)
    return lambda place, jobs: -jobs[place].remembered - behind[place]


@dataclass
class _Node:
    cores: int
    memory_mib: float
    up: bool = False
    running: dict[int, float] = field(default_factory=dict)
    life: int = 0  # grows with each loss: what was due in an earlier one does not happen


class _Simulation:
    def __init__(self, jobs: Sequence[Job], cluster: Cluster, order: Order) -> None:
        self.jobs = jobs
        self.cluster = cluster
        self.order = order
        self.nodes = [_Node(0, 0.0) for _ in range(cluster.nodes)]
        self.followers: dict[int, list[int]] = {}
        for place, job in enumerate(jobs):
            if job.after is not None:
                self.followers.setdefault(job.after, []).append(place)
        self.numbers = count()
        self.events: list[tuple[float, int, str, int, int, int]] = []
        self.ready: list[tuple[float, int, int]] = []
        self.driver_free = 0.0
        self.driver_s, self.unfit_s, self.starved_s, self.lost_s = 0.0, 0.0, 0.0, 0.0
        self.retried = 0
        self.left = len(jobs)
        self.starved: float | None = None  # since when cores are free and no job is ready

    def at(self, when: float, what: str, node: int, job: int = -1) -> None:
        event = (when, next(self.numbers), what, node, job, self.nodes[node].life)
        heapq.heappush(self.events, event)

    def wait(self, place: int) -> None:
        heapq.heappush(self.ready, (self.order(place, self.jobs), next(self.numbers), place))

    def run(self, losses: Iterable[tuple[float, int]]) -> Outcome:
        for node in range(len(self.nodes)):
            self.at(self.cluster.startup_s, "up", node)
        for when, node in losses:
            self.at(when, "lost", node)
        for place, job in enumerate(self.jobs):
            if job.after is None:
                self.wait(place)
        now = 0.0
        while self.left:
            self._pass(now, self.events[0][0])
            now, _, what, node, job, life = heapq.heappop(self.events)
            if what != "lost" and life != self.nodes[node].life:
                continue
            getattr(self, f"_{what}")(now, node, job)
            # All that happens at one time happens before jobs are handed out.
            if not self.events or self.events[0][0] > now:
                self._hand_out(now)
        tail = now - self.starved if self.starved is not None else 0.0
        return Outcome(
            now, tail, self.driver_s, self.unfit_s, self.starved_s, self.lost_s, self.retried
        )

    def _pass(self, now: float, then: float) -> None:
        """Add up what cores do not do until the next event."""
        free = (then - now) * sum(node.cores for node in self.nodes)
        if self.ready:
            self.unfit_s += free
        else:
            self.starved_s += free

    def _up(self, now: float, node: int, job: int) -> None:
        one = self.nodes[node]
        one.up, one.cores, one.memory_mib = True, self.cluster.cores, self.cluster.memory_mib

    def _lost(self, now: float, node: int, job: int) -> None:
        one = self.nodes[node]
        one.life += 1
        one.up, one.cores, one.memory_mib = False, 0, 0.0
        for place, since in one.running.items():
            self.lost_s += max(0.0, now - since) * self.jobs[place].cores
            self.retried += 1
            self.wait(place)
        one.running.clear()
        self.at(now + self.cluster.startup_s, "up", node)

    def _done(self, now: float, node: int, job: int) -> None:
        one, its = self.nodes[node], self.jobs[job]
        del one.running[job]
        one.cores += its.cores
        one.memory_mib += its.memory_mib
        self.left -= 1
        for place in self.followers.get(job, ()):
            self.wait(place)

    def _hand_out(self, now: float) -> None:
        """Give jobs to nodes, in their order; a few that do not fit are passed over."""
        free = sorted(
            (place for place, node in enumerate(self.nodes) if node.up and node.cores),
            key=lambda place: (-self.nodes[place].cores, place),
        )
        passed: list[tuple[float, int, int]] = []
        refused: list[Job] = []
        while free and self.ready and len(passed) < _WINDOW:
            entry = heapq.heappop(self.ready)
            job = self.jobs[entry[2]]
            # What asks for as much as another that did not fit does not fit either.
            hopeless = any(_asks_less(one, job) for one in refused)
            node = None if hopeless else self._fitting(job, free)
            if node is None:
                refused.append(job)
                passed.append(entry)
                continue
            self._begin(now, node, entry[2])
            if not self.nodes[node].cores:
                free.remove(node)
        for entry in passed:
            heapq.heappush(self.ready, entry)
        if free and not self.ready:
            self.starved = now if self.starved is None else self.starved
        elif self.ready:
            self.starved = None

    def _fitting(self, job: Job, free: Sequence[int]) -> int | None:
        for place in free:
            node = self.nodes[place]
            if node.cores >= job.cores and node.memory_mib >= job.memory_mib:
                return place
        return None

    def _begin(self, now: float, node: int, place: int) -> None:
        one, job = self.nodes[node], self.jobs[place]
        one.cores -= job.cores
        one.memory_mib -= job.memory_mib
        self.driver_free = max(now, self.driver_free) + self.cluster.dispatch_s
        self.driver_s += (self.driver_free - now) * job.cores
        one.running[place] = self.driver_free
        self.at(self.driver_free + self.cluster.start_s + job.seconds, "done", node, place)


def _asks_less(one: Job, other: Job) -> bool:
    return one.cores <= other.cores and one.memory_mib <= other.memory_mib


def simulate(
    jobs: Sequence[Job],
    cluster: Cluster,
    order: Order = first_come,
    losses: Iterable[tuple[float, int]] = (),
) -> Outcome:
    """Schedule jobs.

    Args:
        losses: when which node is lost; another starts in its place at once.

    Raises:
        ValueError: a job asks for more than a node has.
    """
    for job in jobs:
        if job.cores > cluster.cores or job.memory_mib > cluster.memory_mib:
            raise ValueError(f"no node can hold {job}")
    return _Simulation(jobs, cluster, order).run(losses)


def bounds(jobs: Sequence[Job], cluster: Cluster) -> dict[str, float]:
    """Seconds that no order of jobs goes below, each for a reason of its own."""
    each = [cluster.start_s + job.seconds for job in jobs]
    cores = sum(t * job.cores for t, job in zip(each, jobs, strict=True))
    memory = sum(t * job.memory_mib for t, job in zip(each, jobs, strict=True))
    # To the end of each job, the jobs before it included; those come first.
    ends: list[float] = []
    for t, job in zip(each, jobs, strict=True):
        before = ends[job.after] if job.after is not None else 0.0
        ends.append(before + cluster.dispatch_s + t)
    last = min(each, default=0.0)
    return {
        "all cores": cluster.startup_s + cores / (cluster.nodes * cluster.cores),
        "all memory": cluster.startup_s + memory / (cluster.nodes * cluster.memory_mib),
        "the longest chain": cluster.startup_s + max(ends, default=0.0),
        "the driver": cluster.startup_s + len(jobs) * cluster.dispatch_s + last,
    }


@dataclass(frozen=True)
class Measured:
    """What a run says: each model's own time, and those of what derives from it."""

    model: Took
    variants: tuple[Took, ...] = ()


def read(run: Path) -> list[Measured]:
    """The models of a run that have times.

    Raises:
        ValueError: there is none.
    """
    rows = runfiles.read(run).rows
    models = {row.name: one for row in rows if not row.parent and (one := took(row)) is not None}
    variants: dict[str, list[Took]] = {}
    for row in rows:
        if row.parent and (one := took(row)) is not None:
            variants.setdefault(row.name, []).append(one)
    found = [Measured(one, tuple(variants.get(name, ()))) for name, one in models.items()]
    if not found:
        raise ValueError(f"{run} has no model with times")
    return found


def drawn(
    measured: Sequence[Measured], models: int, artifacts: int, error: float, rng: random.Random
) -> list[Job]:
    """Jobs as many as are asked for, each model before what derives from it.

    Args:
        artifacts: of each model, its own file included.
        error: of remembered times, as the standard deviation of their logarithm.
    """
    shares = [one.conversion / m.model.conversion for m in measured for one in m.variants]
    memories = [mib(one) for m in measured for one in m.variants]
    jobs: list[Job] = []

    def add(seconds: float, memory: float, after: int | None) -> None:
        jobs.append(Job(seconds, seconds * rng.lognormvariate(0, error), memory, 1, after))

    for _ in range(models):
        one = rng.choice(measured)
        place = len(jobs)
        add(one.model.conversion, mib(one.model), None)
        for _ in range(artifacts - 1):
            if one.variants:
                variant = rng.choice(one.variants)
                add(variant.conversion, mib(variant), place)
            else:  # as of another model; where no run has any, like the model itself
                at = rng.randrange(len(shares)) if shares else -1
                share, memory = (shares[at], memories[at]) if shares else (1.0, mib(one.model))
                add(one.model.conversion * share, memory, place)
    return jobs


def mib(one: Took) -> float:
    return one.peak_bytes / (1 << 20) if one.peak_bytes is not None else float(_UNKNOWN_MIB)


def lost_nodes(
    nodes: int, per_node_day: float, until_s: float, rng: random.Random
) -> list[tuple[float, int]]:
    """When which node is lost, at random times."""
    found: list[tuple[float, int]] = []
    now = 0.0
    while per_node_day and (now := now + rng.expovariate(nodes * per_node_day / _DAY_S)) < until_s:
        found.append((now, rng.randrange(nodes)))
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run directory, for its times")
    for name, value, words in (
        ("models", 10_000, "to convert"),
        ("artifacts", 6, "of each model, its own file included"),
        ("nodes", 100, "of the cluster"),
        ("cores", 16, "of each node"),
        ("memory-gib", 64.0, "of each node"),
        ("startup-s", 120.0, "until a node takes its first job"),
        # `dispatch_cost.py` on a busy EPYC: 1.6 ms in the driver, 2.2 ms in its helper.
        ("dispatch-s", 0.004, "of the driver for each job, without what it does with a result"),
        ("start-s", 0.05, "on the node before each job"),
        ("scale", 1.0, "by which all measured times are multiplied"),
        ("losses", 5.0, "of each node in a day"),
        ("error", 0.2, "of remembered times, standard deviation of their logarithm"),
        ("seed", 0, "of what is drawn"),
    ):
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{words} ({value})")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    rng = random.Random(given.seed)
    measured = read(given.run)
    jobs = [
        Job(job.seconds * given.scale, job.remembered, job.memory_mib, job.cores, job.after)
        for job in drawn(measured, given.models, given.artifacts, given.error, rng)
    ]
    cluster = Cluster(
        given.nodes, given.cores, given.memory_gib * 1024, given.startup_s, given.dispatch_s,
        given.start_s,
    )  # fmt: skip
    least = bounds(jobs, cluster)
    limit = max(least, key=lambda name: least[name])
    times = [job.seconds for job in jobs]
    print(f"{len(jobs)} jobs like those of {len(measured)} measured models: mean "
          f"{statistics.mean(times):.2f} s, longest {max(times):.1f} s")  # fmt: skip
    print(f"no order takes less than {least[limit]:.0f} s, which {limit} would take alone; "
          + ", ".join(f"{name}: {value:.0f} s" for name, value in least.items()))  # fmt: skip
    until = 10 * least[limit]
    lost = lost_nodes(given.nodes, given.losses, until, rng)
    orders = {
        "first come": first_come,
        "longest first": longest_first,
        "longest chain first": longest_chain_first(jobs),
    }
    for losses, words in (
        ([], "no node lost"),
        (lost, f"{given.losses:g} a day lost of each node"),
    ):
        for name, order in orders.items():
            got = simulate(jobs, cluster, order, losses)
            print(_line(f"{words}, {name}", got, least[limit], cluster))


def _line(words: str, got: Outcome, bound: float, cluster: Cluster) -> str:
    """An outcome, with the shares of all cores' time that were spent on nothing."""
    capacity = got.makespan_s * cluster.nodes * cluster.cores
    shares = {
        "start of nodes": cluster.startup_s * cluster.nodes * cluster.cores,
        "driver": got.driver_s,
        "memory": got.unfit_s,
        "no job": got.starved_s,
        "lost": got.lost_s,
    }
    told = ", ".join(f"{name} {share / capacity:.1%}" for name, share in shares.items())
    return (
        f"{words:>48} | {got.makespan_s:6.0f} s | {got.makespan_s / bound:5.3f} of the bound | "
        f"tail {got.tail_s:4.0f} s | again {got.retried:4d} | idle: {told}"
    )


if __name__ == "__main__":
    main()
