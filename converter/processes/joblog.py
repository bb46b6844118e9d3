"""The log of one job: all it prints, but never more than a fixed size."""

from __future__ import annotations

import os
import re
from pathlib import Path

HEAD_BYTES = 8 << 20
TAIL_BYTES = 256 << 10

# As faulthandler writes it: the innermost frame is the first line.
_TRACEBACK_TOP = re.compile(r"Current thread .*\(most recent call first\):\n\s*(File .*)")


class JobLog:
    """Keeps the first 8 MiB and the last 256 KiB of an attempt; says how much it left out.

    Args:
        path: the first attempt replaces it, a further one appends to it.
        attempt: counted from 1.

    Raises:
        OSError: the file cannot be made; ``ELOOP`` when a symbolic link is in its place.
    """

    def __init__(self, path: Path, attempt: int) -> None:
        again = attempt > 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if again else os.O_TRUNC)
        self._descriptor = os.open(path, flags, 0o644)
        self._room = HEAD_BYTES
        # In memory, so that a job that prints without end costs the disk no more than the head.
        self._tail = bytearray()
        self._dropped = 0
        if again:
            self._store(f"\n---- attempt {attempt} ----\n".encode())

    def write(self, data: bytes) -> None:
        head = data[: self._room]
        self._room -= len(head)
        self._store(head)
        # Also of what was stored already: `last_words` looks here only.
        self._tail += data
        if self._room == 0 and len(head) < len(data):
            self._dropped += len(data) - len(head)
        # Cut at twice its size: to move the tail for each chunk would copy it again and again.
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def close(self) -> None:
        """Write the end of what did not fit, and a last line that says what is missing."""
        # No more than was dropped: the rest of the tail stands in the log already.
        kept = min(self._dropped, len(self._tail), TAIL_BYTES)
        tail = bytes(self._tail[len(self._tail) - kept :])
        missing = self._dropped - kept
        if missing:
            self._store(b"\n[... output left out here ...]\n")
        self._store(tail)
        if missing:
            self._store(
                f"\n[log capped: {missing} bytes left out between the first {HEAD_BYTES >> 20} MiB "
                f"and the last {TAIL_BYTES >> 10} KiB]\n".encode()
            )
        os.close(self._descriptor)

    def last_words(self) -> str:
        """The line that best says how the job ended: where it crashed, else what it said last."""
        text = self._tail[-TAIL_BYTES:].decode(errors="replace")
        if crash := _TRACEBACK_TOP.findall(text):
            # The last one: what crashed before it did not end the job.
            return str(crash[-1])[:300]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""

    def _store(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:  # the disk is full: the job's own files will say so, a log must not
            self._room = 0
            self._dropped += len(view)
