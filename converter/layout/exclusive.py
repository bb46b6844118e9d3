"""One at a time: the folder of an experiment and the folder that it publishes to."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.layout import lockfile
from converter.model.errors import RunError

LOCK = ".holder"
_STEP_S = 0.1


# Each point of a sweep asks again: a second descriptor of this process would be refused by the
# first one.
@functools.cache
def hold(folder: Path) -> int:
    """Keep a folder to this process until it ends: the points of a sweep share it.

    The file stays: a lock that is removed can be held twice. The kernel frees the lock of a
    process that was killed.

    Raises:
        RunError: another process has it, or the folder cannot be written.
    """
    return _taken(folder)


@contextmanager
def lock_with_timeout(folder: Path, seconds: float) -> Iterator[None]:
    """Hold a folder for a while; waits for the process that has it.

    Raises:
        RunError: it was not free in time, or the folder cannot be written.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            descriptor = _taken(folder)
            break
        except lockfile.HeldError:
            if time.monotonic() >= end:
                raise
            # flock waits for ever, or not at all.
            time.sleep(_STEP_S)
    try:
        yield
    finally:
        os.close(descriptor)


def _taken(folder: Path) -> int:
    try:
        return lockfile.taken(
            folder / LOCK,
            lambda holder: (
                f"{folder} is held by {holder}, and only one run at a time may use it: wait for "
                "that one, or end it"
            ),
        )
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror or error}. Check the folder and its owner"
        ) from error
