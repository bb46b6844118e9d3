"""Attempts in processes of this machine, forked by servers that have imported the libraries."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from converter.model.measure import Measure, PairedBenchmark
from converter.processes import proctree
from converter.processes.carrier import ENDS, Assignment, Message, Work
from converter.processes.forkserver import ForkServer
from converter.processes.limits import Limits

_CLOSE_S = 10.0
# Of a supervisor, beyond what it grants its job: a busy machine is no reason to lose a result.
_MARGIN_S = 60.0
# From a fork to the job: the first one waits for the imports.
_START_S = 600.0
_TIMED = (Measure, PairedBenchmark)
# Of the GNU C library, 2.35 or later; others ignore it.
_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
# Both are of OpenMP, and each says what its threads do that have nothing to do.
_WAIT_POLICY, _SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"


@dataclass
class _Running:
    """An attempt.

    Attributes:
        ends: monotonic time by which something has to be heard; ``None``: whenever.
        pid: of its job, and of the supervisor that watches that.
        temporary: the folder of its temporary files, which its supervisor removes if it can.
        siblings: what it makes beside its own file, each with a time limit of its own.
    """

    connection: Connection
    converts: bool
    limits: Limits
    moves_files: bool
    ends: float | None
    pid: int | None = None
    supervisor: int | None = None
    temporary: str | None = None
    siblings: int = 0

    def clear(self) -> None:
        """Remove what a supervisor that was killed has left; all that it started has ended."""
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)


class LocalCarrier:
    """A ``Carrier``.

    Args:
        limits: of each attempt.
        workers: attempts at a time.
    """

    several_nodes = False

    def __init__(self, limits: Limits, workers: int) -> None:
        self._limits = limits
        self._workers = workers
        self._running: dict[int, _Running] = {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """What a killed supervisor leaves behind becomes a child of this process, and is ended."""
        proctree.set_subreaper()
        try:
            yield
        finally:
            _kill_orphans()
            proctree.set_subreaper(False)

    @property
    def connections(self) -> list[Connection]:
        """What becomes readable when there is something to poll."""
        return [running.connection for running in self._running.values()]

    def room(self) -> bool:
        return len(self._running) < self._workers

    def idle(self) -> bool:
        return self.room()

    def start(self, key: int, work: Work) -> None:
        surroundings = dict(os.environ), list(sys.path), os.getcwd()
        self.begin(key, Assignment(work.job, work.attempt, self._limits, work.entry, *surroundings))

    def begin(self, key: int, assignment: Assignment) -> None:
        """Like ``start``, with all that an attempt is given."""
        converts = not isinstance(assignment.job, _TIMED)
        try:
            connection = server(converts).start(assignment)
        except ConnectionError:  # somebody killed it
            # Its supervisors end with it, and their connections tell so.
            servers.pop(converts).close()
            connection = server(converts).start(assignment)
        moves_files = assignment.luggage is not None
        ends = None if moves_files else time.monotonic() + _START_S
        self._running[key] = _Running(
            connection,
            converts,
            assignment.limits,
            moves_files,
            ends,
            siblings=len(assignment.job.siblings),
        )
        self._share()

    def poll(self, timeout_s: float) -> list[tuple[int, Message]]:
        keys = {running.connection: key for key, running in self._running.items()}
        found = []
        for connection in wait(list(keys), timeout=timeout_s):
            assert isinstance(connection, Connection)
            key = keys[connection]
            message = self._receive(self._running[key])
            if ENDS & message.keys():
                _close([self._running.pop(key).connection])
                self._share()
            found.append((key, message))
        for key, running in list(self._running.items()):
            if running.ends is not None and time.monotonic() > running.ends:
                found.append((key, _give_up(self._running.pop(key))))
        _kill_orphans()
        return found

    def _share(self) -> None:
        """Divide the cores among what is being converted."""
        if (conversions := servers.get(True)) is not None:
            conversions.share(sum(running.converts for running in self._running.values()))

    def _receive(self, running: _Running) -> Message:
        try:
            message: Message = json.loads(running.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            if running.pid is not None:
                _await_orphans(running.pid)
            running.clear()
            return {"lost": ""}
        if "pid" in message:
            running.pid = message["pid"]
            running.temporary = message.pop("temporary")
            running.supervisor = _supervisor(message["pid"], running.converts)
            if not running.moves_files:
                each = running.limits.timeout_s + running.limits.grace_s
                most = each * (1 + running.siblings)
                running.ends = time.monotonic() + most + _MARGIN_S
        return message

    def close(self, keys: Collection[int]) -> None:
        ended = [self._running.pop(key) for key in keys if key in self._running]
        # End the servers that no job has heard of: at their imports they are deaf for seconds.
        if not self._running and all(running.pid is None for running in ended):
            for converts in {running.converts for running in ended}:
                if (unanswered := servers.pop(converts, None)) is not None:
                    unanswered.close()
        silent = _close([running.connection for running in ended])
        for running in ended:
            if running.connection in silent and running.supervisor is not None:
                _kill(running.supervisor, running.pid)
                running.clear()


servers: dict[bool, ForkServer] = {}
"""Those of all runs of this process: the points of a sweep share its imports.

