"""What later points of a sweep ask for of a model that this one is about to load and run.

A job makes it along with its own file, and the store has it when its point comes. Nothing depends
on it: what was not made, or is not as it should be, is made by its own point.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.layout import delivery, files, runfiles
from converter.model.job import Job, Sibling
from converter.model.records import JobResult
from converter.plugins import executors
from converter.runner.context import RunContext
from converter.runner.reuse import CacheSession

_Asked = tuple[Job, CacheSession]


class Sharing:
    """Args: cache: of the run."""

    def __init__(self, context: RunContext, cache: CacheSession) -> None:
        self._later = context.later
        self._cache = cache
        self._seconds = context.spec.executor.timeout_s
        # Each point has a deadline of its own, within which the first would do the work of all.
        alone = context.store is None or context.spec.deadline is not None
        self._possible = not alone and executors.shares(context.spec.executor)
        self._asked: dict[str, tuple[Job, list[_Asked]]] = {}

    def spread(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs, each with what is to be made along with it."""
        able = {job.name: job for job in jobs if type(job) is Job}
        if not able or not self._possible:
            return [*jobs]
        wanted: dict[str, list[_Asked]] = {}
        made = {self._cache.key(job).digest for job in able.values()}
        for point in self._later():
            session = self._cache.of_another_run()
            for job in point:
                if (own := able.get(job.name)) is None or not _alike(own, job):
                    continue
                digest = session.key(job).digest
                if digest not in made and session.lacks(job):
                    made.add(digest)
                    wanted.setdefault(job.name, []).append((job, session))
        return [self._with(job, wanted.get(job.label, [])) for job in jobs]

    def _with(self, job: Job, asked: list[_Asked]) -> Job:
        if not asked:
            return job
        siblings = [
            Sibling(**{name: getattr(other, name) for name in Sibling.model_fields})
            for other, _ in asked
        ]
        given = job.model_copy(update={"siblings": siblings, "sibling_s": self._seconds})
        self._asked[job.label] = given, asked
        return given

    def keep(self, label: str) -> None:
        """Store what a job that has ended has made for others; called before its folder goes."""
        given, asked = self._asked.pop(label, (None, []))
        for number, (job, session) in enumerate(asked):
            assert given is not None, "it was asked"
            folder = Path(given.sibling(number).staging_dir)
            try:
                self._keep(job, session, folder)
            except (OSError, ValueError):  # not there, not as hashed, no result at all
                continue
            self._cache.problem = self._cache.problem or session.problem

    def _keep(self, job: Job, session: CacheSession, folder: Path) -> None:
        delivery.refuse_link(folder)
        result = runfiles.read_result(folder / delivery.RESULT)
        result = session.with_files(job, session.unless_changed(job, result))
        if result.status == "ok" and (result.name, result.artifact) == (job.name, job.artifact):
            delivery.check(job, result, folder)
            session.keep(job, result, folder, _references(result, folder))


def _references(result: JobResult, folder: Path) -> Path | None:
    """What variants are verified on, hashed again: every verdict on them rests on it."""
    part = result.references
    if part is None:
        return None
    path = folder / Path(part.path).name
    if path.is_symlink() or not files.is_whole(path, part.bytes, part.sha256):
        raise ValueError(f"{path} is not what the job wrote")
    return path


def _alike(own: Job, job: Job) -> bool:
    """Whether two jobs differ in nothing that counts before the export, nor in its verification."""
    free = (*Sibling.model_fields, "expect", "model_dir", "staging_dir")
    # Their operators are loaded before the model.
    same = own.export.custom_ops == job.export.custom_ops
    return same and own.model_copy(update={name: getattr(job, name) for name in free}) == job
