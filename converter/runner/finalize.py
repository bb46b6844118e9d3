"""The end of a run, step by step: nothing after the manifest can make the manifest untrue.

reports → manifest with its comparison → ``latest`` → ``publish_to`` → ``keep`` → history → commands

What is still to be done is written down as undone before it is begun, so that a kill or a full disk
leaves a manifest that says so, and ``resume`` does the rest.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from converter import compare
from converter.compare import causes, latency, wording
from converter.compare.causes import InputsChanged
from converter.finalize import commands, history, publication, remeasure, retention
from converter.finalize.baseline import Baseline
from converter.layout import claim, delivery, runfiles
from converter.layout.interrupts import Interrupts
from converter.model.batch import LATEST, BatchSpec, CompareSpec, PublishSpec
from converter.model.changes import Comparison
from converter.model.errors import ExitCode, RunError
from converter.model.manifest import Manifest
from converter.model.plaintext import plain
from converter.plan import graphs, selection
from converter.plugins import reports
from converter.runner import debugging
from converter.runner.context import RunContext
from converter.runner.state import RunState
from converter.storage import exclusive, location

# Another run that publishes takes seconds; one with `exclusive` holds the folder for hours.
_PUBLISH_WAIT_S = 60.0
_NO_EXPERIMENT = "adhoc"

Duty = Callable[[], list[str]]
"""Something to do behind the last model: it gives what went wrong, and is done if nothing did."""


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
    code, final, received = _closed(record, context, interrupts, failure, log, late=late)
    came_to_end = received is None and failure is None
    found = final.comparison
    # A failed model counts for more, whatever the comparison says.
    if code == ExitCode.OK and found is not None and found.verdict == "regression":
        code = ExitCode.REGRESSION
    # Last of all that is told: how to go on.
    ending = record.interruption_notes(received, failure, late=late)
    notes = ["\n".join(wording.lines(found))] if found is not None else []
    end = _End(context, final, code, found, hears=received is None)
    try:
        end.write(_duties(final, context, log) if came_to_end else {})
        # After the manifest: whoever follows the link finds a run whose models are all done.
        notes += _point_latest(end.manifest, context)
        end.do()
        notes += _remembered(end.manifest, context)
    except OSError as error:
        failure = failure or error
        if failure is error:
            # With an earlier failure the notes have said where to resume.
            ending = record.interruption_notes(None, error)
        end.mark_unfinished()
    notes += [*end.problems, *end.tell(log)]
    if end.undone:
        again = claim.resume_command(context.directory)
        notes.append(f"Not done: {', '.join(end.undone)}. Resume with: {again}")
    return RunOutcome(end.code, end.manifest, failure, [*notes, *ending])


class _End:
    """What is done behind the last model, and what the manifest says of it.

    Attributes:
        undone: by the keys that ask for it, what is left to do.
        problems: why it is.

    Args:
        hears: the person's commands are run at this end.
    """

    def __init__(
        self,
        context: RunContext,
        final: Manifest,
        code: ExitCode,
        found: Comparison | None,
        *,
        hears: bool,
    ) -> None:
        self._context, self._found, self._hears = context, found, hears
        self._duties: Mapping[str, Duty] = {}
        self.manifest, self.code = final, code
        self.undone: list[str] = []
        self.problems: list[str] = []
        self._stopped = False

    def write(self, duties: Mapping[str, Duty]) -> None:
        """Write reports and manifest, in which all is still undone."""
        self._duties = duties
        self._write([*duties, *self._due()])

    def do(self) -> None:
        """Do what is due, and write down what came of it."""
        for name, do in self._duties.items():
            if told := do():
                self.undone.append(name)
                self.problems += told
        if self.problems:
            self.code = ExitCode.RUN_FAILED
        if self._duties:
            self._write([*self.undone, *self._due()])

    def mark_unfinished(self) -> None:
        """Let `resume` see that not all steps could be done."""
        self.code, self._stopped, self.undone = ExitCode.RUN_FAILED, True, []
        failed = {"exit_code": int(self.code), "complete": False, "ended_by": "failure"}
        problems = list(map(plain, self.problems))
        run = self.manifest.run.model_copy(update={**failed, "problems": problems})
        with suppress(OSError):  # what stopped them may be a full disk
            runfiles.write(self.manifest.model_copy(update={"run": run}), self._context.directory)

    def tell(self, log: Callable[[str], None]) -> list[str]:
        """Run the person's commands; gives what went wrong with them.

        Also on a full disk: somebody has to hear of it.
        """
        due = self._due()
        spec, directory = self._context.spec, self._context.directory
        told = [
            commands.run(key, getattr(spec, key), directory, int(self.code), log) for key in due
        ]
        if due and not self._stopped:
            try:
                self._write(self.undone)
            except OSError as error:
                self.code = ExitCode.RUN_FAILED
                told.append(f"cannot write {error.filename or directory}: {error.strerror}")
        return [problem for problem in told if problem is not None]

    def _due(self) -> list[str]:
        """The keys of the person's commands that this end asks for."""
        due = {
            "on_failure": self.code in (ExitCode.MODELS_FAILED, ExitCode.RUN_FAILED),
            "on_regression": self._found is not None and self._found.verdict == "regression",
        }
        hears, spec = self._hears or self._stopped, self._context.spec
        return [key for key, wanted in due.items() if hears and wanted and getattr(spec, key)]

    def _write(self, undone: Sequence[str]) -> None:
        """Write reports and manifest, with the exit code in them, and what is still to be done."""
        # `problems` of a run is text as it comes, unlike the messages of a row, which are cleaned
        # where a record is made. These hold names of files and words of the system.
        run = self.manifest.run.model_copy(
            update={
                "complete": self.manifest.run.ended_by is None and not undone,
                "exit_code": int(self.code),
                "undone": list(map(plain, undone)),
                "problems": list(map(plain, self.problems)),
            }
        )
        self.manifest = self.manifest.model_copy(update={"run": run})
        # The manifest says that the run is complete, and so comes last: a disk that fills with the
        # reports, or a kill among them, leaves the one that says it is not.
        reports.write(self.manifest, self._context.directory, self._context.spec.reports)
        runfiles.write(self.manifest, self._context.directory)


