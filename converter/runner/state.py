"""The rows of a run, in memory and on the disk: one for each model, from the plan to the end."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, get_args

from converter.cache import stores
from converter.display import notice, summary
from converter.layout import claim, delivery, environment, files, runfiles
from converter.layout.interrupts import exit_code
from converter.model import manifest
from converter.model.artifact import ONNX
from converter.model.errors import Code, ExitCode, RunError
from converter.model.job import Composed, Derived, Job
from converter.model.manifest import (
    ArtifactRow,
    Manifest,
    ModelRecord,
    RunInfo,
    SandboxKind,
    model_of,
)
from converter.model.records import FileInfo, JobResult, StageRecord, VerifyRecord
from converter.plan import packages, placement, selection
from converter.plan.jobs import Plan
from converter.plan.looking import Looking
from converter.plugins import executors
from converter.processes import outcome
from converter.runner import resuming, reuse
from converter.runner.compositions import Compositions
from converter.runner.context import RunContext
from converter.runner.followers import Followers
from converter.runner.reuse import CacheSession, Lookup

_FULL = (errno.ENOSPC, errno.EDQUOT)
_Told = TypeVar("_Told", ArtifactRow, JobResult)


class RunState:
    """The rows of a run, in memory and on the disk."""

    def __init__(self, plan: Plan, context: RunContext) -> None:
        self._directory = context.directory
        self._again = context.again
        self._jobs = {job.label: job for job in plan.jobs}
        self.order = plan.order
        self._benchmarks = context.spec.benchmark
        self._verified_elsewhere = {job.name for job in plan.jobs if job.verify.providers}
        self._environment = environment.collect(packages.versions())
        self._runtimes = placement.runtimes(plan.jobs, context.spec.benchmark)
        store = stores.opened(context.store) if context.store is not None else None
        elsewhere = executors.measures_elsewhere(context.spec.executor, context.spec.benchmark)
        timing = reuse.timing_of(context.spec.benchmark, self._environment, elsewhere)
        # On the terminal alone, until there is a bar.
        stopped = context.interrupts
        self.looking = Looking(notice.show, lambda: stopped.received is not None)
        makes = reuse.keys_for(self._environment, context.store, self.looking)
        self.cache = CacheSession(store, makes, timing)
        self._followers = Followers(plan.jobs, context.directory, self.cache)
        self._compositions = Compositions(plan.composed, context.directory)
        self._rows = self._planned(plan)
        # All rows of a model are written whenever one of them is.
        self._labels: dict[str, list[str]] = {}
        for label, row in self._rows.items():
            self._labels.setdefault(row.name, []).append(label)
        # Of each model, and the rows that it was made of.
        self._records: dict[str, tuple[list[ArtifactRow], ModelRecord]] = {}
        now = datetime.now(UTC)
        # A resumed run is the run that began then. Its start decides which of two runs is the newer
        # one (`history.is_newer`), so that resuming an old run does not move `latest` back.
        earlier = resuming.earlier(context.directory) if context.resumes else None
        self._info = RunInfo(
            # Random bytes: runs on several machines may start in the same second.
            id=earlier.run.id if earlier else f"{now:%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}",
            experiment=context.experiment,
            started_at=earlier.run.started_at if earlier else _stamp(now),
            narrowed=bool(selection.left_out(context.spec, plan.order)),
            overrides=context.overrides,
            config_dir=context.config_dir,
            config_sha256=context.config_sha256,
            git=environment.git_state(Path.cwd()),
            baseline=_relative(context),
            sandbox=_least(executors.sandboxed(context.spec.executor), earlier),
        )

    def _planned(self, plan: Plan) -> dict[str, ArtifactRow]:
        """A row for each artifact, those of a model together."""
        rows = {row.label: row for row in plan.skipped}
        for job in plan.jobs:
            for each in (job, *self._followers.stubs(job.name)):
                # From the start: a run that is killed has a row for each of them.
                rows[each.label] = self._row_of(each, outcome.not_run(each))
        for composed in plan.composed:
            rows[composed.label] = self._row_of(composed, outcome.not_run(composed))
        return {label: self._as_asked(row) for label, row in rows.items()}

    def _row_of(self, job: Job, result: JobResult) -> ArtifactRow:
        # What makes no file runs nowhere.
        makes_none = isinstance(job, Composed)
        places = () if makes_none else placement.runtimes_of(job, self._benchmarks)
        return manifest.row_of(job, result, places)

    @property
    def labels(self) -> list[str]:
        """Those of all rows that there will be: one for each artifact."""
        return list(self._rows)

    def take_over(self, rows: Sequence[ArtifactRow]) -> None:
        """Take over the rows of models that need no run."""
        for row in rows:  # what is skipped was planned anew; the others are of before
            assert row.label in self._rows, "every artifact was planned"
            self._rows[row.label] = self._as_asked(row) if row.status == "skipped" else row
        # What derives from a file may be there and not be measured yet.
        for row in rows:
            for job in self._followers.made_from(row):
                self._jobs.setdefault(job.label, job)

    def manifest(self) -> Manifest:
        models = self._models()
        info = self._info.model_copy(update={"counts": manifest.counts(models)})
        return Manifest(
            run=info,
            environment=self._environment,
            runtimes=self._runtimes,
            models=models,
            cost=manifest.cost_of(self._rows.values()),
        )

    def _models(self) -> list[ModelRecord]:
        # In the order of the configuration, whatever finished first. A model without a row raises
        # here: a manifest that lacks one must not be written.
        return [self._model(name) for name in self.order]

    def _model(self, name: str) -> ModelRecord:
        """One model, made anew where one of its rows is another."""
        rows = [self._rows[label] for label in self._labels[name]]
        known = self._records.get(name)
        if known is None or any(old is not new for old, new in zip(known[0], rows, strict=True)):
            known = self._records[name] = rows, model_of(rows)
        return known[1]

    def open(self) -> None:
        """Leave a manifest that says what is planned, for the reader of a run that was killed.

        Raises:
            RunError: it, or the store, cannot be written.
        """
        self.cache.open()
        try:
            runfiles.write(self.manifest(), self._directory)
        except OSError as error:
            raise RunError(f"cannot write into {self._directory}: {error.strerror}") from error

    def prepare(self, job: Job) -> ArtifactRow | None:
        """Make a model's folder; the row when that failed.

        Raises:
            OSError: the disk is full, or the record cannot be written.
        """
        try:
            delivery.prepare(job, self._directory)
        except OSError as error:
            return self._finish(job, self._as_asked(outcome.io_failure(job, error)), error)
        return None

    def is_stored(self, job: Job, looked_up: Lookup) -> bool:
        """Whether the store seems to have a job's result."""
        found = self.cache.has(job, looked_up)
        # A run that is killed later shows what it would have built, from what, and why.
        self._rows[job.label] = self.cache.labelled(job, self._rows[job.label])
        return found

    def reuse(self, job: Job) -> ArtifactRow | None:
        """Let a result of the store in; ``None`` when it is not what it seemed.

        Raises:
            OSError: the disk is full, or the record cannot be written.
        """
        stored = self.cache.take(job)
        if stored is None:
            return None
        try:
            published = delivery.publish(job, stored, self._directory)
            self._followers.keep(job, stored)
        except OSError as error:
            # An error of the run directory is not the fault of the entry: it fails the row, and the
            # entry stays.
            if error.errno not in delivery.NOT_AS_HASHED:
                return self._finish(job, outcome.io_failure(job, error, stored), error)
            self.cache.set_aside(job, f"the stored entry is damaged: {error.strerror}")
            return None
        finally:
            delivery.remove_staging(job)
        return self._finish(job, published, None, cached=True)

    def accept(self, result: JobResult) -> ArtifactRow:
        """Let a result in: publish its artifact, judge it, record it.

        Raises:
            OSError: the disk is full, or the record cannot be written; the row is failed / IO.
        """
        job = self._jobs[result.label]
        problem: OSError | None = None
        # Before anything gets its final name.
        result = self.cache.with_files(job, self.cache.unless_changed(job, result))
        references: Path | None = None
        if result.status == "ok" and not isinstance(job, Composed):
            try:
                result = delivery.publish(job, result, self._directory)
                references = self._followers.keep(job, result)
            except OSError as error:
                problem = error
                result = outcome.io_failure(job, error, result)
        else:
            # A failed job may report a file that it made. It goes with the staging folder: nothing
            # that a failure leaves may look like a result. Its graph is to look at alone.
            delivery.keep_wrong(job)
            result = result.model_copy(update={"files": [], "onnx": None})
        delivery.remove_staging(job)
        result = self._as_asked(result)
        row = self._finish(job, result, problem)
        if result.status == "ok" and not isinstance(job, Composed):
            # After its row: a run that is killed in between has the row, and does not look here.
            self.cache.keep(job, result, self._directory, references)
        return row

    def follow(self, row: ArtifactRow) -> tuple[list[Job], list[ArtifactRow]]:
        """What becomes of the artifacts that derive from a file, and of what runs it with others.

        Args:
            row: of the file, now that it has one.

        Returns:
            Those that are to be made, and rows of those that need not, or cannot.

        Raises:
            OSError: the disk is full, or the record cannot be written.
        """
        jobs, rows = self._derive(row)
        for job, result in self._compositions.after(row, self._rows):
            self._jobs[job.label] = job
            refused = self.prepare(job) if result is None else None
            if result is not None:
                rows.append(self._finish(job, self._as_asked(result), None))
            elif refused is not None:
                rows.append(refused)
            else:
                jobs.append(job)
        return jobs, rows

    def _derive(self, parent: ArtifactRow) -> tuple[list[Job], list[ArtifactRow]]:
        """What becomes of the artifacts that derive from a file."""
        waiting = [
            stub
            for stub in self._followers.stubs(parent.name)
            if parent.id == stub.parent and self._rows[stub.label].status == "not_run"
        ]
        if not waiting:
            return [], []
        # `xpass` has a verified file too: only the configuration had expected something else.
        if not parent.files or parent.status not in ("ok", "xpass"):
            told = [(stub, self._as_asked(_without_parent(stub, parent))) for stub in waiting]
            return [], [self._finish(stub, result, None) for stub, result in told]
        jobs: list[Job] = []
        rows: list[ArtifactRow] = []
        wanted = {stub.label for stub in waiting}
        # In a run that is resumed some of them may be done.
        derived = [job for job in self._followers.of(parent) if job.label in wanted]
        for job, looked_up in zip(derived, self.cache.look_up_all(derived), strict=True):
            self._jobs[job.label] = job
            row = self.prepare(job)
            if row is None and self.is_stored(job, looked_up):
                row = self.reuse(job)
            if row is None:
                jobs.append(job)
            else:
                rows.append(row)
        return jobs, rows

    def look_again(self) -> None:
        """Fail the rows of files that were changed after they were verified, and remove those.

        Plugins of variants run beside files that are published already, and may write anywhere.

        Raises:
            OSError: the record cannot be written.
        """
        # Only variants run beside files that are published: without them all hashes are those of
        # now.
        if all(row.id == ONNX for row in self._rows.values()):
            return
        for label, row in list(self._rows.items()):
            changed = [
                part for part in row.files if not _is_as_recorded(self._directory / part.path, part)
            ]
            if changed:
                job = self._jobs[label]
                result = self.result(job)
                where = str(self._directory / changed[0].path)
                error = OSError(errno.EIO, "changed after it was verified", where)
                # Its inode may be that of the entry.
                self.cache.set_aside(job, str(error.strerror))
                delivery.unpublish(job, result)
                self._finish(job, outcome.io_failure(job, error, result), None)

    def unmeasured(self) -> list[Job]:
        """The jobs whose published file was to be timed, or verified elsewhere, and is not yet."""
        return [
            self._jobs[label]
            for label, row in self._rows.items()
            if label in self._jobs and manifest.awaits_benchmark(row)
            if placement.of(self._jobs[label], self._benchmarks)
        ]

    def references(self, job: Job) -> dict[str, str]:
        """Where the cases of a job's model are kept, and their hash; empty: they are not."""
        return self._followers.references(job.name)

    def row(self, job: Job) -> ArtifactRow:
        """What is known of a job now."""
        return self._rows[job.label]

    def result(self, job: Job) -> JobResult:
        """What was recorded of a finished job.

        Raises:
            OSError: its record has gone.
        """
        return runfiles.read_result(Path(job.model_dir) / delivery.RESULT)

    def amend(self, job: Job, result: JobResult) -> ArtifactRow:
        """Record a finished job again, with what was measured; its file stays where it is.

        ``results.jsonl`` gets a second line: the last line of a model counts.

        Args:
            result: with the status that it has without ``expect``.

        Raises:
            OSError: the record cannot be written; the row is as it was.
        """
        self.cache.amend(job, result)
        result = outcome.apply_expect(self._with_log(job, result), job.expect)
        before = self._rows[job.label]
        row = self.cache.labelled(job, self._row_of(job, result), cached=before.cached)
        # A run that resumes did not look into the store for a model that was done.
        row = row.model_copy(update={"cache_miss_reason": before.cache_miss_reason})
        self._rows[job.label] = row
        try:
            self._write(job, result)
        except OSError:
            self._rows[job.label] = before
            raise
        return row

    def _finish(
        self, job: Job, result: JobResult, problem: OSError | None, *, cached: bool = False
    ) -> ArtifactRow:
        result = outcome.apply_expect(self._with_log(job, result), job.expect)
        row = self.cache.labelled(job, self._row_of(job, result), cached=cached)
        self._rows[job.label] = row
        try:
            self._write(job, result)
        except OSError as error:
            # A file without its row would look like a result.
            delivery.unpublish(job, result)
            failed = self._with_log(job, outcome.io_failure(job, error, result))
            self._rows[job.label] = self.cache.labelled(job, self._row_of(job, failed))
            raise
        # Behind the record: this model has its row, and the run stops before the next one fails
        # alike.
        if _disk_full(result, problem):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._directory))
        return row

    def _write(self, job: Job, result: JobResult) -> None:
        # Where a link stands in place of the folder, writing would follow it. The row alone tells
        # then.
        if delivery.is_own_folder(job):
            files.write_atomic(Path(job.model_dir) / delivery.RESULT, manifest.dump(result))
        # Last, since this line makes the model done, and phase 2 starts from `result.json`.
        runfiles.append_result(self._directory, self._model(job.name))

    def _as_asked(self, told: _Told) -> _Told:
        """With the stage that a worker knows nothing of: whether a latency was to follow."""
        # What makes no file has none to be timed.
        asked = self._benchmarks.providers or told.name in self._verified_elsewhere
        wanted = asked and "publish" in told.stages
        stage = StageRecord(status="not_run" if wanted else "not_requested")
        return told.model_copy(update={"stages": {**told.stages, "benchmark": stage}})

    def _with_log(self, job: Job, result: JobResult) -> JobResult:
        log = Path(job.model_dir) / delivery.LOG
        if result.error is None or not log.is_file():
            return result
        path = str(log.relative_to(self._directory))
        return result.model_copy(update={"error": result.error.model_copy(update={"log": path})})

    def close(
        self, received: signal.Signals | None, failure: OSError | None, *, late: bool = False
    ) -> ExitCode:
        """Let no more rows in: the manifest is final but for what it is compared with.

        Args:
            late: the deadline has passed.
        """
        undone = any(row.status == "not_run" for row in self._rows.values())
        all_done = not undone and not self.unmeasured()
        statuses = [model.status for model in self._models()]
        # A model whose latency is owed may be `ok` in every row: what a run left undone decides its
        # exit code as well, or one that its deadline cut short would exit with 0.
        code = _exit_code(statuses, received, failure, all_done)
        ended_by = None
        if failure is not None or received is not None or not all_done:
            # With neither of the two it was the executor that forgot a job.
            stopped = failure is not None or not (received or late)
            ended_by = "failure" if stopped else "signal" if received else "deadline"
        self._info = self._info.model_copy(
            update={
                "finished_at": _stamp(datetime.now(UTC)),
                "complete": ended_by is None,
                "exit_code": int(code),
                "ended_by": ended_by,
            }
        )
        return code

    def interruption_notes(
        self, received: signal.Signals | None, failure: OSError | None, *, late: bool = False
    ) -> list[str]:
        """What to tell the user of a run that did not come to its end, or cannot be reused.

        The last of them says how to go on.
        """
        # By model, as the person counts: one that lacks a variant is not finished.
        undone = {row.name for row in self._rows.values() if row.status == "not_run"}
        done = len(self.order) - len(undone)
        so_far = f"{done} of {len(self.order)} models finished; results in {self._directory}"
        if missing := len(self.unmeasured()):
            so_far += f"; the latency of {missing} is not measured"
        again = self._again or f"Resume with: {claim.resume_command(self._directory)}"
        words = self.cache.words()
        if failure is not None:
            where = failure.filename or self._directory
            why = failure.strerror or failure
            return [*words, f"Stopped: {why}: {where}. {so_far}. {again}"]
        if received is not None:
            return [*words, f"Interrupted by {received.name}: {so_far}. {again}"]
        if late and (missing or done < len(self.order)):
            end = "The deadline passed and what was running was ended"
            return [*words, f"{end}: {so_far}. {again}"]
        return words


