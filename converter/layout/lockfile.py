"""A lock file that says who holds it; the kernel frees it when that process ends."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from converter.model.errors import RunError


def opened(path: Path) -> int:
    """The descriptor of a lock file; its folder is made where there is none.

    Raises:
        OSError: it cannot be written, or is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not truncated: whoever is refused reads there who holds it.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def take(descriptor: int, refusal: Callable[[str], str]) -> None:
    """Take the lock, and write into it who holds it, where and since when.

    Args:
        refusal: what to tell where another process has it, given what that one has written.

    Raises:
        RunError: another process has it.
    """
    try:
        # Not lockf: a POSIX lock goes as soon as the process closes any descriptor of the file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 256, 0).decode(errors="replace").strip()
        raise RunError(refusal(holder or "another process")) from None
    text = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%F %T}Z\n"
    # The holder before may have left a longer line.
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
