"""The order of attempts: what waits, what is tried again, and what a job's last word is.

Where an attempt runs is its carrier's (``converter/processes/carrier.py``). On several nodes each
attempt has a staging folder of its own: one that was given up for lost may still write.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from converter.layout import delivery
from converter.model import clarity
from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import (
    ExporterAttempt,
    JobResult,
    NodeInfo,
    Spent,
    Try,
    WorkerEvent,
)
from converter.plugins.executors import (
    Event,
    Events,
    Finished,
    GivenUp,
    Past,
    StageEntered,
    Started,
    Tick,
    Waits,
)
from converter.plugins.executors._nodes import needs_gpu
from converter.plugins.executors._waiting import Memory, Waiting
from converter.processes import outcome
from converter.processes.carrier import Carrier, Message, Work

_TICK_S = 0.2  # `Executor.run` promises an event in 0.25 s
_SLOW = 3.0


@dataclass(frozen=True)
class Rules:
    """What is tried again.

    Attributes:
        retries: further tries of a job that a signal ended.
        entry: ``module:function`` in place of that of each job.
        node_retries: further tries of a job whose node was lost, or did not get its files, beside
            the others.
        past: by label what an earlier run took. The longest begin first, and a job that takes three
            times as long is started a second time on another node, once nothing else waits.
        memory: that jobs hold side by side, as far as the past tells.
        slow_s: seconds beyond its earlier time before a job counts as slow.
        in_order: results come in the order of the jobs, where one runs at a time: what is tried
            again comes before all that waits, else behind it, when less else runs.
    """

    retries: int
    entry: str | None = None
    node_retries: int = 0
    past: Mapping[str, Past] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    slow_s: float = 30.0
    in_order: bool = False


@dataclass
class _Attempt:
    """One try of a job.

    Attributes:
        before: the exporters that earlier tries were done with.
        failure: of the tries before, the one that came furthest.
        others: those of which nothing was taken.
        foreign: how many tries before it ended by no doing of the job's: its node was lost, it was
            slow there. ``losses`` are those whose node was lost, or did not get the files.
        avoid: nodes that it should not run on.
        placed: the job with the folders of this try.
        begun: monotonic time; ``began`` is by the clock.
        twin: the key of another try of the same job, which runs beside it; ``helped``: it had one.
    """

    job: Job
    number: int
    before: tuple[ExporterAttempt, ...] = ()
    failure: JobResult | None = None
    others: tuple[Try, ...] = ()
    foreign: int = 0
    losses: int = 0
    avoid: frozenset[str] = frozenset()
    placed: Job | None = None
    news: list[WorkerEvent] = field(default_factory=list)
    node: NodeInfo | None = None
    begun: float | None = None
    began: float = 0.0
    twin: int | None = None
    helped: bool = False

    def following(self, **changes: Any) -> _Attempt:
        """The next try of the same job."""
        begun: dict[str, Any] = {"placed": None, "news": [], "node": None, "begun": None}
        return replace(self, number=self.number + 1, twin=None, **begun, **changes)

    def elsewhere(self, *, lost: bool) -> _Attempt:
        """The next try of a job that could do nothing for the end of this one."""
        avoid = self.avoid | ({self.node.id} if self.node is not None else set())
        losses = self.losses + int(lost)
        return self.following(foreign=self.foreign + 1, losses=losses, avoid=avoid)


class Dispatcher:
    """Runs jobs with a carrier; one run."""

    def __init__(self, carrier: Carrier, rules: Rules) -> None:
        self._carrier = carrier
        self._rules = rules
        self._keys = count()
        self._again: deque[_Attempt] = deque()
        self._running: dict[int, _Attempt] = {}
        # The folders of an earlier run of the same directory, whose attempts may not have ended.
        self._token = os.urandom(3).hex()

    def run(self, jobs: Sequence[Job]) -> Events:
        # The runner's own deque, not a copy: it appends what follows from a file.
        queue = jobs if isinstance(jobs, deque) else deque(jobs)
        waiting = Waiting(queue, self._rules.past)
        with self._carrier.opened():
            try:
                while waiting or self._again or self._running:
                    yield from self._fill(waiting)
                    if self._carrier.several_nodes and not waiting:
                        self._help_the_slow()
                    told: list[Event] = []
                    for key, message in self._carrier.poll(_TICK_S):
                        # Nothing is heard any more of one that another was faster than.
                        if key in self._running:
                            told += self._take(key, message)
                    # Before results are told: letting one in takes a while, and the place is free.
                    yield from self._fill(waiting)
                    yield from told
                    yield Tick()
            finally:
                # Also where the generator is closed in the middle: no process outlives its run.
                self._carrier.close(list(self._running))
                for attempt in self._running.values():
                    self._discard(attempt)

    def _fill(self, waiting: Waiting) -> Iterator[Event]:
        while (waiting or self._again) and self._carrier.room():
            if (attempt := self._next(waiting)) is None:
                return
            yield from self._begin(attempt)

    def _next(self, waiting: Waiting) -> _Attempt | None:
        """What begins next; ``None``: nothing that waits fits beside what runs."""
        if self._again and (self._rules.in_order or not waiting):
            return self._again.popleft() if self._fits(self._again[0].job) else None
        job = waiting.pop(self._fits)
        return _Attempt(job, 1) if job is not None else None

    def _fits(self, job: Job) -> bool:
        running = (attempt.job for attempt in self._running.values())
        return self._rules.memory.fits(job, running, self._rules.past)

    def _begin(self, attempt: _Attempt) -> Iterator[Event]:
        try:
            self._start(attempt)
        except _Unplaceable as error:
            yield Finished(outcome.io_failure(attempt.job, error.error))

    def _start(self, attempt: _Attempt) -> int:
        key = next(self._keys)
        several = self._carrier.several_nodes
        attempt.placed = self._place(attempt, key) if several else attempt.job
        past = self._rules.past.get(attempt.job.label)
        work = Work(
            attempt.placed,
            attempt.number,
            self._rules.entry or attempt.job.ENTRY,
            attempt.avoid,
            past.peak_bytes if past is not None else None,
        )
        self._carrier.start(key, work)
        self._running[key] = attempt
        return key

    def _place(self, attempt: _Attempt, key: int) -> Job:
        """The job with a staging folder of this try; a second one beside it has its own log, too.

        Raises:
            _Unplaceable: the folder of the job cannot be emptied or made.
        """
        job = attempt.job
        staging = Path(job.staging_dir)
        # No model's name begins with a dot.
        own = staging.with_name(f".{staging.name}.{self._token}-{key}")
        folders = {"staging_dir": str(own)}
        try:
            if attempt.twin is None:
                delivery.clear_staging(job)
            else:
                log = own.with_name(f"{own.name}.log")
                log.mkdir(parents=True)
                folders["model_dir"] = str(log)
        except OSError as error:
            raise _Unplaceable(error) from error
        return job.model_copy(update=folders)

    def _help_the_slow(self) -> None:
        """Start jobs a second time that take much longer than they did before."""
        now = time.monotonic()
        if not self._may_help():
            return
        for key, attempt in list(self._running.items()):
            past = self._rules.past.get(attempt.job.label)
            if past is None or past.estimated or attempt.begun is None or attempt.helped:
                continue
            if now - attempt.begun > max(_SLOW * past.seconds, past.seconds + self._rules.slow_s):
                second = attempt.elsewhere(lost=False)
                second.twin, second.helped, attempt.helped = key, True, True
                try:
                    attempt.twin = self._start(second)
                except _Unplaceable:  # the first one still runs
                    continue
                if not self._may_help():
                    return

    def _may_help(self) -> bool:
        return not self._again and self._carrier.idle()

    def _take(self, key: int, message: Message) -> Iterator[Event]:
        attempt = self._running[key]
        name = attempt.job.label
        if "node" in message:
            attempt.node = NodeInfo.model_validate(message["node"])
        elif "pid" in message:
            attempt.begun, attempt.began = time.monotonic(), time.time()
            node = attempt.node.name if attempt.node is not None else ""
            yield Started(name, attempt.number, message["pid"], node)
        elif "waits" in message:
            yield Waits(name, message["waits"])
        elif "stage" in message:
            attempt.news.append(message["stage"])
            yield StageEntered(name, message["stage"])
        elif "attempt" in message:
            # As JSON: strict types take text for an enum there only.
            attempt.news.append(ExporterAttempt.model_validate_json(json.dumps(message["attempt"])))
        else:
            del self._running[key]
            yield from self._ended(attempt, message)

    def _ended(self, attempt: _Attempt, message: Message) -> Iterator[Event]:
        """Tell the result, or have the job tried again."""
        result = _result(attempt, message)
        beside = self._running.get(attempt.twin) if attempt.twin is not None else None
        if beside is not None:
            of_no_use = "result" not in message or message.get("stranded")
            if of_no_use or _code(result) is Code.SIGNAL:
                beside.twin = None
                yield self._give_up(attempt, beside, _why(message, result), result.spent)
                return
            assert attempt.twin is not None
            self._carrier.close([attempt.twin])
            del self._running[attempt.twin]
            yield self._give_up(
                beside, attempt, f"attempt {attempt.number} was faster", _seen(beside)
            )
        if "unsuited" in message:
            other: _Attempt | None = attempt.elsewhere(lost=False)
        elif "node_lost" in message or message.get("stranded"):
            free = attempt.losses < self._rules.node_retries
            other = attempt.elsewhere(lost=True) if free else None
        else:
            other = self._another(result, attempt)
        if other is not None:
            yield self._give_up(attempt, other, _why(message, result), result.spent)
            self._again.append(other)
        else:
            result = _furthest(attempt, result)
            result = result.model_copy(update={"other_tries": list(attempt.others)})
            yield Finished(self._delivered(attempt, result))

    def _give_up(
        self, attempt: _Attempt, other: _Attempt, reason: str, spent: Spent | None
    ) -> GivenUp:
        """Take nothing of an attempt; the other one knows of it, and so does the log of the job."""
        lost = Try(
            attempt=attempt.number,
            node=attempt.node.name if attempt.node is not None else "",
            gpus=_gpus(attempt),
            reason=reason,
            spent=spent,
        )
        other.others = (*other.others, lost)
        self._discard(attempt)
        delivery.note(attempt.job, lost.words)
        return GivenUp(attempt.job.label, lost)

    def _another(self, result: JobResult, attempt: _Attempt) -> _Attempt | None:
        """The next try of a job whose process was lost, or ``None``.

        Only what a signal ended may go better again: at the end, when less else runs. Where an
        exporter took the process or its memory with it each time, those after it have their turn.
        """
        code = _code(result)
        own = attempt.number - attempt.foreign
        if code == Code.SIGNAL and own <= self._rules.retries:
            return attempt.following()
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
        return attempt.following(job=job, before=tuple(done), failure=_furthest(attempt, result))

    def _delivered(self, attempt: _Attempt, result: JobResult) -> JobResult:
        """The result, its files where the job has them."""
        if not self._carrier.several_nodes:
            return result
        if attempt.node is not None:
            timed = [one.model_copy(update={"node": attempt.node}) for one in result.latency]
            result = result.model_copy(update={"node": attempt.node, "latency": timed})
        assert attempt.placed is not None
        own, staging = Path(attempt.placed.staging_dir), Path(attempt.job.staging_dir)
        try:
            delivery.clear_staging(attempt.job)
            if own.is_dir():
                staging.rmdir()
                os.rename(own, staging)
            delivery.append_log(attempt.placed, attempt.job)
        except OSError as error:
            result = outcome.io_failure(attempt.job, error, result)
        self._discard(attempt)
        return result

    def _discard(self, attempt: _Attempt) -> None:
        """Remove the folders of a try that are not those of its job."""
        placed, job = attempt.placed, attempt.job
        if placed is None:
            return
        for own, of_job in (
            (placed.staging_dir, job.staging_dir),
            (placed.model_dir, job.model_dir),
        ):
            if own != of_job:
                shutil.rmtree(own, ignore_errors=True)


class _Unplaceable(Exception):  # noqa: N818 - a way out, not an error
    """The folders of a try cannot be made; ``error`` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _gpus(attempt: _Attempt) -> int:
    return len(attempt.node.gpus) if attempt.node is not None else int(needs_gpu(attempt.job))