def _is_as_recorded(path: Path, part: FileInfo) -> bool:
    return path.is_file() and not path.is_symlink() and files.sha256(path) == part.sha256


def _without_parent(job: Derived, parent: ArtifactRow) -> JobResult:
    """The result of a job that has nothing to start from."""
    reason = f"{parent.id} is {parent.status}: there is no file to make it from"
    return outcome.not_run(job).model_copy(
        update={
            "status": "skipped",
            "verify": VerifyRecord(status="not_measured", reason=reason),
        }
    )


def _relative(context: RunContext) -> str | None:
    """The way from the run directory to that of the baseline."""
    if context.baseline is None:
        return None
    return os.path.relpath(context.baseline.directory, context.directory)


def _least(now: SandboxKind, earlier: Manifest | None) -> SandboxKind:
    """Of a run that was resumed: rows of its first part may have had a lesser sandbox."""
    kinds = get_args(SandboxKind)
    before = earlier.run.sandbox if earlier is not None else None
    return now if before is None else min(now, before, key=kinds.index)


def _disk_full(result: JobResult, problem: OSError | None) -> bool:
    """A full disk fails every model to come: the run stops. Workers report it as text."""
    if problem is not None:
        return problem.errno in _FULL
    error = result.error
    return (
        error is not None
        and error.code is Code.IO
        and any(os.strerror(number) in error.message for number in _FULL)
    )


def _exit_code(
    statuses: Sequence[str],
    received: signal.Signals | None,
    failure: OSError | None,
    all_done: bool,
) -> ExitCode:
    """What the run came to; a night that left something undone is never a green one."""
    if failure is not None:
        return ExitCode.RUN_FAILED
    if received is not None:
        return exit_code(received)
    expected = all(status in summary.EXPECTED for status in statuses)
    return ExitCode.OK if expected and all_done else ExitCode.MODELS_FAILED


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