The key says whether it is one for conversions: latencies are taken in plain surroundings.
"""


further_libraries: list[str] = []
"""What servers that are started from here on import beside the usual."""


def server(converts: bool) -> ForkServer:
    """The server of a kind, started where there is none."""
    if converts not in servers:
        servers[converts] = _new_server(converts)
    return servers[converts]


def _new_server(converts: bool) -> ForkServer:
    made = ForkServer(surroundings() if converts else {}, further_libraries)
    atexit.register(made.close)
    return made


def surroundings() -> dict[str, str]:
    """The environment in which the libraries of conversions start, where the user has none.

    Both are read when a process starts, so that only a server of its own can have them.
    """
    changes, stated = {}, os.environ.get(_TUNABLES, "")
    # Large blocks of memory come in pages of 2 MB where the kernel lets programs ask for them: a
    # conversion touches gigabytes that it has just been given.
    if _HUGE_PAGES.partition("=")[0] not in stated:
        changes[_TUNABLES] = f"{stated}:{_HUGE_PAGES}" if stated else _HUGE_PAGES
    # A thread of torch that waits for another looks for it without a break, and where a machine is
    # shared it keeps the other from its core: three models took 42 s of CPU, and 12 with this.
    if os.environ.keys().isdisjoint((_WAIT_POLICY, _SPINS)):
        changes[_WAIT_POLICY] = "PASSIVE"
    return changes


def _supervisor(job: int, converts: bool) -> int | None:
    """The process that watches a job; ``None``: it has gone, and the job is an orphan of ours."""
    found, made = proctree.parent(job), servers.get(converts)
    is_ours = found is not None and made is not None and proctree.parent(found) == made.pid
    return found if is_ours else None


def _give_up(running: _Running) -> Message:
    """End an attempt whose supervisor, or the server of that, has not kept its time."""
    if running.supervisor is not None:
        words = "its supervisor did not end it in time, and was killed"
        _kill(running.supervisor, running.pid)
        running.clear()
    else:
        words = f"it had not begun after {_START_S:g} s: the server of the workers was replaced"
        # Others of it are lost with it, and say so.
        if (silent := servers.pop(running.converts, None)) is not None:
            silent.close()
    running.connection.close()
    return {"lost": words}


def _kill(supervisor: int, job: int | None) -> None:
    """End a supervisor that holds its connection and hears of nothing, with all below it."""
    proctree.send([supervisor], signal.SIGKILL)
    assert job is not None, "known with its supervisor"
    _await_orphans(job)


def _kill_orphans() -> None:
    # Orphans come from a supervisor's session or from one of their own; the fork server and
    # what else this process has started are in this session.
    proctree.kill_children(spare_session=os.getsid(0))


def _await_orphans(pid: int) -> None:
    """A job dies with its supervisor, but what it has started comes to us only when it has."""
    end = time.monotonic() + _CLOSE_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        _kill_orphans()
        time.sleep(0.001)
    _kill_orphans()


def _close(connections: list[Connection]) -> list[Connection]:
    """Tell supervisors that nobody waits, and wait until they have ended all below them.

    Returns:
        Those that have not: they may be stopped.
    """
    # All are told before any is waited for, so that they end side by side.
    for connection in connections:
        # A Connection has no shutdown of its own.
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_WR)  # our reading end stays, to see theirs close
    deadline, silent = time.monotonic() + _CLOSE_S, []
    for connection in connections:
        try:
            while connection.poll(max(0.0, deadline - time.monotonic())):
                connection.recv_bytes()
            silent.append(connection)
        except (EOFError, ConnectionResetError):
            pass
        connection.close()
    return silent
