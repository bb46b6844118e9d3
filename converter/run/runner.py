"""One run: hold the directory, run the jobs, let their results in, print what came of it."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing

from converter import executors
from converter.configuration.plan import Plan
from converter.errors import ExitCode, RunError
from converter.executors import Executor, Finished
from converter.run import afterwards, benchmarks, delivery, progress, runlog, summary
from converter.run.interrupts import Interrupts
from converter.run.record import Record, RunContext
from converter.run.runlock import locked


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
    interrupts = context.interrupts
    interrupts.limit(context.spec.deadline)
    with locked(directory), interrupts, runlog.opened(directory) as log:
        record = Record(plan, context)
        record.open()
        total = len(record.order)
        log(f"started: {context.command}")
        screen = progress.create(total, sys.stdout, sys.stderr)
        shown = runlog.Both([screen, progress.Lines(total, log)])
        failure: OSError | None = OSError("the run broke off")  # unless it comes to its end
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
            ending = afterwards.finish(record, context, interrupts, failure, log)
            log(f"finished: exit code {int(ending.code)}")
        say = progress.Printer(sys.stdout)
        for text in (summary.render(ending.manifest, directory), *ending.notes):
            say("\n" + text)
            log(text)
    return ending.code


def _consume(
    plan: Plan,
    executor: Executor,
    record: Record,
    interrupts: Interrupts,
    shown: progress.Progress,
) -> OSError | None:
    """Run the jobs; the error that stopped the run, or ``None``."""
    for skipped in plan.skipped:
        shown.row(skipped)
    try:
        ready = []
        for job in plan.jobs:
            if (row := record.prepare(job)) is None:
                ready.append(job)
            else:
                shown.row(row)
        with closing(executor.run(ready)) as events:
            for event in events:
                # A signal may have reached the workers too: what they say now is not their fault.
                if interrupts.received is not None:
                    return None
                shown.event(event)
                if isinstance(event, Finished):
                    shown.row(record.accept(event.result))
                if interrupts.late:
                    return None
    except OSError as error:
        return error
    return None
