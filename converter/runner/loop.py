"""One run: hold the directory, run the jobs, let their results in, print what came of it."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain, islice

from converter.display import notice, progress, runlog, summary
from converter.display.screen import Screen, plain
from converter.layout import delivery
from converter.layout.interrupts import Interrupts, exit_code
from converter.layout.runlock import Held, locked
from converter.model.errors import ExitCode, RunError
from converter.model.job import Job
from converter.model.manifest import ArtifactRow
from converter.plan.jobs import Plan
from converter.plan.looking import StoppedError
from converter.plugins import executors
from converter.plugins.executors import Counting, Exchanging, Executor, Finished, Remembering
from converter.runner import benchmarks, finalize, resuming
from converter.runner.context import RunContext
from converter.runner.remembered import Remembered
from converter.runner.sharing import Sharing
from converter.runner.state import RunState


def run(plan: Plan, context: RunContext) -> ExitCode:
    """Run a plan to its end and print what came of it.

    Raises:
        RunError: the directory cannot be written or is held by another run; nothing was started.
        ConfigError: the directory already holds a run, or there is no such executor.
    """
    return execute(plan, executors.create(context.spec.executor), context)


def execute(plan: Plan, executor: Executor, context: RunContext) -> ExitCode:
    """Like ``run``, with the executor given."""
    try:
        return _execute(plan, executor, context)
    except StoppedError:  # a run that resumes had not changed anything yet
        received = context.interrupts.received
        assert received is not None
        notice.clear()
        Screen(sys.stdout)(f"Interrupted by {received.name}: nothing was changed.")
        return exit_code(received)


def _execute(plan: Plan, executor: Executor, context: RunContext) -> ExitCode:
    directory = context.directory
    say = Screen(sys.stdout)
    interrupts = context.interrupts
    interrupts.limit(context.spec.deadline)
    lock = locked(directory, holds_run=context.resumes)
    # The lock first: not even the log is written into a directory that another run holds.
    with lock as held, interrupts, runlog.opened(directory) as log:
        # Under the lock: what it reads of an interrupted run must not change any more.
        record = RunState(plan, context)
        log(f"started: {context.command}")
        told = [f"note: {note}" for note in plan.notes]
        if context.resumes:
            plan, taken_over = resuming.remaining(plan, directory, record.cache)
            record.take_over(plan.skipped)
            told.insert(0, taken_over)
        for words in told:
            notice.clear()
            say(words)
            log(words)
        record.open()
        past = partial(_prepared(executor, plan, record, context).estimate, executor)
        screen = progress.create(len(record.labels), sys.stdout, sys.stderr, past)
        shown = runlog.Both([screen, progress.Lines(len(record.labels), log)])
        # Overwritten by every way that comes back. An exception that passes through leaves it, so
        # that `finally` writes a manifest that says `complete: false`.
        failure: OSError | None = OSError("the run was aborted")  # unless it comes to its end
        try:
            expect = partial(benchmarks.expect, plan.jobs, context)
            sharing = Sharing(context, record.cache)
            conversions = _Conversions(executor, record, interrupts, shown, held, sharing, expect)
            failure = conversions.run(plan)
            if failure is None and interrupts.received is None and not interrupts.late:
                failure = benchmarks.run(record, context, interrupts, shown)
        # Left alone it would end the command with its own code, which may be 0.
        except SystemExit as error:
            raise RunError(
                f"the {type(executor).__name__} called for the exit: {error!r}"
            ) from error
        finally:
            shown.close()
            held.check()  # or a manifest of what is not there would be written
            shutil.rmtree(directory / delivery.STAGING, ignore_errors=True)
            ending = finalize.finish(record, context, interrupts, failure, log)
            log(f"finished: exit code {int(ending.code)}")
        for part in (*summary.paragraphs(ending.manifest, directory), *ending.notes):
            say("")
            say(part)
            log(plain(part))
    return ending.code


def _prepared(executor: Executor, plan: Plan, record: RunState, context: RunContext) -> Remembered:
    """Tell an executor what it can use of the run and of those before it."""
    before = Remembered(context, record.labels)
    if isinstance(executor, Remembering):
        executor.remember(partial(before.pasts, plan.jobs))
    if isinstance(executor, Exchanging):
        executor.exchange(context.store, context.directory, plan.jobs)
    return before


@dataclass
class _Conversions:
    """Phase 1 of a run: all files.

    Attributes:
        last: called once hardly more than the last jobs run.
        waiting: for the executor; what derives from a file comes behind all that waits already.
    """

    executor: Executor
    record: RunState
    interrupts: Interrupts
    shown: progress.Progress
    held: Held
    sharing: Sharing
    last: Callable[[], None]
    waiting: deque[Job] = field(default_factory=deque)

    def run(self, plan: Plan) -> OSError | None:
        """Run the jobs; the error that stopped the run, or ``None``."""
        for row in plan.skipped:
            self.shown.row(row)
        stored: list[Job] = []
        waiting: list[Job] = []
        refused: list[ArtifactRow] = []
        self.shown.doing("looking at the models …")
        self.record.looking.tell = self.shown.doing
        try:
            # Keys are made and the store is asked for all jobs before the first worker starts:
            # what is not there can then run in the order of the plan while the rest is taken
            # from the store.
            with closing(self.record.cache.look_up_all(plan.jobs)) as looked_up:
                for planned, found in zip(plan.jobs, looked_up, strict=True):
                    if self._stops():
                        return None
                    job = found.widened(planned)
                    if (failed := self.record.prepare(job)) is not None:
                        self.shown.row(failed)
                        refused.append(failed)
                    else:
                        there = self.record.is_stored(job, found)
                        (stored if there else waiting).append(job)
            self.waiting.extend(self.sharing.spread(waiting))
            # Of a run that is resumed, files that are there may still lack their variants.
            for row in (*plan.skipped, *refused):
                self._follow(row)
            # Damage shows only when the files are hashed in the run directory: a second round
            # builds those.
            if damaged := self._run(stored):
                self.waiting.clear()
                self.waiting.extend(damaged)
                self._run([])
            if not self._stops():  # somebody waits for the end
                self.record.look_again()
        except StoppedError:  # while the code of a model was read
            self._stops()
        except OSError as error:
            return error
        return None

    def _run(self, stored: Sequence[Job]) -> list[Job]:
        """Run what waits, and take others from the store meanwhile; gives those that it lacks."""
        damaged = []
        if self.waiting:
            self.shown.doing(progress.LOADING)
        with closing(self.executor.run(self.waiting)) as events:
            # The workers load their libraries from here on. Nothing waits? Then what follows may.
            # A generator does nothing before somebody asks for its first event.
            first = list(islice(events, 1)) if self.waiting else []
            for job in stored:
                if self._stops():
                    return []
                if (row := self.record.reuse(job)) is not None:
                    self._let_in(row)
                else:
                    damaged.append(job)
            expecting = True
            for event in chain(first, events):
                self.held.check()
                if expecting and len(self.waiting) <= self._at_a_time():
                    self.last()
                    expecting = False
                # A signal may have reached the workers too: what they say now is not their fault.
                if self._stops():
                    return []
                self.shown.event(event)
                if isinstance(event, Finished):
                    self.sharing.keep(event.result.label)
                    self._let_in(self.record.accept(event.result))
                # Behind the event, unlike a signal: no worker knows of the deadline.
                if self.interrupts.late:
                    return []
        return damaged

    @cached_property
    def _counting(self) -> Counting | None:
        # Asked once: to compare with a protocol takes longer than an event does.
        return self.executor if isinstance(self.executor, Counting) else None

    def _at_a_time(self) -> int:
        return self._counting.workers() if self._counting is not None else 1

    def _stops(self) -> bool:
        """Whether a signal came; it is answered at once, since ending workers takes a while."""
        if self.interrupts.received is None:
            return False
        self.shown.doing(progress.STOPPING)
        return True

    def _let_in(self, row: ArtifactRow) -> None:
        self.shown.row(row)
        self._follow(row)

    def _follow(self, row: ArtifactRow) -> None:
        """Have what derives from a file wait, or show what became of it already."""
        jobs, rows = self.record.follow(row)
        self.waiting.extend(jobs)
        for each in rows:
            self.shown.row(each)