def _seen(attempt: _Attempt) -> Spent | None:
    """What an attempt took that does not say so itself; ``None``: it never began."""
    if attempt.begun is None:
        return None
    return Spent(
        started_at=f"{datetime.fromtimestamp(attempt.began, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        seconds=round(time.monotonic() - attempt.begun, 3),
        cpu_seconds=None,
    )


def _why(message: Message, result: JobResult) -> str:
    """Why nothing is taken of an attempt."""
    if "node_lost" in message or "unsuited" in message:
        return str(next(iter(message.values())))
    assert result.error is not None
    # The last line of a log may stand in it, which is whatever the model printed.
    return " ".join(f"{result.error.code}: {result.error.message}".split())


def _code(result: JobResult) -> Code | None:
    return result.error.code if result.error is not None else None


def _result(attempt: _Attempt, message: Message) -> JobResult:
    """The result of a try, with the number of tries and the exporters of those before."""
    if "result" in message:
        # As JSON: strict types take text for an enum there only.
        result = JobResult.model_validate_json(json.dumps(message["result"]))
    elif "lost" in message:
        result = outcome.lost(attempt.job, attempt.news, message["lost"])
    else:
        (reason,) = message.values()
        result = outcome.without_node(attempt.job, attempt.news, reason, attempt.losses)
    exporters = [*attempt.before, *result.attempts_by_exporter]
    changes = {
        "attempts": attempt.number,
        "attempts_by_exporter": exporters,
        "spent": result.spent or _seen(attempt),
    }
    return result.model_copy(update=changes)


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
            # That of the others stands in `other_tries`.
            "spent": result.spent,
        }
    )
