"""Runs each job in a process of its own, several at a time, bounded in time and memory."""

from __future__ import annotations

import atexit
import json
import os
import socket
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from converter.layout import environment
from converter.model import clarity
from converter.model.batch import ExecutorSpec
from converter.model.errors import Code
from converter.model.job import Composed, Derived, Job
from converter.model.records import ExporterAttempt, JobResult, WorkerEvent
from converter.plugins.executors import (
    Event,
    Events,
    Executor,
    Finished,
    StageEntered,
    Started,
    Tick,
)
from converter.processes import proctree
from converter.processes.forkserver import ForkServer
from converter.processes.limits import Limits
from converter.processes.outcome import lost

_TICK_S = 0.2  # `Executor.run` promises an event in 0.25 s
_CLOSE_S = 10.0
_MIB = 1 << 20
_CONVERSIONS = (Job.ENTRY, Derived.ENTRY, Composed.ENTRY)
# Of the GNU C library, 2.35 or later; others ignore it.
_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = "glibc.malloc.hugetlb=1"


@dataclass
class _Attempt:
    job: Job
    number: int
    before: tuple[ExporterAttempt, ...] = ()
    failure: JobResult | None = None  # of the tries before, the one that came furthest
    pid: int | None = None
    news: list[WorkerEvent] = field(default_factory=list)


class ProcessExecutor:
    """Args: entry: ``module:function`` in place of that of each job, importable in a worker."""

    def __init__(self, spec: ExecutorSpec, entry: str | None = None) -> None:
        self._workers = environment.cores() if spec.workers == "auto" else spec.workers
        self._limits = Limits(spec.timeout_s, spec.grace_s, _memory_limit(spec))
        self._retries = spec.retries
        self._entry = entry

    def run(self, jobs: Sequence[Job]) -> Events:
        # The runner's own deque, not a copy: it appends what follows from a file.
        waiting = jobs if isinstance(jobs, deque) else deque(jobs)
        again: deque[_Attempt] = deque()
        running: dict[Connection, _Attempt] = {}
        with _adopting_orphans():
            try:
                while waiting or again or running:
                    while (waiting or again) and len(running) < self._workers:
                        attempt = _Attempt(waiting.popleft(), 1) if waiting else again.popleft()
                        running[self._start(attempt)] = attempt
                    for connection in wait(list(running), timeout=_TICK_S):
                        assert isinstance(connection, Connection)
                        attempt = running[connection]
                        event = _receive(connection, attempt)
                        if isinstance(event, Finished):
                            del running[connection]
                            _close([connection])
                            if (other := self._again(event.result, attempt)) is not None:
                                again.append(other)
                                continue
                            event = Finished(_furthest(attempt, event.result))
                        yield event
                    _kill_orphans()
                    yield Tick()
            finally:
                # Also where the generator is closed in the middle: no process outlives its run.
                self._give_up_unanswered(running.values())
                _close(list(running))

    def _start(self, attempt: _Attempt) -> Connection:
        entry = self._entry or attempt.job.ENTRY
        # Latencies are taken in the surroundings that a user of the file has.
        huge_pages = entry in _CONVERSIONS
        try:
            return self._server(huge_pages).start(attempt.job, attempt.number, self._limits, entry)
        except ConnectionError:  # somebody killed it
            self._server(huge_pages).close()
            # Its supervisors end with it, and their connections tell so.
            del servers[huge_pages]
            return self._server(huge_pages).start(attempt.job, attempt.number, self._limits, entry)

    def _server(self, huge_pages: bool) -> ForkServer:
        if huge_pages not in servers:
            servers[huge_pages] = _new_server(huge_pages)
        return servers[huge_pages]

    def _give_up_unanswered(self, attempts: Collection[_Attempt]) -> None:
        """End the servers that no job has heard of: at their imports they are deaf for seconds."""
        if all(attempt.pid is None for attempt in attempts):
            for entry in {self._entry or attempt.job.ENTRY for attempt in attempts}:
                if (server := servers.pop(entry in _CONVERSIONS, None)) is not None:
                    server.close()

    def _again(self, result: JobResult, attempt: _Attempt) -> _Attempt | None:
        """The next try of a job whose process was lost, or ``None``.

        Only what a signal ended may go better again: at the end, when less else runs. Where an
        exporter took the process or its memory with it each time, those after it have their turn.
        """
        code = result.error.code if result.error is not None else None
        if code == Code.SIGNAL and attempt.number <= self._retries:
            return _Attempt(attempt.job, attempt.number + 1, attempt.before, attempt.failure)
        if type(attempt.job) is not Job:  # it names a file that is there: no exporter is at work
            return None
        done = result.attempts_by_exporter
        # `done` holds the tries of earlier processes too; `exporters` of this job are those that
        # were left.
        tried = len(done) - len(attempt.before)
        left = attempt.job.exporters[tried:]
        verified = any(exporter.status == "ok" for exporter in done)
        # Where none was tried the loss is not an exporter's, and another would not help.
        if code not in (Code.SIGNAL, Code.MEM_LIMIT) or not tried or not left or verified:
            return None
        job = attempt.job.model_copy(update={"exporters": left})
        return _Attempt(job, attempt.number + 1, tuple(done), _furthest(attempt, result))


