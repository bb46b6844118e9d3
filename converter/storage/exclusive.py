"""One at a time: the folder of an experiment, a place that is published to, a store.

A folder is locked by the kernel (flock), a place of an object store by a lease.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from converter.layout import lockfile
from converter.model.errors import RunError
from converter.storage import lease, objects
from converter.storage.lease import Lease
from converter.storage.location import Location, Url

LOCK = ".holder"
LEASE = ".holder.json"
_STEP_S = 0.1
_REMOTE_STEP_S = 1.0
_OWNER = "the folder and its owner"
_ACCESS = "its bucket and the credentials"


class Guard(Protocol):
    """What one has who holds a place."""

    def check(self) -> None:
        """Raises ``OSError`` when it is not held any more; asked before each write."""

    def release(self) -> None:
        """Let others have it."""


class _Flock:
    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor = lockfile.taken(self._path, lambda holder: _refusal(folder, holder))

    def check(self) -> None:
        """The kernel takes it from nobody; the file can be removed, and then made by others."""
        if not lockfile.is_at(self._descriptor, self._path):
            words = "its lock was removed or replaced, so that another run may write there"
            raise OSError(errno.ESTALE, words, str(self._path))

    def release(self) -> None:
        # While it is held: after it, this might be the file of the next holder. One that opened it
        # before sees that it is gone, and takes another.
        with suppress(OSError):
            if lockfile.is_at(self._descriptor, self._path):
                os.unlink(self._path)
        os.close(self._descriptor)


# Each point of a sweep asks again: a second descriptor of this process would be refused by the
# first one.
_held: dict[Location, Guard] = {}


def hold(place: Location) -> Guard:
    """Keep a place to this process until it ends: the points of a sweep share it.

    The kernel frees the lock of a process that was killed, whose file the next holder removes; its
    lease expires.

    Raises:
        RunError: another process has it, or the place cannot be written.
    """
    if place not in _held:
        _held[place] = _taken(place)
    return _held[place]


def release_all() -> None:
    """At the end of a command: let others have its places at once, and leave no lock there."""
    while _held:
        _held.popitem()[1].release()


@contextmanager
def lock_with_timeout(place: Location, seconds: float) -> Iterator[Guard]:
    """Hold a place for a while; waits for the process that has it.

    Raises:
        RunError: it was not free in time, or the place cannot be written.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            guard = _taken(place)
            break
        except (lockfile.HeldError, lease.HeldError):
            if time.monotonic() >= end:
                raise
            # flock waits for ever, or not at all; an object store tells nobody.
            time.sleep(_STEP_S if isinstance(place, Path) else _REMOTE_STEP_S)
    try:
        yield guard
    finally:
        guard.release()


def _taken(place: Location) -> Guard:
    try:
        return _leased(place) if isinstance(place, Url) else _locked(place)
    except OSError as error:
        raise RunError(
            f"{place} cannot be written: {error.strerror or error}. "
            f"Check {_ACCESS if isinstance(place, Url) else _OWNER}"
        ) from error


def _refusal(place: Location, holder: str) -> str:
    return (
        f"{place} is held by {holder}, and only one run at a time may use it: wait for that one, "
        "or end it"
    )


def _locked(folder: Path) -> Guard:
    return _Flock(folder)


def _leased(place: Url) -> Guard:
    found = Lease(objects.opened(place), LEASE)
    try:
        found.take()
    except lease.HeldError as error:
        words = f"{_refusal(place, str(error))}; a process that was killed holds it for a minute"
        raise lease.HeldError(words) from None
    return found