def _closed(
    record: RunState,
    context: RunContext,
    interrupts: Interrupts,
    failure: OSError | None,
    log: Callable[[str], None],
    *,
    late: bool,
) -> tuple[ExitCode, Manifest, signal.Signals | None]:
    """What the models came to, compared with the baseline, and the signal that ended the run."""
    old = context.baseline.manifest if context.baseline else None
    received = interrupts.received
    code = record.close(received, failure, late=late)
    final = compare.since(record.manifest(), old)
    if received is None and failure is None:
        final = _compared(final, context, interrupts, record.cache.inputs_changed, log)
        received = interrupts.received  # a later signal finds the end already begun
        if received is not None:  # slower models were still to be timed again
            code = record.close(received, failure, late=late)
            final = compare.since(record.manifest(), old)
    return code, final, received


def _duties(final: Manifest, context: RunContext, log: Callable[[str], None]) -> dict[str, Duty]:
    """What is to be done once the manifest is written, by the keys that ask for it."""
    found: dict[str, Duty] = {}
    # Without an experiment the run knows no list that a model could have left.
    listed = None
    if context.experiment != _NO_EXPERIMENT:
        listed = selection.listed(context.spec)
    whole = _whole(final, context)
    for spec in context.spec.publish_to:
        found[f"publish_to {spec.path}"] = partial(_publish_to, spec, whole, context, listed, log)
    if context.spec.keep is not None and context.home is not None:
        found["keep"] = partial(_prune, context.spec.keep, context.home, context)
    return found


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
    if final.run.converted and not older:
        delivery.link_latest(directory)
    return []


def _remembered(final: Manifest, context: RunContext) -> list[str]:
    """Take the run into the history of its experiment; gives what went wrong, which fails nothing.

    With the exit code that the run has by now, and before the person's commands, which may send
    the page.
    """
    directory, home = context.directory, context.directory.parent
    in_place = home.name == context.experiment != _NO_EXPERIMENT  # no point of a sweep either
    if not in_place or not final.run.converted or final.run.narrowed:
        return []
    # Not at the top: a run need not wait for the templates to begin.
    from converter.trends import report

    try:
        return report.write(home, final, directory.name)
    except OSError as error:
        # It is a cache: the next run takes in what this one could not.
        where = error.filename or home
        return [f"the history of {context.experiment} lacks this run: {error.strerror}: {where}"]


def _compared(
    final: Manifest,
    context: RunContext,
    interrupts: Interrupts,
    changed: InputsChanged,
    log: Callable[[str], None],
) -> Manifest:
    if context.spec.baseline is None:
        return final
    if context.baseline is None:
        return final.model_copy(update={"comparison": compare.no_baseline()})
    old = _listed_now(context.baseline, final, context)

    # Timing in pairs may take all of `remeasure_budget_s`: a signal or the deadline ends it.
    def stopped() -> bool:
        return interrupts.received is not None or interrupts.late

    found = compared(
        old,
        Baseline(final, context.directory),
        context.spec.compare,
        stopped,
        context.spec,
        changed,
    )
    found = debugging.newly_wrong(found, context.directory, context.spec, stopped, log)
    return final.model_copy(update={"comparison": found})


def compared(
    old: Baseline,
    new: Baseline,
    limits: CompareSpec,
    stopped: Callable[[], bool] = lambda: False,
    spec: BatchSpec | None = None,
    changed: InputsChanged = causes.recorded,
) -> Comparison:
    """The comparison of two runs, with what slower models give when they are timed again.

    Args:
        changed: tells what two rows were made from that differs.
    """
    suspects = latency.suspects(old.manifest, new.manifest, limits)
    remeasured = remeasure.remeasure(suspects, old, new, limits.remeasure_budget_s, stopped, spec)
    return compare.compare(old.manifest, new.manifest, limits, remeasured, changed)


def _listed_now(old: Baseline, final: Manifest, context: RunContext) -> Baseline:
    """The baseline without models that ``select`` left out this time: they were not removed."""
    # From the configuration of now: a model that left the list is `removed`, and that is told.
    absent = selection.left_out(context.spec, (row.name for row in final.models))
    rows = [row for row in old.manifest.models if row.name not in absent]
    return Baseline(old.manifest.model_copy(update={"models": rows}), old.directory)


def _publish_to(
    spec: PublishSpec,
    final: Manifest,
    context: RunContext,
    listed: set[str] | None,
    log: Callable[[str], None],
) -> list[str]:
    """Publish what verified to one place; gives what went wrong."""
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


def _prune(keep: int, home: Path, context: RunContext) -> list[str]:
    """Remove runs beyond ``keep``; gives what went wrong."""
    # Both may be older than the newest `keep` runs: one that was resumed, one that was named.
    needed = [context.directory]
    if context.baseline is not None:
        needed.append(context.baseline.directory)
    try:
        retention.prune(home, context.experiment, keep, needed)
    except OSError as error:
        where = error.filename or home
        return [f"old runs could not be removed: {error.strerror or error}: {where}"]
    return []
