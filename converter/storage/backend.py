"""What the store and publishing need of an object store, and what a file system must offer for it.

A ``Driver`` makes single calls on one kind of file system. ``converter.storage.objects`` adds what
is common: repeated calls, uploads that are verified before they have their name, sentences.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

ABSENT = ""
"""The version that is expected where nothing may be there yet."""


class ConflictError(OSError):
    """A conditional call found another version than the one that was expected."""

    def __init__(self, where: str) -> None:
        super().__init__(errno.EBUSY, "another writer has changed it meanwhile", where)


@dataclass(frozen=True)
class Object:
    """An object as its store describes it.

    Attributes:
        key: below the place of the backend.
        modified: seconds since the epoch by the clock of the store; 0 where it does not tell.
        version: of this content, for conditional calls.
        sha256: what its writer has noted beside it, if there is room for such notes.
    """

    key: str
    bytes: int
    modified: float
    version: str
    sha256: str | None = None


@dataclass(frozen=True)
class Content:
    """A small object.

    Attributes:
        age_s: since it was written, all by the clock of the store; ``None``: it does not tell.
    """

    data: bytes
    version: str
    age_s: float | None


class Kind(Enum):
    """What an error of a file system means for the caller."""

    CONFLICT = "another version is there"
    MISSING = "there is no such object"
    AGAIN = "it may work later"
    FINAL = "it will not work"


@dataclass(frozen=True)
class Failure:
    """An error of a file system in our words.

    Attributes:
        number: of ``errno``.
        words: a sentence without its full stop; no secret is in it.
    """

    kind: Kind
    number: int
    words: str


class TooLargeError(Exception):
    """An object has more bytes than were expected; it is not brought here."""


def limited(most: int | None) -> Any:
    """A callback of fsspec for a download that is given up beyond so many bytes."""
    from fsspec.callbacks import Callback  # only where a driver is there

    def check(size: int | None, value: int) -> None:
        if most is not None and max(size or 0, value) > most:
            raise TooLargeError

    return Callback(hooks={"most": check})


class Driver(Protocol):
    """Single calls on one kind of file system; each raises only ``errors``.

    Attributes:
        conditional: a write can depend on what is there.
        errors: what its calls raise.
    """

    conditional: bool
    errors: tuple[type[Exception], ...]

    def get(self, path: str) -> Content:
        """A small object, whole."""

    def put(self, path: str, data: bytes, expected: str | None) -> str:
        """Write a small object; its version. ``expected``: written only onto that version."""

    def head(self, path: str) -> Object:
        """What is there, under its path."""

    def send(self, source: Path, path: str, sha256: str) -> bool:
        """Upload a file; whether the store has said that it got these very bytes."""

    def fetch(self, path: str, target: Path, most: int | None = None) -> None:
        """Download a file. Raises ``TooLargeError``: it has more than ``most`` bytes."""

    def copy(self, source: str, path: str) -> None:
        """Have an object under another name too, without sending it again."""

    def delete(self, path: str, version: str | None) -> None:
        """Remove an object, if it is of that version."""

    def list(self, prefix: str) -> Iterator[Object]:
        """All objects whose path begins so."""

    def failure(self, error: Exception) -> Failure:
        """What one of ``errors`` means."""
