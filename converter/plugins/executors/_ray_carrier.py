"""Attempts as tasks of Ray: which node, what it has to have, and what becomes of lost ones."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult
from typing import Annotated, Any, Literal

from pydantic import Field

from converter.exchange.luggage import Luggage
from converter.exchange.sending import Exchange
from converter.layout import environment
from converter.model.base import Frozen, Text
from converter.model.batch import BenchmarkSpec, ExecutorSpec, Positive
from converter.plugins.executors import _nodes
from converter.plugins.executors._parcels import parcel
from converter.plugins.executors._ray_link import Link, Node
from converter.plugins.executors._ray_streams import Said
from converter.plugins.executors._transfers import Transfers
from converter.processes.carrier import ENDS, Message, Work

_MIB = 1 << 20
_SPARE = 1.25  # over the peak of an earlier run
_CLOSE_S = 60.0
_LOOK_S = 0.2  # between two looks at nodes that were lost, and at what waits
_AHEAD = 4  # jobs that are submitted beyond those that can run
_NO_DAEMON = "the daemon of its node has ended"


class Options(Frozen):
    """Further keys of ``executor``.

    Attributes:
        address: of a running cluster: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; ``null``
            starts one on this machine for the time of the command. Example: ``auto``.
        cpus: cores that Ray counts for each job, and its threads. Example: ``2``.
        gpus: GPUs that Ray counts for each job that needs one. Example: ``0.5``.
        request_mb: MiB that Ray counts for each job; ``auto``: a fourth more than it held in an
            earlier run, else what the files of its weights suggest, 2048 at least. What it may hold
            is ``memory_mb``. Example: ``4096``.
        allow_skew: whether nodes may have other versions of packages than this machine; each row
            then names them.
        lease_s: seconds after which the daemon of a node ends that nobody is connected to. Example:
            ``60``.
        node_retries: further tries of a job whose node was lost.
        wait_s: seconds that a job waits for a node that has what it asks for. Example: ``1200``.
        shared: whether nodes have the folders of this machine, at the same paths. If not, files go
            by the store, whose ``store.path`` is then a place of an object store. Example:
            ``false``.
        pack_mb: MiB that a trusted folder may have that goes to nodes. Example: ``8192``.
        scratch: a folder of each node's own disk for what is brought there; ``null``: one in its
            ``TMPDIR``. Example: ``/scratch/converter``.
    """

    address: Text | None = None
    cpus: Positive = 1.0
    gpus: Positive = 1.0
    request_mb: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    allow_skew: bool = False
    lease_s: Positive = 30.0
    node_retries: Annotated[int, Field(ge=0, le=100)] = 3
    wait_s: Positive = 300.0
    shared: bool = True
    pack_mb: Annotated[int, Field(ge=1)] = 2048
    scratch: Text | None = None


links: dict[tuple[Any, ...], Link] = {}


def link_of(spec: ExecutorSpec, options: Options) -> Link:
    """The connection to a cluster, which all runs of this process share."""
    key = _key(spec, options)
    if key not in links or not links[key].alive:
        links[key] = Link(options.address, _cpus(spec, options), options.lease_s, _scratch(options))
    return links[key]


def _key(spec: ExecutorSpec, options: Options) -> tuple[Any, ...]:
    cpus = _cpus(spec, options) if options.address is None else 0.0
    return options.address, cpus, options.lease_s, _scratch(options)


def _scratch(options: Options) -> str | None:
    """Where nodes put what is brought to them; ``None``: nothing is."""
    return None if options.shared else options.scratch or ""


def _cpus(spec: ExecutorSpec, options: Options) -> float:
    """Cores of a cluster that is started here."""
    workers = 0 if spec.workers == "auto" else spec.workers
    return float(max(environment.cores(), workers * options.cpus))


@dataclass
class _Running:
    """An attempt that was given to the cluster.

    Attributes:
        stream: ``None``: it waits for its luggage, or for a node that it may have for itself.
        packing: gives the luggage, where it is to have some.
        needs: resources of Ray.
        node: the id of the one that it runs on; empty: it waits for one.
        unfitting: since when no node could hold it, monotonic.
    """

    key: int
    work: Work
    needs: dict[str, float]
    packing: AsyncResult[Luggage] | None = None
    stream: int | None = None
    node: str = ""
    unfitting: float | None = None


class RayCarrier:
    """A ``Carrier``: each attempt is a task of Ray.

    Args:
        alone: attempts are latencies, each of which has a node for itself.
        exchange: the way of files to nodes that share no folder.
    """

    several_nodes = True

    def __init__(
        self,
        spec: ExecutorSpec,
        options: Options,
        alone: BenchmarkSpec | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self._spec = spec
        self._options = options
        self._alone = alone
        self._transfers = Transfers(exchange) if exchange is not None else None
        self._running: dict[int, _Running] = {}
        self._unfit: set[str] = set()
        self._fit_of: tuple[list[Node], list[Node]] | None = None
        self._keys: dict[int, int] = {}  # of attempts, by their streams
        self._next_look = 0.0
        self._unheard: list[Said] = []
        self._joined: Link | None = None

    @property
    def _cluster(self) -> Link:
        # Not before there is a job: a run whose files are all in the store needs no cluster. And
        # once: to join again what was lost would not bring back what ran there.
        if self._joined is None:
            self._joined = link_of(self._spec, self._options)
        return self._joined

    @contextmanager
    def opened(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._transfers is not None:
                self._transfers.close()

    def room(self) -> bool:
        if self._spec.workers != "auto":
            return len(self._running) < self._spec.workers
        # More than fits: a node is never without work for the time of a message, and a cluster that
        # can grow sees that it should.
        slots = self._slots()
        return len(self._running) < slots + max(slots, _AHEAD)

    def idle(self) -> bool:
        begun = all(running.node for running in self._running.values())
        return begun and self.room() and len(self._running) < self._slots()

    def workers(self) -> int:
        if self._joined is None and _key(self._spec, self._options) not in links:
            return 0
        slots = self._slots()
        return slots if self._spec.workers == "auto" else min(slots, self._spec.workers)

    def _slots(self) -> int:
        return sum(int(node.cpus / self._options.cpus) for node in self._fit())

    def _fit(self) -> list[Node]:
        nodes = self._cluster.nodes
        # Asked for with each job, and made anew when Ray says something new.
        if self._fit_of is None or self._fit_of[0] is not nodes:
            fit = [node for node in nodes if node.alive and node.id not in self._unfit]
            self._fit_of = nodes, sorted(fit, key=lambda node: (node.name, node.id))
        return self._fit_of[1]

    def start(self, key: int, work: Work) -> None:
        running = _Running(key, work, self._needs(work))
        if self._transfers is not None:
            running.packing = self._transfers.pack(work.job)
        else:
            self._submit(running)
        self._running[key] = running

    def _submit(self, running: _Running) -> None:
        """Give an attempt to Ray, unless it is to have a node for itself and there is none."""
        work, needs = running.work, running.needs
        place: dict[str, Any] = {
            "num_cpus": needs["CPU"],
            "num_gpus": needs.get("GPU", 0.0),
            "memory": int(needs["memory"]),
            "name": work.job.label,
        }
        fit = [node for node in self._fit() if node.has(needs)]
        if self._alone is not None:
            named = self._alone.nodes
            own = [n for n in fit if not named or any(n.is_called(name) for name in named)]
            if not own:
                return
            # All of it: no other job of whichever driver begins there meanwhile.
            place |= {"node": own[0].id, "num_cpus": own[0].cpus}
        else:
            avoid = {node.id for node in fit if node.id in work.avoid}
            # Where there is no other the job has to go there again.
            place["avoid"] = sorted((avoid if len(avoid) < len(fit) else set()) | self._unfit)
        luggage = running.packing.get() if running.packing is not None else None
        given = parcel(self._spec, work, self._options.cpus, self._alone, luggage)
        running.stream = self._cluster.start({}, given, place)
        self._keys[running.stream] = running.key

    def _needs(self, work: Work) -> dict[str, float]:
        """What Ray counts for a job: cores, bytes, GPUs."""
        limit, request = self._spec.memory_mb, self._options.request_mb
        if request != "auto":
            wanted = float(request * _MIB)
        elif work.peak_bytes is not None:
            wanted = _SPARE * work.peak_bytes
        else:
            wanted = float(_nodes.estimated_bytes(work.job))
        if isinstance(limit, int):
            wanted = min(wanted, float(limit * _MIB))
        # What is larger than every node is tried on the largest: its supervisor has the limit.
        largest = max((node.resources.get("memory", 0.0) for node in self._fit()), default=wanted)
        needs = {"CPU": self._options.cpus, "memory": min(wanted, largest)}
        if _nodes.needs_gpu(work.job):
            needs["GPU"] = self._options.gpus
        return needs

    def poll(self, timeout_s: float) -> list[tuple[int, Message]]:
        for running in self._running.values():
            if running.stream is None and running.packing is not None and running.packing.ready():
                self._submit(running)
        said, self._unheard = [*self._unheard, *self._cluster.poll(timeout_s)], []
        found: list[tuple[int, Message]] = []
        for stream, text, why in said:
            key = self._keys.get(stream)
            if text is None:
                self._keys.pop(stream, None)
            # Behind the last word of an attempt comes the end of its stream.
            if key is None or key not in self._running:
                continue
            message: Message = {"node_lost": why or _NO_DAEMON}
            if text is not None:
                message = json.loads(text)
            if "machine" in message:
                message = self._arrived(self._running[key], message)
            ended = self._running.pop(key) if ENDS & message.keys() else None
            if self._transfers is not None and message.get("stranded"):
                self._transfers.doubt()
            if ended is not None and self._transfers is not None and "sent" in message:
                self._transfers.collect(key, ended.work, message)
            else:
                found.append((key, message))
        collected = self._transfers.collected() if self._transfers is not None else []
        return [*found, *collected, *self._given_up()]

    def _arrived(self, running: _Running, hello: Message) -> Message:
        """An attempt has come to its node."""
        machine = hello["machine"]
        running.node = hello["id"]
        self._cluster.machines[running.node] = machine
        if (other := _nodes.differences(machine)) and not self._options.allow_skew:
            # A node that has joined since the run began: the others were looked at before.
            self._unfit.add(running.node)
            self._fit_of = None
            assert running.stream is not None
            self._cluster.cancel([running.stream])
            return {"unsuited": f"{machine['name']} has other versions: {other}"}
        address = next((n.address for n in self._cluster.nodes if n.id == running.node), "")
        return {"node": _nodes.described(hello, address).model_dump(mode="json")}

    def _given_up(self) -> list[tuple[int, Message]]:
        """The attempts of nodes that are lost, and those that no node can hold."""
        if (now := time.monotonic()) < self._next_look:
            return []
        self._next_look = now + _LOOK_S
        living = self._fit()
        dead = {node.id: node for node in self._cluster.nodes if not node.alive}
        found: list[tuple[int, Message]] = []
        for key, running in list(self._running.items()):
            if running.node in dead:
                # Ray says it too, as soon as it misses the messages of the task itself.
                found.append((key, {"node_lost": f"the node {dead[running.node]} was lost"}))
            elif running.packing is not None and not running.packing.ready():
                continue
            elif not running.node and (why := self._waits_in_vain(running, living)):
                found.append((key, {"no_node": why}))
        for key, _ in found:
            stream = self._running.pop(key).stream
            if stream is not None:
                self._cluster.cancel([stream])
        return found

    def _waits_in_vain(self, running: _Running, living: list[Node]) -> str:
        """Why a job that waits for a node gets none; empty: there is one, or there may be soon."""
        if running.stream is None:
            self._submit(running)
        if running.stream is not None and any(node.has(running.needs) for node in living):
            running.unfitting = None
            return ""
        now = time.monotonic()
        running.unfitting = running.unfitting or now
        if now - running.unfitting < self._options.wait_s:
            return ""
        asked = ", ".join(f"{name} {_amount(name, n)}" for name, n in running.needs.items())
        where = (
            f" among {', '.join(self._alone.nodes)}" if self._alone and self._alone.nodes else ""
        )
        return f"no node{where} has what the job asks for ({asked})"

    def close(self, keys: Collection[int]) -> None:
        """Cancel tasks and wait until each says that all of its attempt has ended."""
        ended = [self._running.pop(key) for key in keys if key in self._running]
        if self._transfers is not None:
            self._transfers.forget(keys)
        left = {running.stream for running in ended if running.stream is not None}
        for stream in left:
            self._keys.pop(stream, None)
        end = time.monotonic() + _CLOSE_S
        try:
            if left:
                self._cluster.cancel(list(left))
            while left and time.monotonic() < end:
                for said in self._cluster.poll(0.2):
                    if said[0] not in left:
                        self._unheard.append(said)
                    elif said[1] is None:
                        left.discard(said[0])
        except OSError:  # the cluster has gone, and its daemons end what hangs on it
            return
        if left:  # Ray did not even kill their workers: it does when the owner of the tasks goes
            self._cluster.kill()


def _amount(name: str, number: float) -> str:
    return f"{number / _MIB:.0f} MiB" if name == "memory" else f"{number:g}"
