"""One run: hold the directory, run the jobs, let their results in, print what came of it."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import chain, islice

from converter.display import progress, runlog, summary
from converter.layout import delivery
from converter.layout.interrupts import Interrupts
from converter.layout.runlock import locked
from converter.model.errors import ExitCode, RunError
from converter.model.job import Job
from converter.model.manifest import Row
from converter.plan.jobs import Plan
from converter.plugins import executors
from converter.plugins.executors import Executor, Finished
from converter.run import benchmarks, finalize, resuming
from converter.run.context import RunContext
from converter.run.state import RunState


def run(plan: Plan, context: RunContext) -> ExitCode:
    """Run a plan to its end and print what came of it.

    Raises:
        RunError: the directory cannot be written or is held by another run; nothing was started.
        ConfigError: the directory already holds a run, or there is no such executor.
    """
    return execute(plan, executors.create(context.spec.executor), context)


def execute(plan: Plan, executor: Executor, context: RunContext) -> ExitCode:
    """Like ``run``, with the executor given."""
    directory = context.directory
    say = progress.Printer(sys.stdout)
    interrupts = context.interrupts
    interrupts.limit(context.spec.deadline)
    lock = locked(directory, holds_run=context.resumes)
    with lock, interrupts, runlog.opened(directory) as log:
        record = RunState(plan, context)
        log(f"started: {context.command}")
        if context.resumes:
            plan, told = resuming.settled(plan, directory, record.cache)
            record.settle(plan.skipped)
            say(told)
            log(told)
        record.open()
        total = record.total
        screen = progress.create(total, sys.stdout, sys.stderr)
        shown = runlog.Both([screen, progress.Lines(total, log)])
        failure: OSError | None = OSError("the run was aborted")  # unless it comes to its end
        try:
            failure = _consume(plan, executor, record, interrupts, shown)
            if failure is None and interrupts.received is None and not interrupts.late:
                failure = benchmarks.run(record, context, interrupts, shown)
        except SystemExit as error:
            raise RunError(
                f"the {type(executor).__name__} called for the exit: {error!r}"
            ) from error
        finally:
            shown.close()
            shutil.rmtree(directory / delivery.STAGING, ignore_errors=True)
            ending = finalize.finish(record, context, interrupts, failure, log)
            log(f"finished: exit code {int(ending.code)}")
        for text in (summary.render(ending.manifest, directory), *ending.notes):
            say("\n" + text)
            log(text)
    return ending.code


def _consume(
    plan: Plan,
    executor: Executor,
    record: RunState,
    interrupts: Interrupts,
    shown: progress.Progress,
) -> OSError | None:
    """Run the jobs; the error that stopped the run, or ``None``."""
    waiting: deque[Job] = deque()
    stored: list[Job] = []

    def follow(row: Row) -> None:
        """Have what derives from a file wait behind all that waits already."""
        jobs, settled = record.follow(row)
        waiting.extend(jobs)
        for each in settled:
            shown.row(each)

    def let_in(row: Row) -> None:
        shown.row(row)
        follow(row)

    rows = list(plan.skipped)
    for row in rows:
        shown.row(row)
    try:
        for job in plan.jobs:
            if interrupts.received is not None:
                return None
            if (refused := record.prepare(job)) is not None:
                shown.row(refused)
                rows.append(refused)
            else:
                (stored if record.is_stored(job) else waiting).append(job)
        for row in rows:
            follow(row)
        damaged = _run(executor, waiting, stored, record, interrupts, shown, let_in)
        if damaged:
            waiting.extend(damaged)
            _run(executor, waiting, [], record, interrupts, shown, let_in)
    except OSError as error:
        return error
    return None


def _run(
    executor: Executor,
    waiting: deque[Job],
    stored: Sequence[Job],
    record: RunState,
    interrupts: Interrupts,
    shown: progress.Progress,
    let_in: Callable[[Row], None],
) -> list[Job]:
    """Run jobs, and take others from the store meanwhile; those that the store failed to give.

    Args:
        let_in: shows a row, and appends to ``waiting`` what derives from its file.
    """
    damaged = []
    with closing(executor.run(waiting)) as events:
        # The workers load their libraries from here on. Nothing waits? Then what follows may.
        first = list(islice(events, 1)) if waiting else []
        for job in stored:
            if interrupts.received is not None:
                return []
            if (row := record.reuse(job)) is not None:
                let_in(row)
            else:
                damaged.append(job)
        for event in chain(first, events):
            # A signal may have reached the workers too: what they say now is not their fault.
            if interrupts.received is not None:
                return []
            shown.event(event)
            if isinstance(event, Finished):
                let_in(record.accept(event.result))
            if interrupts.late:
                return []
    return damaged
