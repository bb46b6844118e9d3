"""The end of a run, step by step: nothing after the manifest can make the manifest untrue.

reports → manifest with its comparison → ``latest`` → ``publish_to`` → ``keep`` → commands
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from converter import compare
from converter.compare import latency, wording
from converter.finalize import commands, history, publication, remeasure, retention
from converter.finalize.baseline import Baseline
from converter.layout import delivery
from converter.layout.interrupts import Interrupts
from converter.model import manifest
from converter.model.batch import LATEST, BatchSpec, CompareSpec, PublishSpec
from converter.model.changes import Comparison
from converter.model.errors import ExitCode, RunError
from converter.model.manifest import Manifest
from converter.model.plaintext import plain
from converter.plan import graphs, selection
from converter.plugins import reports
from converter.runner.context import RunContext
from converter.runner.state import RunState
from converter.storage import exclusive, location

# Another run that publishes takes seconds; one with `exclusive` holds the folder for hours.
_PUBLISH_WAIT_S = 60.0
_NO_EXPERIMENT = "adhoc"


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to.

    Attributes:
        notes: what to tell the person beside the rows.
    """

    code: ExitCode
    manifest: Manifest
    failure: OSError | None
    notes: list[str]


def finish(
    record: RunState,
    context: RunContext,
    interrupts: Interrupts,
    failure: OSError | None,
    log: Callable[[str], None],
) -> RunOutcome:
    """Everything that follows the last model.

    Args:
        failure: what stopped the run.
        log: takes lines for ``run.log``.
    """
    # Asked once, before the end's own work: that may outlast a deadline that the models have kept.
    late = interrupts.late
    code, final, received = _closed(record, context, interrupts, failure, late)
    came_to_end = received is None and failure is None
    found = final.comparison
    # A failed model counts for more, whatever the comparison says.
    if code == ExitCode.OK and found is not None and found.verdict == "regression":
        code = ExitCode.REGRESSION
    # Last of all that is told: how to go on.
    ending = record.interruption_notes(received, failure, late=late)
    notes = ["\n".join(wording.lines(found))] if found is not None else []
    problems: list[str] = []
    try:
        final = _write(final, context, code)
        # After the manifest: whoever follows the link finds a run that is complete.
        notes += _point_latest(final, context)
        if came_to_end:
            problems = [*_publish(final, context, log), *_prune(context)]
        if problems:
            code = ExitCode.RUN_FAILED
            # Once more: whoever reads the manifest must see that publishing went wrong.
            final = _write(final, context, code, problems)
    except OSError as error:
        if failure is None:
            # With an earlier failure the notes have said where to resume.
            ending = record.interruption_notes(None, error)
        _mark_unfinished(final, context.directory, problems)
        notes += problems
        # Also on a full disk: somebody has to hear of it.
        notes += _tell(context, ExitCode.RUN_FAILED, found, log)
        return RunOutcome(ExitCode.RUN_FAILED, final, failure or error, [*notes, *ending])
    notes += problems
    if received is None:
        notes += _tell(context, code, found, log)
    return RunOutcome(code, final, failure, [*notes, *ending])


def _closed(
    record: RunState,
    context: RunContext,
    interrupts: Interrupts,
    failure: OSError | None,
    late: bool,
) -> tuple[ExitCode, Manifest, signal.Signals | None]:
    """What the models came to, compared with the baseline, and the signal that ended the run."""
    old = context.baseline.manifest if context.baseline else None
    received = interrupts.received
    code = record.close(received, failure, late=late)
    final = compare.since(record.manifest(), old)
    if received is None and failure is None:
        final = _compared(final, context, interrupts)
        received = interrupts.received  # a later signal finds the end already begun
        if received is not None:  # slower models were still to be timed again
            code = record.close(received, failure, late=late)
            final = compare.since(record.manifest(), old)
    return code, final, received


def _write(
    final: Manifest, context: RunContext, code: ExitCode, problems: Sequence[str] = ()
) -> Manifest:
    """Write reports and manifest, with the exit code in them."""
    # `problems` of a run is text as it comes, unlike the messages of a row, which are cleaned where
    # a record is made. These hold names of files and words of the system.
    told = [plain(problem) for problem in problems]
    run = final.run.model_copy(update={"exit_code": int(code), "problems": told})
    final = final.model_copy(update={"run": run})
    # The manifest says that the run is complete, and so comes last: a disk that fills with the
    # reports, or a kill among them, leaves the one that says it is not.
    reports.write(final, context.directory, context.spec.reports)
    manifest.write(final, context.directory)
    return final


def _mark_unfinished(final: Manifest, directory: Path, problems: Sequence[str]) -> None:
    """Let `resume` see that the steps after the manifest were not all done."""
    failed = {"exit_code": int(ExitCode.RUN_FAILED), "complete": False, "ended_by": "failure"}
    run = final.run.model_copy(update={**failed, "problems": list(map(plain, problems))})
    with suppress(OSError):  # what stopped them may be a full disk
        manifest.write(final.model_copy(update={"run": run}), directory)


