"""The artifacts that follow from the files of a run, and what they need of their parents."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from converter.layout import delivery, files
from converter.model.job import Derived, Job
from converter.model.manifest import ArtifactRow
from converter.model.records import JobResult
from converter.plan import variants
from converter.runner.reuse import CacheSession

_FOLDER = ".references"  # no model can have this name


class Followers:
    """Args: jobs: the conversions of the run; directory: of the run."""

    def __init__(self, jobs: Sequence[Job], directory: Path, cache: CacheSession) -> None:
        self._parents = {job.name: job for job in jobs}
        self._stubs = {job.name: variants.jobs_of(job) for job in jobs}
        self._directory = directory
        self._cache = cache
        # By model: all variants of one read the same file, which is taken out of the store once.
        self._references: dict[str, tuple[Path, str]] = {}

    def stubs(self, name: str) -> list[Derived]:
        """The jobs that follow from a model; what they are made from is not known yet."""
        return self._stubs.get(name, [])

    def keep(self, job: Job, result: JobResult) -> Path | None:
        """Take what variants are verified on out of the staging folder of their parent.

        Raises:
            OSError: it is not there, or is another one.
        """
        if result.references is None:
            return None
        source = Path(job.staging_dir) / result.references.path
        # The verdict on every variant rests on this file, so that it is hashed again like the
        # artifact.
        if files.sha256(source) != result.references.sha256:
            words = "checksum mismatch: it is not what the job wrote"
            raise OSError(errno.EIO, words, str(source))
        target = self._folder(job.name) / result.references.path
        target.parent.mkdir(parents=True, exist_ok=True)
        # The staging folder of a job goes with its row; its variants start later.
        os.replace(source, target)
        self._references[job.name] = (target, result.references.sha256)
        return target

    def made_from(self, parent: ArtifactRow) -> list[Derived]:
        """The jobs of the artifacts that derive from a file, with their keys and no more."""
        # The key of a variant is made of these hashes, so that the store can be asked before
        # anything runs.
        stubs = [stub for stub in self.stubs(parent.name) if stub.parent == parent.id]
        return [variants.from_parent(stub, parent.files) for stub in stubs]

    def of(self, parent: ArtifactRow) -> list[Derived]:
        """The jobs that can begin once a file is published.

        Raises:
            OSError: what they are verified on cannot be written.
        """
        made = self.made_from(parent)
        # Also where the store has them all: an entry may turn out to be damaged.
        path, sha256 = self._of_parent(parent.name)
        changes = {
            "parent_file": str(self._directory / parent.files[0].path),
            "references": str(path),
            "references_sha256": sha256,
        }
        return [job.model_copy(update=changes) for job in made]

    def references(self, name: str) -> dict[str, str]:
        """Where the cases of a model are kept, and their hash; empty: they are not."""
        path, sha256 = self._references.get(name, (None, ""))
        if path is None or not path.is_file():
            return {}
        return {"references": str(path), "references_sha256": sha256}

    def _of_parent(self, name: str) -> tuple[Path, str]:
        """The file of the cases and its hash; of a row that stays it is in the store."""
        if name not in self._references:
            folder = self._folder(name)
            part = self._cache.references(self._parents[name], folder)
            # Garbage collection may have taken it since the row was kept: the job says so.
            found = (folder / part.path, part.sha256) if part else (folder, "")
            self._references[name] = found
        return self._references[name]

    def _folder(self, name: str) -> Path:
        return self._directory / delivery.STAGING / _FOLDER / name