def _memory_limit(spec: ExecutorSpec) -> int | None:
    if spec.memory_mb is None:
        return None
    if spec.memory_mb == "auto":
        return int(0.85 * environment.memory_bytes())
    return spec.memory_mb * _MIB


servers: dict[bool, ForkServer] = {}
"""Those of all runs of this process: the points of a sweep share its imports.

The key says whether large blocks of memory come in pages of 2 MB where the kernel lets programs
ask for them: a conversion touches gigabytes that it has just been given.
"""


def _new_server(huge_pages: bool) -> ForkServer:
    environ = {}
    stated = os.environ.get(_TUNABLES, "")
    # What the user has set for it counts. The variable is read when a process starts, so that only
    # a server of its own can have it.
    if huge_pages and _HUGE_PAGES.partition("=")[0] not in stated:
        environ[_TUNABLES] = f"{stated}:{_HUGE_PAGES}" if stated else _HUGE_PAGES
    server = ForkServer(environ)
    atexit.register(server.close)
    return server


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """What a killed supervisor leaves behind becomes a child of this process, and is ended."""
    proctree.set_subreaper()
    try:
        yield
    finally:
        _kill_orphans()
        proctree.set_subreaper(False)


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


def _receive(connection: Connection, attempt: _Attempt) -> Event:
    name = attempt.job.label
    try:
        message = json.loads(connection.recv_bytes())
    except (EOFError, ConnectionResetError):
        if attempt.pid is not None:
            _await_orphans(attempt.pid)
        result = lost(attempt.job, attempt.news)
        return _finished(result, attempt)
    if "pid" in message:
        attempt.pid = message["pid"]
        return Started(name, attempt.number, message["pid"])
    if "stage" in message:
        attempt.news.append(message["stage"])
        return StageEntered(name, message["stage"])
    if "attempt" in message:
        attempt.news.append(ExporterAttempt.model_validate_json(json.dumps(message["attempt"])))
        return Tick()
    # As JSON: strict types take text for an enum there only.
    result = JobResult.model_validate_json(json.dumps(message["result"]))
    return _finished(result, attempt)


def _finished(result: JobResult, attempt: _Attempt) -> Finished:
    """The result with the number of tries, and the exporters of the tries before."""
    exporters = [*attempt.before, *result.attempts_by_exporter]
    changes = {"attempts": attempt.number, "attempts_by_exporter": exporters}
    return Finished(result.model_copy(update=changes))


def _furthest(attempt: _Attempt, result: JobResult) -> JobResult:
    """The result of a try, or of several failures the one that tells most.

    As within one process; what was tried is in it in full.
    """
    if result.error is None or attempt.failure is None:
        return result
    tries = [attempt.failure, result]
    found = tries[clarity.clearest([each.error for each in tries if each.error is not None])]
    assert found.error is not None
    return found.model_copy(
        update={
            "error": clarity.in_full(found.error, result.attempts_by_exporter),
            "attempts": result.attempts,
            "attempts_by_exporter": result.attempts_by_exporter,
        }
    )


def _close(connections: list[Connection]) -> None:
    """Tell supervisors that nobody waits, and wait until they have ended all below them."""
    # All are told before any is waited for, so that they end side by side.
    for connection in connections:
        # A Connection has no shutdown of its own.
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_WR)  # our reading end stays, to see theirs close
    deadline = time.monotonic() + _CLOSE_S
    for connection in connections:
        try:
            while connection.poll(max(0.0, deadline - time.monotonic())):
                connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            pass
        connection.close()


def create(spec: ExecutorSpec) -> Executor:
    return ProcessExecutor(spec)
