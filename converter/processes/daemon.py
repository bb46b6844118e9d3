"""The daemon of a node: it holds the fork servers there, and a supervisor for each connection.

It listens on a Unix socket, and everything that it starts hangs on connections: where one closes,
its attempt is killed and reaped, whatever the reason; without any the daemon ends after its lease.
Whoever connects hears first which machine this is, and then says what it wants, see ``Parcel``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

from converter.exchange.scratch import Scratch
from converter.layout import environment
from converter.model.manifest import Environment
from converter.plan import packages
from converter.processes import limits
from converter.processes.carrier import ENDS, Assignment, Message
from converter.processes.local import LocalCarrier, further_libraries, server, servers
from converter.storage.objects import CLIENTS

_TICK_S = 0.2
_BACKLOG = 1024


@dataclass(frozen=True)
class Parcel:
    """What a node is given of an attempt; it comes behind the surroundings, as JSON.

    Attributes:
        own_memory: the limit of memory is a share of the node's.
        own_threads: as many threads as the node has cores.
    """

    assignment: Assignment
    own_memory: bool
    own_threads: bool

    def opened(self, environ: dict[str, str], root: str = "") -> Assignment:
        """What runs here.

        Args:
            environ: what the cluster wants to be in the environment, such as the GPUs of this job.
            root: the folder that files are brought to.
        """
        given = self._here(root)
        bounds, job = given.limits, given.job
        if self.own_memory:
            bounds = replace(bounds, memory_bytes=limits.of_this_machine())
        if self.own_threads:
            job = job.model_copy(update={"threads": environment.physical_cores()})
        return replace(given, job=job, limits=bounds, environ={**given.environ, **environ})

    def _here(self, root: str) -> Assignment:
        """The assignment with the paths of this machine, where it is to have its own."""
        given = self.assignment
        if given.luggage is None:
            return given
        luggage = replace(given.luggage, root=root)
        return replace(
            given,
            job=luggage.job(given.job),
            environ=luggage.environ(given.environ),
            # The installation may lie somewhere else here.
            path=list(dict.fromkeys([*luggage.path(given.path), *sys.path])),
            folder=f"{root}{given.folder}",
            luggage=luggage,
        )


class Machine(Environment):
    """This machine, for who connects; ``pid`` is the daemon's."""

    name: str
    pid: int


def serve(path: str, lease_s: float, ready: int, niceness: int, scratch: str | None) -> None:
    """Serve connections until there was none for ``lease_s``, or one says ``stop``.

    Args:
        path: of the socket; beside it ``lock`` is held by who looks whether there is a daemon.
        ready: a descriptor that gets a byte, and is closed, once the socket listens.
        niceness: the driver's. Ray gives its workers 15, with which a job gets nothing beside
            others, and a latency says so.
        scratch: the folder of this node for files that are brought here, empty: that of the socket;
            ``None``: none is, since all folders are shared.
    """
    with contextlib.suppress(PermissionError):  # it takes a right to be less nice
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    run = None
    if scratch is not None:
        place = Path(path)
        # A process of its own brings the files of each job: it is forked with them.
        further_libraries.extend(CLIENTS)
        run = Scratch(Path(scratch) if scratch else place.parent).claim(place.stem)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found = environment.collect(packages.versions())
    machine = Machine(**dict(found), name=socket.gethostname(), pid=os.getpid())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(_BACKLOG)
        os.write(ready, b"1")
        os.close(ready)
        _Daemon(listener, path, machine, lease_s, str(run.files) if run is not None else "").run()
    if run is not None:
        run.remove()


class _Daemon:
    """State of the daemon: connections, and which of them wait for which attempt."""

    def __init__(
        self, listener: socket.socket, path: str, machine: Machine, lease_s: float, root: str
    ) -> None:
        self._listener = listener
        self._path = Path(path)
        self._hello = json.dumps({"machine": machine.model_dump(mode="json")}).encode()
        self._lease_s = lease_s
        self._root = root
        # The limits come with each attempt, and the cluster counts what fits.
        self._carrier = LocalCarrier(limits.Limits(0, 0, None), workers=0)
        self._clients: dict[int, Connection] = {}
        self._running: set[int] = set()
        self._stopping = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        last = time.monotonic()
        with self._carrier.opened():
            while not self._stopping:
                self._step()
                if self._clients:
                    last = time.monotonic()
                elif time.monotonic() - last > self._lease_s and self._closed():
                    break
            self._closed()
            self._carrier.close(list(self._running))
            for one in servers.values():
                one.close()
        # Behind all else: their other ends see that everything has ended.
        for client in self._clients.values():
            client.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _step(self) -> None:
        """Wait for something to happen, and take it."""
        wait([self._listener, *self._clients.values(), *self._carrier.connections], _TICK_S)
        if select.select([self._listener], [], [], 0)[0]:
            self._accept()
        keys = {client: key for key, client in self._clients.items()}
        for client in wait(list(keys), 0):
            assert isinstance(client, Connection)
            self._hear(keys[client], client)
        for key, message in self._carrier.poll(0):
            self._tell(key, message)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        client = Connection(connection.detach())
        try:
            client.send_bytes(self._hello)
        except OSError:  # it has gone
            client.close()
            return
        self._clients[max(self._clients, default=0) + 1] = client

    def _hear(self, key: int, client: Connection) -> None:
        """What a connection wants; behind its attempt it only ever ends."""
        try:
            if key in self._running:
                client.recv_bytes()
            else:
                wanted = json.loads(client.recv_bytes())
                self._stopping |= bool(wanted.get("stop"))
                if wanted.get("warm"):
                    server(converts=True)
                if "environ" in wanted:
                    parcel: Parcel = client.recv()
                    self._carrier.begin(key, parcel.opened(wanted["environ"], self._root))
                    self._running.add(key)
        except (EOFError, OSError):
            self._hang_up(key)

    def _tell(self, key: int, message: Message) -> None:
        if ENDS & message.keys():
            self._running.discard(key)
        if key not in self._clients:  # it has gone since the messages were taken
            return
        try:
            text = json.dumps(message)
            # Who reads it knows the paths of the driver.
            text = text.replace(json.dumps(self._root)[1:-1], "") if self._root else text
            self._clients[key].send_bytes(text.encode())
        except OSError:
            self._hang_up(key)
            return
        if ENDS & message.keys():
            self._hang_up(key)

    def _hang_up(self, key: int) -> None:
        if key in self._running:
            self._running.discard(key)
            self._carrier.close([key])
        # Behind the reaping: who closes its end may wait for ours to close.
        self._clients.pop(key).close()

    def _closed(self) -> bool:
        """Let nobody else connect; false where somebody has just done so."""
        with open(self._path.with_name("lock"), "ab") as lock:
            # Who looks for a daemon holds it until it has connected.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._stopping and select.select([self._listener], [], [], 0)[0]:
                return False
            for path in (self._path, self._path.with_suffix(".log")):
                path.unlink(missing_ok=True)
            self._listener.close()
        return True
