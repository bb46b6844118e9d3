"""An interrupted run: which of its rows stay, and how what it left undone is cleared away."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from converter.layout import claim, delivery, files, runfiles
from converter.model import manifest
from converter.model.artifact import ONNX
from converter.model.errors import Code, RunError
from converter.model.job import Composed, Derived, Job
from converter.model.manifest import ArtifactRow, Manifest
from converter.plan import edited, keys, variants
from converter.plan.jobs import Plan
from converter.plan.keys import JobKey
from converter.runner import compositions
from converter.runner.reuse import CacheSession

_LISTED = 10
# What a disk or a cluster did to a model; the next try may go otherwise.
_NOT_ITS_DOING = {Code.IO: "it could not be written", Code.NO_NODE: "no node ran it to its end"}


def earlier(directory: Path) -> Manifest | None:
    """The manifest that a run has left, if it came so far."""
    try:
        # Whoever asks can do without: it gives an id, times and versions, and the rows are in
        # `results.jsonl`. So a damaged one stops no resume.
        return runfiles.read(directory)
    except (OSError, ValidationError):
        return None


def is_whole(before: Manifest) -> bool:
    """Whether a run has come to its end, and no disk or cluster kept a model from its own."""
    run = before.run
    lost = (row.error is not None and row.error.code in _NOT_ITS_DOING for row in before.rows)
    return run.complete and run.exit_code is not None and not any(lost)


def remaining(plan: Plan, directory: Path, cache: CacheSession) -> tuple[Plan, str]:
    """The plan with what is finished among its skipped rows, and what to tell about it.

    A row stays when its job has the same key now and its artifact still has its hash; a failure is
    a finished row too, unless it was the disk's or the cluster's. What else is there of a model is
    removed, so that nothing of before looks like a result.

    Raises:
        RunError: the directory cannot be written.
    """
    found = _Sorted(directory, cache)
    for job in plan.jobs:
        found.take(job)
    for composed in plan.composed:
        found.take_composed(composed)
    try:
        # The record first: a kill in between leaves files that no row speaks of.
        text = "".join(f"{model.model_dump_json()}\n" for model in manifest.models_of(found.kept))
        files.write_atomic(directory / runfiles.RESULTS, text)
        _clear(directory, found.undone)
    except OSError as error:
        raise RunError(f"cannot write {error.filename or directory}: {error.strerror}") from error
    planned = len(plan.jobs) + len(plan.composed)
    done = planned - len({job.name for job in found.undone})
    told = f"resumed: {done} of {planned} models are done"
    left = replace(plan, jobs=found.jobs, skipped=[*plan.skipped, *found.kept])
    return left, _told(told, found.again)


class _Sorted:
    """What stays of a run, and what is done again.

    Attributes:
        jobs: the conversions that are left; ``undone`` has the variants too, that are left or
            follow from them.
        kept: the rows that stay.
        again: by label, why a row that is there does not stay.
    """

    def __init__(self, directory: Path, cache: CacheSession) -> None:
        models = runfiles.last_rows(directory).values()
        self._rows = {row.label: row for model in models for row in model.rows}
        self._directory, self._cache = directory, cache
        self._before = earlier(directory)
        self.jobs: list[Job] = []
        self.undone: list[Job] = []
        self.kept: list[ArtifactRow] = []
        self.again: dict[str, str] = {}

    def take(self, job: Job) -> None:
        """Decide on a model: its file, then what derives from it."""
        start = len(self.kept)
        if not self._stays(job):
            self.jobs.append(job)
            return
        files = self.kept[-1].files
        stubs = [variants.from_parent(stub, files) for stub in variants.jobs_of(job)]
        done = {stub.label for stub in stubs if self._stays(stub)}
        lacking = self._cache.lacking(job, files, done) if files else None
        if lacking is not None:  # its variants need the model
            self.again[job.label] = lacking
            del self.kept[start:]
            self.undone.append(job)
            self.jobs.append(job)

    def take_composed(self, job: Composed) -> None:
        """Decide on what runs the graphs of a model together: it stays where they all do."""
        kept = {row.name: row for row in self.kept if row.id == ONNX}
        graphs = {graph: kept[part.name] for graph, part in job.graphs.items() if part.name in kept}
        if len(graphs) < len(job.graphs):
            self.undone.append(job)
            return
        self._stays(compositions.with_files(job, graphs, self._directory))

    def _stays(self, job: Job) -> bool:
        row = self._rows.get(job.label)
        # `not_run` is planned and not finished: there is nothing to judge, and nothing to tell.
        if row is not None and row.status != "not_run":
            why = _why_again(job, row, self._directory, self._cache, self._before)
            if why is None:
                self.kept.append(row)
                return True
            self.again[job.label] = why
        self.undone.append(job)
        return False


def _why_again(
    job: Job, row: ArtifactRow, directory: Path, cache: CacheSession, before: Manifest | None
) -> str | None:
    """Why a finished model is done again, or ``None``."""
    if isinstance(job, Derived) and not job.parent_files:
        return None if row.status == "skipped" else "there is nothing to make it from"
    if row.error is not None and row.error.code in _NOT_ITS_DOING:
        return f"{_NOT_ITS_DOING[row.error.code]}: {row.error.message}"
    if row.not_stored is not None:  # the key cannot tell whether it is as it was
        return row.not_stored
    if isinstance(job, Composed) and row.status == "skipped":
        return None
    now = cache.key(job)
    if row.job_key is None:
        if (why := _why_without_key(job, row, now, directory, before)) is not None:
            return why
    elif row.job_key != now.digest:
        parts = cache.parts_of(row.job_key)
        if parts is None:  # not in the store: the versions are known from the manifest
            parts = now.parts | _versions(now, before)
        return keys.difference(parts, now.parts) or "what it is made from has changed"
    return _damaged(row, directory)


def _damaged(row: ArtifactRow, directory: Path) -> str | None:
    """Which file of a row is not what was recorded, or ``None``."""
    for part in row.files:
        path = directory / part.path
        # The content and not the time: a file that was edited and put back is as it was. A link is
        # refused even where it leads to the right content, which may change after this look.
        if path.is_symlink() or not path.is_file() or files.sha256(path) != part.sha256:
            return f"{part.path} is not as recorded"
    return None


def _versions(now: JobKey, before: Manifest | None) -> keys.Parts:
    """The packages of a key, in the versions that a manifest has."""
    packages = before.environment.packages if before else {}
    names = [part for part in now.parts if before and part.startswith("package ")]
    return {part: packages.get(part.removeprefix("package ")) for part in names}


def _why_without_key(
    job: Job, row: ArtifactRow, now: JobKey, directory: Path, before: Manifest | None
) -> str | None:
    """Why a model is done again that ran without a store, or ``None``.

    Its request is held against its record, the versions against the manifest, and its files by the
    time when they were edited.
    """
    if before is None:
        return "its run has left no manifest"
    try:
        text = (directory / delivery.MODELS / job.label / delivery.JOB).read_bytes()
        recorded = type(job).model_validate_json(text)
    except (OSError, ValueError):  # a ValidationError is one
        return f"its {delivery.JOB} cannot be read"
    # The manifest does not have the versions of what only the code of a model imports.
    known = {f"package {name}" for name in before.environment.packages}
    versions = {name: value for name, value in _versions(now, before).items() if name in known}
    parts = {name: value for name, value in now.parts.items() if not name.startswith("request.")}
    if said := keys.difference({**parts, **versions, **keys.request(recorded)}, now.parts):
        return said
    began = row.spent.started_at if row.spent is not None else before.run.started_at
    moment = datetime.fromisoformat(began).timestamp() * 1e9
    covered = [path for base in now.bases for path in base.files.values()]
    read = [*map(str, now.files.values()), *covered, *row.files_read]
    changed = edited.since(int(moment), job, read)
    return f"{changed[0]} was edited since" if changed else None


def _clear(directory: Path, jobs: list[Job]) -> None:
    """Remove what was begun; a link in the place of a folder is left for `prepare` to refuse."""
    folders = [directory / delivery.STAGING, *(Path(job.model_dir) for job in jobs)]
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink() and not folder.parent.is_symlink():
            shutil.rmtree(folder)
    delivery.unfinished_latest(directory).unlink(missing_ok=True)
    for path in directory.glob(".*"):  # of writes that were cut short
        # `.hydra/` is a folder and stays: `resume` has read its configuration from there.
        if path.is_file() and path.name != claim.LOCK:
            path.unlink()


def _told(head: str, reasons: Mapping[str, str]) -> str:
    # Only what was finished and is done again needs a reason: hours of work are repeated.
    lines = [f"again  {name}: {why}" for name, why in reasons.items()]
    more = [f"again  {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n".join([head, *lines[:_LISTED], *more])
