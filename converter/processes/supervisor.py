"""The process that watches one job: its log, its time, its memory, its end.

The supervisor is a fork of the fork server. It forks the job's process, relays what that
reports, and accounts for it when it cannot do so itself. It is a subreaper, and leaves
nothing alive below it.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from converter.exchange import receiving
from converter.exchange.luggage import Luggage
from converter.layout.delivery import LOG, clear_staging
from converter.model.records import ALL_STAGES, ExporterAttempt, JobResult, Spent, StageName
from converter.processes import courier, jobprocess, proctree, sandbox
from converter.processes.carrier import Assignment
from converter.processes.courier import Abandoned
from converter.processes.joblog import JobLog
from converter.processes.outcome import (
    ProcessExit,
    io_failure,
    not_exchanged,
    outcome,
    unsandboxed,
)

# Also how long a SIGTERM may wait: Python resumes a poll that a signal interrupts (PEP 475).
_POLL_MS = 50
# Sampled over the whole tree: a resource limit counts each process alone, and RLIMIT_AS below 6 GB
# stops the import of a CUDA build of torch.
_MEMORY_EVERY_S = 0.1
# What a pipe of Linux holds by default.
_CHUNK = 1 << 16
_FULL = {errno.ENOSPC, errno.EDQUOT}


def supervise(assignment: Assignment, events: Connection) -> None:
    """Run one attempt of a job to its end and send what happens as JSON, the result last.

    Args:
        events: to the runner; when its other end closes, the job is killed.
    """
    os.setsid()  # signals of the terminal are for the runner alone
    # The server ignores it, and a fork inherits that: the kernel would keep no status for `wait4`.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # SIGTERM, not SIGKILL: where the server is killed, the job has to be ended first.
    proctree.die_with_parent(signal.SIGTERM)
    proctree.set_subreaper()
    with suppress(Abandoned, BrokenPipeError, ConnectionResetError):
        try:
            _send(events, _through(assignment, events))
        finally:
            proctree.kill_children()


def _through(assignment: Assignment, events: Connection) -> dict[str, Any]:
    """Run an attempt, with the ways to and from this machine where it has any; its last message."""
    job, luggage = assignment.job, assignment.luggage
    if luggage is not None:
        try:
            courier.run(partial(receiving.fetch, luggage, job), events)
        except OSError as error:
            return _stranded(luggage, error, not_exchanged(job, error))
    result = _watched(assignment, events)
    if luggage is None:
        return {"result": result.model_dump(mode="json")}
    if not os.path.isdir(job.model_dir):
        gone = FileNotFoundError(errno.ENOENT, "the folder was removed meanwhile", job.model_dir)
        return _stranded(luggage, gone, not_exchanged(job, gone))
    try:
        sent = courier.run(lambda: receiving.sent(luggage, job, result), events)
    except OSError as error:
        if result.status == "ok":
            return _stranded(luggage, error, not_exchanged(job, error, result))
        sent = []  # of a job that failed there is only the log to miss
    return {"result": result.model_dump(mode="json"), "sent": sent}


def _stranded(luggage: Luggage, error: OSError, result: JobResult) -> dict[str, Any]:
    """The last message of an attempt whose files came no further."""
    # A store that is full is so for every node; a disk or a network may be this node's own.
    store_is_full = error.errno in _FULL and str(error.filename).startswith(luggage.place)
    return {"result": result.model_dump(mode="json"), "stranded": not store_is_full}


def _watched(assignment: Assignment, events: Connection) -> JobResult:
    job = assignment.job
    stated = assignment.limits.sandbox
    if stated.refusal:
        return unsandboxed(job, stated.refusal)
    temporary: str | None = None
    try:
        # What a lost attempt left behind must not be taken for output of this one.
        clear_staging(job)
        if stated.applies:
            tempfile.tempdir = None  # of the server; the next call looks at the environment
            temporary = tempfile.mkdtemp(prefix="converter-job-")
        log = JobLog(Path(job.model_dir) / LOG, assignment.attempt)
    except OSError as error:
        return io_failure(job, error)
    rules = sandbox.rules(job, stated, temporary, os.environ) if temporary is not None else None
    try:
        return _Watch(assignment, events, log, rules, temporary).run()
    finally:
        proctree.kill_children()
        log.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _send(events: Connection, message: dict[str, Any]) -> None:
    events.send_bytes(json.dumps(message).encode())


class _Watch:
    """State of the watch over one job's process."""

    def __init__(
        self,
        assignment: Assignment,
        events: Connection,
        log: JobLog,
        rules: sandbox.Rules | None,
        temporary: str | None,
    ) -> None:
        self._job = assignment.job
        self._limits = assignment.limits
        self._entry = assignment.entry
        self._events = events
        self._log = log
        self._rules = rules
        self._temporary = temporary
        self._poll = select.poll()
        self._pending = b""
        self._result: JobResult | None = None
        self._stopping = False
        self._stages: list[tuple[StageName, float]] = []
        self._attempts: list[ExporterAttempt] = []
        self._limit: str | None = None
        self._peak = 0
        self._kill_at: float | None = None
        self._next_sample = 0.0
        self._apart_since: float | None = None

    def run(self) -> JobResult:
        signal.signal(signal.SIGTERM, self._stop)
        self._fork()
        status, usage_kib = self._watch()
        # A child that goes on writing would leave what is read below without an end.
        proctree.kill_children()
        self._drain()
        ending = ProcessExit(
            status=status,
            limit=self._limit,
            stages=tuple(self._stages),
            attempts=tuple(self._attempts),
            ended_at=time.monotonic(),
            # The kernel knows a peak between two samples, but only that of the largest process.
            peak_bytes=max(self._peak, usage_kib * 1024),
            last_words=self._log.last_words(),
        )
        result = self._result
        # A job over its limit may still report a result in its grace time: the limit counts.
        if result is None or self._limit is not None:
            result = outcome(self._job, self._limits, ending)
        return result.model_copy(update={"spent": self._spent()})

    def _spent(self) -> Spent:
        # All that the job has started were reaped here, so that the kernel has added them up.
        used, before = resource.getrusage(resource.RUSAGE_CHILDREN), self._before
        return Spent(
            started_at=f"{datetime.fromtimestamp(self._began, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
            seconds=round(time.monotonic() - self._started, 3),
            cpu_seconds=round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 3),
        )

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        # Only noted: a handler may interrupt any line, also in the middle of a message.
        self._stopping = True

    def _fork(self) -> None:
        # Two pipes: what a model prints must not be taken for a message, however it looks.
        self._output, output = os.pipe()
        self._messages, messages = os.pipe()
        self._began, self._started = time.time(), time.monotonic()
        # What brought the job's files here was a child, too.
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Asked before the fork: the child compares it with its parent, to see whether we are gone.
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            self._events.close()
            os.close(self._output)
            os.close(self._messages)
            jobprocess.main(self._job, self._entry, messages, output, supervisor, self._rules)
        os.close(output)
        os.close(messages)
        # Monotonic: a clock that is set while a job runs must not end it.
        self._deadline = time.monotonic() + self._limits.timeout_s
        # Not the ends of its pipes: what the job has started may hold them open beyond its end.
        self._ended = os.pidfd_open(self._pid)
        self._poll.register(self._ended, select.POLLIN)
        for descriptor in (self._output, self._messages):
            # A writer that even SIGKILL does not end must not keep `_drain` waiting.
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._events.fileno(), select.POLLIN)  # only ever its end
        # Where this supervisor is killed, the runner waits for that process to go before it looks
        # for what it has left behind.
        _send(self._events, {"pid": self._pid, "temporary": self._temporary})

    def _watch(self) -> tuple[int, int]:
        """Serve the job's pipes and limits until it ends; its wait status and peak memory, KiB."""
        while True:
            for descriptor, _ in self._poll.poll(_POLL_MS):
                if descriptor == self._events.fileno():
                    raise Abandoned
                if descriptor != self._ended and not self._read(descriptor):
                    # Its end stays readable for ever: the poll would no longer wait.
                    self._poll.unregister(descriptor)
            if self._stopping:
                raise Abandoned
            while (ended := os.wait4(-1, os.WNOHANG))[0]:  # also orphans that came to us
                if ended[0] == self._pid:
                    # KiB on Linux.
                    return ended[1], ended[2].ru_maxrss
            self._enforce(time.monotonic())

    def _read(self, descriptor: int) -> bool:
        """Take one chunk from a pipe; false at its end."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return True
        if descriptor == self._output:
            self._log.write(data)
        else:
            self._take_messages(data)
        return bool(data)

    def _take_messages(self, data: bytes) -> None:
        # A chunk may end within a message: the rest waits for the next one.
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
                if "result" in message:
                    # As JSON: strict types take text for an enum there only.
                    self._result = JobResult.model_validate_json(json.dumps(message["result"]))
                    continue
                if "apart" in message:
                    self._set_apart(bool(message["apart"]))
                    continue
                if "attempt" in message:
                    attempt = ExporterAttempt.model_validate_json(json.dumps(message["attempt"]))
                    self._attempts.append(attempt)
                else:
                    # Looked up: a name that is no stage raises ValueError, and mypy knows the type
                    # of what is found.
                    stage = ALL_STAGES[ALL_STAGES.index(message["stage"])]
                    self._stages.append((stage, time.monotonic()))
            # Any code of the job can write into this pipe: what is no message is no reason to end.
            except (ValueError, KeyError, TypeError) as error:
                self._log.write(f"[a message of the job cannot be read: {error}]\n".encode())
                continue
            _send(self._events, message)

    def _set_apart(self, begins: bool) -> None:
        """Let the time limit stand still; what it stands still for has one of its own."""
        now = time.monotonic()
        if self._apart_since is not None:
            self._deadline += now - self._apart_since
        self._apart_since = now if begins else None

    def _late(self, now: float) -> bool:
        if self._apart_since is None:
            return now >= self._deadline
        return now >= self._apart_since + self._job.sibling_s + self._limits.grace_s

    def _enforce(self, now: float) -> None:
        if self._kill_at is not None:
            if now >= self._kill_at:
                # At each tick again: what is forked while the list is made is in the next one.
                proctree.send(proctree.descendants(os.getpid()), signal.SIGKILL)
            return
        if self._late(now):
            self._limit = "time"
            self._kill_at = now + self._limits.grace_s
            # faulthandler answers it with the stack, which says where the job hung.
            proctree.send(proctree.descendants(os.getpid()), signal.SIGTERM)
        elif now >= self._next_sample:
            self._next_sample = now + _MEMORY_EVERY_S
            self._check_memory(now)

    def _check_memory(self, now: float) -> None:
        pids = proctree.descendants(os.getpid())
        held, limit = proctree.rss_bytes(pids), self._limits.memory_bytes
        if limit is not None and held > limit:
            # Pages shared with the fork server and among forks were counted several times.
            # None is known where the kernel does not tell, or where the job has just ended.
            held = proctree.pss_bytes(pids) or proctree.rss_bytes(pids)
            if held > limit:
                self._limit = "memory"
                # No grace: it would go on allocating.
                self._kill_at = now
                proctree.send(pids, signal.SIGKILL)
        self._peak = max(self._peak, held)

    def _drain(self) -> None:
        """Read what is left in the pipes; all writers have ended."""
        for descriptor in (self._output, self._messages):
            try:
                while data := os.read(descriptor, _CHUNK):
                    if descriptor == self._output:
                        self._log.write(data)
                    else:
                        self._take_messages(data)
            except BlockingIOError:  # a writer that even SIGKILL did not end
                pass
            os.close(descriptor)
