"""A lease: an object that says who has a place to itself, and until when without a sign of life.

No lock of a file system holds across hosts and object stores. A lease is made by a conditional
write, renewed by a thread, taken over only once it has expired, and removed by its holder. A holder
that was cut off for longer than that finds out before its next write (``check``); what others read
is written conditionally anyway.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from converter.model.errors import RunError
from converter.storage.backend import ABSENT, ConflictError, Content
from converter.storage.objects import Objects

SECONDS = 60.0
_LONGEST_S = 300.0
"""A longer one, or one that cannot be read, counts for that long after it was written."""
# Of hosts that keep time at all; only where a store does not tell the age of an object itself.
_CLOCKS_S = 300.0
# The age that a store tells is in whole seconds.
_ROUNDED_S = 2.0


class HeldError(RunError):
    """Another process has it."""


class LostError(OSError):
    """The lease is not ours any more: nothing may be written on its strength."""

    def __init__(self, where: str) -> None:
        words = "its lease was lost, since it could not be renewed in time"
        super().__init__(errno.ESTALE, words, where)


class Lease:
    """Args: key: of the object; seconds: how long it holds without being renewed."""

    def __init__(self, objects: Objects, key: str, seconds: float = SECONDS) -> None:
        self._objects = objects
        self._key = key
        self._seconds = seconds
        self._token = uuid.uuid4().hex
        self._since = f"{datetime.now(UTC):%F %T}Z"
        self._version = ABSENT
        self._until = 0.0
        self._lost = False
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def take(self) -> None:
        """Have it, and keep it until it is released or this process ends.

        Raises:
            HeldError: another process has it; its words say which.
            OSError: it cannot be written.
        """
        there = self._objects.read(self._key)
        if there is not None and not self._has_expired(there):
            raise HeldError(self._holder(there))
        try:
            self._write(there.version if there is not None else ABSENT)
        except ConflictError:  # somebody else was faster
            there = self._objects.read(self._key)
            raise HeldError(self._holder(there) if there else "another process") from None
        name = f"lease of {self._objects.place}"
        self._renewing = threading.Thread(target=self._renew, name=name, daemon=True)
        self._renewing.start()

    def check(self) -> None:
        """Make sure that it still is ours, before something is written.

        Raises:
            LostError: it may be somebody else's.
        """
        # The time of this process alone: it was renewed at the latest when the last answer came.
        if self._lost or _now() > self._until:
            raise LostError(str(self._objects.place))

    def release(self) -> None:
        """Give it back; one that was lost meanwhile stays with its new holder."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
        if not self._lost:
            with suppress(OSError):  # then it expires
                self._objects.delete(self._key, self._version)

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 4):
            try:
                self._write(self._version)
            except ConflictError:
                self._lost = True
                return
            except OSError:  # until it has expired there is time to try again
                continue

    def _write(self, expected: str) -> None:
        # Before the call: it counts from when the store writes it, which is later.
        until = _now() + self._seconds
        self._version = self._objects.write(self._key, self._document(), expected)
        self._until = until

    def _document(self) -> bytes:
        now = time.time()
        said = {
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self._since,
            "renewed_at": now,
            "expires": now + self._seconds,
            "seconds": self._seconds,
            "token": self._token,
        }
        return json.dumps(said, indent=2).encode()

    def _has_expired(self, there: Content) -> bool:
        if there.age_s is not None:
            seconds = _number(there, "seconds")
            if seconds is None or not 0 <= seconds <= _LONGEST_S:
                seconds = _LONGEST_S
            return there.age_s > seconds + _ROUNDED_S
        expires = _number(there, "expires")
        return expires is not None and time.time() > expires + _CLOCKS_S

    def _holder(self, there: Content) -> str:
        said = _said(there)
        if _number(there, "seconds") is None or _number(there, "expires") is None:
            return (
                f"whoever wrote {self._objects.place / self._key}, which is no lease of this "
                f"converter and counts for {_LONGEST_S:.0f} s after that (remove it where nobody "
                "is at work)"
            )
        return f"{said.get('holder', 'another process')} since {said.get('since', 'some time')}"


def _now() -> float:
    # Not `monotonic`, which stands still while a machine sleeps, and the lease expires.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _said(there: Content) -> dict[str, Any]:
    try:
        said = json.loads(there.data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _number(there: Content, name: str) -> float | None:
    try:
        return float(_said(there)[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
