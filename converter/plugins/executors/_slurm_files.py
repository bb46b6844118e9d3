"""What a driver and its tasks tell each other through files of a shared file system.

NFS shows a file as its writer left it to who opens it afterwards, and may hide for a minute that
there is a new name: so each side opens anew what is there already, in place of watching for names.
Clocks of two machines are compared nowhere but to be careful.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path

from converter.processes.carrier import Message

_BEATS = 5  # in the time of a lease
_LOOKS = 30


class Heart:
    """The driver's end: a file that is written anew for as long as the driver lives.

    By a thread of its own, since who takes the events may hash gigabytes between two of them.

    Args:
        path: the file; it also names the attempts that are to end.
    """

    def __init__(self, path: Path, lease_s: float) -> None:
        self._path = path
        self._every_s = lease_s / _BEATS
        self._beats = 0
        self._cancelled: set[int] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._beat()
            except OSError:  # a full or absent file system: the next beat may be heard
                continue

    def _beat(self) -> None:
        with self._lock:
            self._beats += 1
            content = json.dumps({"beat": self._beats, "cancelled": sorted(self._cancelled)})
            # In place: who has opened another file of this name would never see a new one.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, content.encode(), 0)
                os.ftruncate(descriptor, len(content))
            finally:
                os.close(descriptor)  # and NFS sends it

    def cancel(self, keys: Collection[int]) -> None:
        """Have attempts ended.

        Raises:
            OSError: the file cannot be written.
        """
        self._cancelled |= set(keys)
        self._beat()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


class Lease:
    """A task's end: whether its driver lives, and still wants it.

    Args:
        path: of the ``Heart``.
        key: of the attempt.
    """

    def __init__(self, path: Path, key: int, lease_s: float) -> None:
        self._path = path
        self._key = key
        self._lease_s = lease_s
        self._seen = ""
        self._heard = time.monotonic()
        self._next_look = 0.0
        self.cancelled = False

    def look(self) -> None:
        """Read the file, where it is time to."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._lease_s / _LOOKS
        try:
            content = self._path.read_text()
            told = json.loads(content)
        except (OSError, ValueError):  # it is gone, or just being written
            return
        finally:
            # A file server that does not answer keeps the driver, too, from saying anything.
            self._heard += time.monotonic() - now
        if content != self._seen:
            self._seen, self._heard = content, time.monotonic()
            self.cancelled = self._key in told["cancelled"]

    @property
    def expired(self) -> bool:
        return time.monotonic() - self._heard > self._lease_s

    def begins(self) -> bool:
        """Whether there is a driver: a task may have waited for its node longer than that lived."""
        self.look()
        first = self._seen
        try:
            age = time.time() - self._path.stat().st_mtime
        except OSError:
            return False
        # The clock of the file server may be another.
        while abs(age) > self._lease_s and self._seen == first:
            if self.expired:
                return False
            time.sleep(self._lease_s / _LOOKS)
            self.look()
        return not self.cancelled


class Record:
    """A task's end of the file in which an attempt says what happens, one line of JSON each.

    Raises:
        FileExistsError: it was begun before, by a task that the cluster has started a second time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.open("xb").close()

    def write(self, message: Message) -> None:
        # Closed each time: then NFS sends it.
        with self._path.open("ab", buffering=0) as stream:
            data = memoryview(json.dumps(message).encode() + b"\n")
            while data:
                data = data[stream.write(data) :]


class Tail:
    """The driver's end of a ``Record``, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._pending = b""

    def read(self) -> list[Message]:
        """What was written since the last time."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:  # it has not begun
            return []
        self._offset += len(data)
        *lines, self._pending = (self._pending + data).split(b"\n")
        return [json.loads(line) for line in lines]
