"""The folder of a node that is its own: what it has fetched, and the files of each daemon there.

::

    blobs/3f2a…     files by their content, for all jobs and daemons; a week unused, they go
    locks/3f        held by who fetches one whose name begins so
    runs/NAME/      of one daemon: lock, done/ (what is unpacked already), files/ (see luggage)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_UNUSED_S = 7 * 24 * 3600.0


class Scratch:
    """Args: folder: see above; made where it is not there."""

    def __init__(self, folder: Path) -> None:
        # Resolved: what a job says of its files are real paths.
        self.folder = Path(os.path.realpath(folder))

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    def claim(self, name: str) -> Run:
        """A folder for a daemon, empty; what others have left that were killed is removed.

        Raises:
            OSError: it cannot be made, or others may write to it.
        """
        self.make()
        runs = self.folder / "runs"
        status = self.folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            words = "is open to other users: remove it, or name another as executor.scratch"
            raise OSError(errno.EPERM, words, str(self.folder))
        for each in runs.iterdir():
            if (lock := _taken(each / "lock")) is not None:
                shutil.rmtree(each, ignore_errors=True)
                lock.close()
        for blob in self.blobs.iterdir():
            with contextlib.suppress(FileNotFoundError):  # of two daemons that begin at once
                if time.time() - blob.stat().st_mtime > _UNUSED_S:
                    blob.unlink()
        run = Run(self, name)
        run.folder.mkdir()
        run.make()
        run.lock = _taken(run.folder / "lock")
        return run

    def make(self) -> None:
        """Have all folders there.

        Raises:
            OSError: one cannot be made.
        """
        for each in (self.folder, self.blobs, self.folder / "locks", self.folder / "runs"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def fetching(self, sha256: str) -> Iterator[None]:
        """Around the fetching of a blob: many jobs begin with the same one at once."""
        with (self.folder / "locks" / sha256[:2]).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Run:
    """The folder of one daemon, for as long as that lives."""

    def __init__(self, scratch: Scratch, name: str) -> None:
        self.scratch = scratch
        self.folder = scratch.folder / "runs" / name
        self.lock: IO[bytes] | None = None

    @property
    def done(self) -> Path:
        return self.folder / "done"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def make(self) -> None:
        """Have all folders there.

        Raises:
            OSError: one cannot be made.
        """
        self.scratch.make()
        for each in (self.done, self.files):
            each.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, files: str) -> Run:
        """The one whose ``files`` that is."""
        folder = Path(files).parent
        return cls(Scratch(folder.parents[1]), folder.name)

    def remove(self) -> None:
        """At the end of its daemon."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.lock is not None:
            self.lock.close()


def _taken(path: Path) -> IO[bytes] | None:
    """The lock of a daemon's folder; ``None``: that lives, or the folder has just gone."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        lock = path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock
    return None
