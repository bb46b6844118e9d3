"""A lock file that says who holds it; the kernel frees it when that process ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from converter.model.errors import RunError


class HeldError(RunError):
    """Another process has the lock."""


def taken(path: Path, refusal: Callable[[str], str]) -> int:
    """Take the lock, and write into it who holds it, where and since when.

    Args:
        refusal: what to tell where another process has it, given what that one has written.

    Returns:
        The descriptor that holds it. The folder is made where there is none.

    Raises:
        OSError: it cannot be written, or is a link.
        HeldError: another process has it.
    """
    while True:
        descriptor, seen = _opened(path), False
        try:
            _take(descriptor, refusal)
            seen = is_at(descriptor, path)
        finally:
            # Refused, or its holder removed it between our opening and its end: then this is a lock
            # that nobody sees.
            if not seen:
                os.close(descriptor)
        if seen:
            return descriptor


def is_at(descriptor: int, path: Path) -> bool:
    """Whether a file that is held is the one that others see."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not truncated: whoever is refused reads there who holds it.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def _take(descriptor: int, refusal: Callable[[str], str]) -> None:
    try:
        # Not lockf: a POSIX lock goes as soon as the process closes any descriptor of the file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # The holder writes once it has the lock: for a moment there is nothing to read.
        holder = os.pread(descriptor, 256, 0).decode(errors="replace").strip()
        raise HeldError(refusal(holder or "another process")) from None
    text = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%F %T}Z\n"
    # The holder before may have left a longer line.
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