def _point_latest(final: Manifest, context: RunContext) -> list[str]:
    """Have ``latest`` lead to a complete run; gives what is to be said where it does not."""
    directory, home = context.directory, context.directory.parent
    if home.name != context.experiment:
        # The default folder of a run is EXPERIMENT/TIME: only there do later runs look for
        # `latest`. Whoever asked for a baseline and put the run elsewhere has to hear that it will
        # not be one.
        elsewhere = context.spec.baseline == LATEST and context.home and not final.run.narrowed
        if not elsewhere or home.parent.name == context.experiment:  # a point of a sweep
            return []
        return [
            f"baseline=latest: this run is not in {context.home}, so that no later one is compared "
            "with it: leave hydra.run.dir (of a sweep: hydra.sweep.dir) out, or name its parent "
            "folder as the experiment"
        ]
    # A run of before that was resumed is not the newest. Any other is, whatever the clock said.
    older = context.resumes and not history.is_newer(directory, home / delivery.LATEST)
    if final.run.complete and not older:
        delivery.link_latest(directory)
    return []


def _compared(final: Manifest, context: RunContext, interrupts: Interrupts) -> Manifest:
    if context.spec.baseline is None:
        return final
    if context.baseline is None:
        return final.model_copy(update={"comparison": compare.no_baseline()})
    old = _listed_now(context.baseline, final, context)
    found = compared(
        old,
        Baseline(final, context.directory),
        context.spec.compare,
        # Timing in pairs may take all of `remeasure_budget_s`: a signal or the deadline ends it.
        lambda: interrupts.received is not None or interrupts.late,
        context.spec,
    )
    return final.model_copy(update={"comparison": found})


def compared(
    old: Baseline,
    new: Baseline,
    limits: CompareSpec,
    stopped: Callable[[], bool] = lambda: False,
    spec: BatchSpec | None = None,
) -> Comparison:
    """The comparison of two runs, with what slower models give when they are timed again."""
    suspects = latency.suspects(old.manifest, new.manifest, limits)
    remeasured = remeasure.remeasure(suspects, old, new, limits.remeasure_budget_s, stopped, spec)
    return compare.compare(old.manifest, new.manifest, limits, remeasured)


def _listed_now(old: Baseline, final: Manifest, context: RunContext) -> Baseline:
    """The baseline without models that ``select`` left out this time: they were not removed."""
    # From the configuration of now: a model that left the list is `removed`, and that is told.
    absent = selection.left_out(context.spec, (row.name for row in final.models))
    rows = [row for row in old.manifest.models if row.name not in absent]
    return Baseline(old.manifest.model_copy(update={"models": rows}), old.directory)


def _publish(final: Manifest, context: RunContext, log: Callable[[str], None]) -> list[str]:
    """Publish what verified, to each folder; gives what went wrong."""
    # Without an experiment the run knows no list that a model could have left.
    listed = None
    if context.experiment != _NO_EXPERIMENT:
        listed = {*selection.expand(context.spec)[0]}
    whole = _whole(final, context)
    return [
        problem
        for spec in context.spec.publish_to
        for problem in _publish_to(spec, whole, context, listed, log)
    ]


def _publish_to(
    spec: PublishSpec,
    final: Manifest,
    context: RunContext,
    listed: set[str] | None,
    log: Callable[[str], None],
) -> list[str]:
    target = location.parse(spec.path)
    try:
        # With `exclusive` the place is held since the start.
        # A flock belongs to a descriptor: to lock the folder again here would wait for ourselves.
        held = context.spec.exclusive
        with (
            nullcontext(exclusive.hold(target))
            if held
            else exclusive.lock_with_timeout(target, _PUBLISH_WAIT_S)
        ) as guard:
            return publication.publish(
                final,
                context.directory,
                spec,
                listed,
                resumed=context.resumes,
                still_held=guard.check,
                note=log,
            )
    except (RunError, ValueError) as error:  # the latter: the key is no key any more
        return [f"nothing was published: {error}"]
    except OSError as error:
        where = error.filename or target
        return [f"publishing was broken off: {error.strerror or error}: {where}"]


def _whole(final: Manifest, context: RunContext) -> Manifest:
    """The manifest without graphs that are right by themselves, and wrong or untried together."""
    rows = {model.name: model for model in final.models}
    broken = {
        each: rows[entry]
        for entry, model in context.spec.models.items()
        if graphs.composed(model) and entry in rows and rows[entry].status != "ok"
        for each in graphs.names(entry, model)
    }
    models = [
        row.model_copy(update={"status": "failed", "failing_since": broken[row.name].failing_since})
        if row.name in broken and row.status == "ok"
        else row
        for row in final.models
    ]
    return final.model_copy(update={"models": models})


def _prune(context: RunContext) -> list[str]:
    """Remove runs beyond ``keep``; gives what went wrong."""
    if context.spec.keep is None or context.home is None:
        return []
    # Both may be older than the newest `keep` runs: one that was resumed, one that was named.
    needed = [context.directory]
    if context.baseline is not None:
        needed.append(context.baseline.directory)
    try:
        retention.prune(context.home, context.experiment, context.spec.keep, needed)
    except OSError as error:
        where = error.filename or context.home
        return [f"old runs could not be removed: {error.strerror or error}: {where}"]
    return []


def _tell(
    context: RunContext, code: ExitCode, found: Comparison | None, log: Callable[[str], None]
) -> list[str]:
    """Run the person's commands; gives what went wrong with them."""
    due = {
        "on_failure": code in (ExitCode.MODELS_FAILED, ExitCode.RUN_FAILED),
        "on_regression": found is not None and found.verdict == "regression",
    }
    problems = []
    for key, wanted in due.items():
        command = getattr(context.spec, key)
        if wanted and command is not None:
            problems.append(commands.run(key, command, context.directory, int(code), log))
    return [problem for problem in problems if problem is not None]
