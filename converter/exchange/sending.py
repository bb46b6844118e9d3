"""On the driver: what a job needs is put into the store, and what an attempt left is taken out."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from converter.exchange import archive, needs
from converter.exchange.luggage import Blob, Luggage, Sent
from converter.exchange.needs import Files
from converter.layout import delivery, files
from converter.model.errors import RunError
from converter.model.job import Job
from converter.plan.codebases import CodeBases
from converter.plan.contents import Contents
from converter.plan.modules import Modules
from converter.storage import blobs, objects
from converter.storage.location import Url

_SMALL = 1 << 20
"""Files up to this travel together: a call of an object store takes as long as some of these."""
_MIB = 1 << 20
_SHOWN = 3
_AGAIN_S = blobs.GRACE_S / 4


class Exchange:
    """Not for several threads, but for ``collect``.

    Args:
        place: of the store.
        directory: of the run.
        limit: bytes that a trusted folder may have.
    """

    def __init__(self, place: Url, directory: Path, limit: int) -> None:
        self._objects = objects.opened(place)
        self._directory = str(directory)
        self._limit = limit
        self._contents = Contents()
        self._bases = CodeBases(self._contents, Modules(self._contents))
        # A run takes hours: what is sent is what is there then.
        self._bases.doubt()
        self._folders: dict[str, Files] = {}
        self._packs: dict[tuple[object, ...], Blob] = {}
        self._kept: dict[str, float] = {}
        self._doubted = False

    def check(self, jobs: Iterable[Job]) -> None:
        """See that the trusted folders of jobs can travel.

        Raises:
            RunError: one is too large.
        """
        for job in jobs:
            for entry in needs.folders(job, self._named(job)):
                self._folder(entry)

    def luggage(self, job: Job) -> Luggage:
        """What a job needs, put into the store where it is not there.

        Raises:
            OSError: it cannot be read, or the store not written.
            RunError: a trusted folder is too large.
        """
        named = self._named(job)
        travelling = needs.folders(job, named)
        packs: list[Blob] = []
        large: dict[str, int] = {}
        done = Files()
        for entry in travelling:
            whole = self._folder(entry)
            done.real |= whole.real
            done.links |= whole.links
            packs += self._pack(whole)
            large |= _large(whole)
        rest = Files()
        for path in named:
            rest.add(path)
        rest.real = {path: size for path, size in rest.real.items() if path not in done.real}
        rest.links = {path: real for path, real in rest.links.items() if path not in done.links}
        packs += self._pack(rest)
        large |= _large(rest)
        large |= {path: os.path.getsize(path) for path in needs.made(job) if os.path.exists(path)}
        there = tuple((path, self._keep(Path(path))) for path in large)
        roots = self._roots(job, [*named, *large])
        trusted = tuple(os.path.realpath(one) if os.sep in one else one for one in job.trust)
        return Luggage(str(self._objects.place), roots, trusted, tuple(packs), there)

    def collect(self, sent: Collection[Sent], job: Job, attempt: int) -> None:
        """Bring what an attempt has left to where it would have left it on this machine.

        Raises:
            OSError: it cannot be brought here, or is not what was sent.
        """
        staging = Path(job.staging_dir)
        delivery.clear_staging(job)
        for one in sent:
            if one.name and Path(one.name).name != one.name:
                raise OSError(errno.EINVAL, "a node has sent a file with a path", one.name)
            target = staging / (one.name or f".{delivery.LOG}")
            blobs.bring(self._objects, target, one.bytes, one.sha256)
            files.fsync(target)
            if not one.name:
                _keep_log(target, job, attempt)

    def _named(self, job: Job) -> list[str]:
        return needs.named(job, self._bases)

    def _folder(self, entry: str) -> Files:
        if entry not in self._folders:
            found = needs.of_folder(entry, [self._directory])
            if found.bytes > self._limit:
                largest = ", ".join(
                    f"{path} ({size / _MIB:.0f} MiB)" for path, size in found.largest(_SHOWN)
                )
                raise RunError(
                    f"the trusted folder {entry} has {found.bytes / _MIB:.0f} MiB, and would go "
                    f"to each node; the largest files: {largest}. Trust a smaller folder, or raise "
                    f"executor.pack_mb ({self._limit // _MIB})"
                )
            self._folders[entry] = found
        return self._folders[entry]

    def _pack(self, found: Files) -> list[Blob]:
        """The archive of the small files, in the store; none where there are none."""
        small = [path for path, size in found.real.items() if size <= _SMALL]
        if not small and not found.links:
            return []
        contents = tuple((path, self._contents.sha256(path)) for path in sorted(small))
        key = (contents, tuple(sorted(found.links.items())))
        known = self._packs.get(key)
        if known is not None and self._is_kept(known.sha256):
            return [known]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pack")
            archive.write(path, small, found.links)
            self._packs[key] = self._keep(path)
        return [self._packs[key]]

    def _keep(self, path: Path) -> Blob:
        digest = self._contents.sha256(path)
        if digest is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        blob = Blob(digest, path.stat().st_size)
        if not self._is_kept(digest):
            sent = blobs.keep(self._objects, path, blob.bytes, digest)
            key = blobs.key_of(digest)
            if self._doubted and not sent and self._objects.sha256(key) != digest:
                self._objects.upload(path, key, digest)
            self._kept[digest] = time.monotonic()
        return blob

    def doubt(self) -> None:
        """What was sent may not be there any more, or be another file: it is read before it counts.

        Not removed by the node that saw it: the disk may be that node's.
        """
        self._kept.clear()
        self._doubted = True

    def _is_kept(self, digest: str) -> bool:
        """Whether it was in the store a while ago; what no entry names does not stay for ever."""
        kept = self._kept.get(digest)
        return kept is not None and time.monotonic() - kept < _AGAIN_S

    def _roots(self, job: Job, paths: Collection[str]) -> tuple[str, ...]:
        """What lies on the node where it lies here, below the folder of the node."""
        trusted = [entry for entry in job.trust if os.sep in entry]
        stated = [text for text in _strings(job.model_dump(mode="json")) if _holds(text, paths)]
        own = [self._directory, *trusted, *map(os.path.realpath, trusted), *paths, *stated]
        return tuple(dict.fromkeys(own))


def _holds(text: str, paths: Iterable[str]) -> bool:
    """Whether a text names a folder, or a set, that some files are of."""
    if not os.path.isabs(text) or text == os.sep:
        return False
    return glob.has_magic(text) or any(path.startswith(f"{text}{os.sep}") for path in paths)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _large(found: Files) -> dict[str, int]:
    return {path: size for path, size in found.real.items() if size > _SMALL}


def _keep_log(source: Path, job: Job, attempt: int) -> None:
    """As the supervisor of this machine has it: the first attempt replaces it, others append."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    flags |= os.O_APPEND if attempt > 1 else os.O_TRUNC
    log = os.open(Path(job.model_dir) / delivery.LOG, flags, 0o644)
    with os.fdopen(log, "wb") as new, source.open("rb") as old:
        shutil.copyfileobj(old, new)
    source.unlink()
