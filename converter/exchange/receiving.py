"""On a node: what a job needs is brought there before it begins, and what it made is sent.

Both raise ``OSError`` in the words of the store, or of the disk that is full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.exchange import archive
from converter.exchange.luggage import Blob, Luggage, Sent
from converter.exchange.scratch import Run, Scratch
from converter.layout import delivery, files
from converter.model.job import Job
from converter.model.records import JobResult
from converter.storage import blobs, location, objects
from converter.storage.location import Url
from converter.storage.objects import Objects

_CLONE = 0x40049409  # FICLONE: a copy that shares its blocks until one is written to
_TRIES = 2  # a blob of this node may be damaged, or has just been removed: it is fetched again


def fetch(luggage: Luggage, job: Job) -> None:
    """Have all that a job needs at its place.

    Args:
        job: with its paths on this node.

    Raises:
        OSError: it cannot be brought here, or is not what was put there.
    """
    run, store = Run.of(luggage.root), _store(luggage)
    run.make()  # somebody may have emptied the disk
    for blob in luggage.packs:
        # By its content: many jobs have the same.
        with _once(run, blob.sha256, blob.sha256) as missing:
            if missing:
                _unpack(store, run, blob)
    for path, blob in luggage.files:
        with _once(run, hashlib.sha256(path.encode()).hexdigest(), blob.sha256) as missing:
            if missing:
                _put(store, run, path, blob)
    Path(job.model_dir).mkdir(parents=True, exist_ok=True)


def sent(luggage: Luggage, job: Job, result: JobResult) -> list[dict[str, Any]]:
    """Put what an attempt has left into the store, and clear up behind it; a ``Sent`` each.

    Raises:
        OSError: it cannot be written.
    """
    run, store = Run.of(luggage.root), _store(luggage)
    found: list[Sent] = []
    staging = Path(job.staging_dir)
    named = [part.path for part in (*result.files, result.references) if part is not None]
    named += [path.name for path in staging.glob(delivery.WRONG)]
    # Its word alone: what is no plain file of the folder the driver misses, and says so.
    plain = [name for name in named if Path(name).name == name and _is_plain(staging / name)]
    found += [_sent(store, run, staging / name, name) for name in dict.fromkeys(plain)]
    log = Path(job.model_dir) / delivery.LOG
    if _is_plain(log) and log.stat().st_size:
        found.append(_sent(store, run, log, ""))
    shutil.rmtree(staging, ignore_errors=True)
    log.unlink(missing_ok=True)
    return [asdict(one) for one in found]


def _store(luggage: Luggage) -> Objects:
    place = location.parse(luggage.place)
    assert isinstance(place, Url), "the driver has looked"
    return objects.opened(place)


@contextlib.contextmanager
def _once(run: Run, name: str, content: str) -> Iterator[bool]:
    """Whether something is still to be done; one of several that want it does it, others wait."""
    with (run.done / name).open("a+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        mark.seek(0)
        missing = mark.read() != content
        yield missing
        if missing:
            mark.truncate(0)
            mark.write(content)


def _unpack(store: Objects, run: Run, blob: Blob) -> None:
    place = run.folder / f"pack-{blob.sha256}"
    try:
        _copied(store, run.scratch, blob, place)
        archive.unpack(place, run.files)
    except archive.RefusedError as error:
        raise OSError(errno.EINVAL, str(error), str(store.place)) from error
    finally:
        place.unlink(missing_ok=True)


def _put(store: Objects, run: Run, path: str, blob: Blob) -> None:
    try:
        target = archive.inside(run.files, path)
    except archive.RefusedError as error:
        raise OSError(errno.EINVAL, str(error), path) from error
    new = target.with_name(f".new-{os.getpid()}")
    _copied(store, run.scratch, blob, new)
    os.replace(new, target)


def _copied(store: Objects, scratch: Scratch, blob: Blob, target: Path) -> None:
    """A copy of a blob, hashed: what a job does to it costs no other job."""
    for _ in range(_TRIES):
        own = _fetched(store, scratch, blob)
        target.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _copy(own, target)
        if files.is_whole(target, blob.bytes, blob.sha256):
            return
        own.unlink(missing_ok=True)
    target.unlink(missing_ok=True)
    words = "checksum mismatch: the disk of this node gives other bytes than it was given"
    raise OSError(errno.EIO, words, str(scratch.blobs))


def _fetched(store: Objects, scratch: Scratch, blob: Blob) -> Path:
    own = scratch.blobs / blob.sha256
    with scratch.fetching(blob.sha256):
        if files.has_size(own, blob.bytes):
            os.utime(own)
            return own
        part = own.with_name(f".{blob.sha256}")  # of one that was killed it is written over
        store.download(blobs.key_of(blob.sha256), part, blob.bytes, blob.sha256)
        os.replace(part, own)
    return own


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("xb") as new:
        try:
            # Btrfs and XFS take no time and no room for it. No hard link: onnx refuses external
            # data that has one, and who writes to it would write to the other.
            fcntl.ioctl(new.fileno(), _CLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)


def _sent(store: Objects, run: Run, path: Path, name: str) -> Sent:
    size, digest = path.stat().st_size, files.sha256(path)
    blobs.keep(store, path, size, digest)
    # What is made from it may run here next.
    with contextlib.suppress(OSError):
        os.replace(path, run.scratch.blobs / digest)
    return Sent(name, digest, size)


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
