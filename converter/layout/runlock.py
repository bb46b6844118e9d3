"""The lock of a run directory: one process writes it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from converter.layout import claim
from converter.model.errors import RunError
from converter.model.manifest import MANIFEST, RESULTS


@contextmanager
def locked(directory: Path, *, holds_run: bool = False) -> Iterator[None]:
    """Hold a run directory; makes it when it does not exist.

    The kernel frees the lock of a process that was killed.

    Args:
        holds_run: the beginning of a run is expected there, and will be continued.

    Raises:
        RunError: it cannot be written, or another process holds it.
        ConfigError: it already holds a run.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(directory / claim.LOCK, flags, 0o644)
    except OSError as error:
        raise claim.not_writable(directory, error) from error
    try:
        _take(descriptor, directory)
        try:
            begun = (directory / MANIFEST).exists() or (directory / RESULTS).exists()
            if begun and not holds_run:
                raise claim.holds_run("hydra.run.dir", directory)
            yield
        finally:
            os.unlink(directory / claim.LOCK)
    finally:
        os.close(descriptor)


def _take(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"{directory} is held by {holder(descriptor)}: wait for it, or choose another "
            "hydra.run.dir=DIR"
        ) from None
    sign(descriptor)


def holder(descriptor: int) -> str:
    """What the process that holds a lock file has written into it."""
    return os.pread(descriptor, 256, 0).decode(errors="replace").strip() or "another process"


def sign(descriptor: int) -> None:
    """Write into a lock file who holds it, where and since when."""
    text = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%F %T}Z\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
