"""A store, wherever it is: a folder, or a prefix of an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from converter.cache.entries import Entry, LatencyRecord, Leftover, Store, Stored
from converter.cache.remote import RemoteStore
from converter.model.job import Job
from converter.model.records import FileInfo, JobResult
from converter.plan.keys import JobKey
from converter.storage import objects
from converter.storage.location import Location, Url


class AnyStore(Protocol):
    """What runs and `store` do with a store; ``Store`` and ``RemoteStore`` say how."""

    @property
    def at_a_time(self) -> int:
        """How many threads may read there at once; 1: more would save no time."""

    @property
    def where(self) -> Location:
        """Where it is."""

    def open(self) -> None:
        """See that entries can be put here."""

    def told(self) -> list[str]:
        """What went wrong on the way, and right after all."""

    def read(self, key: str) -> Stored | None:
        """The entry of a key."""

    def place(self, stored: Stored, folder: Path) -> None:
        """Put the files of an entry into an empty folder, and note that it was of use."""

    def copy(self, stored: Stored, part: FileInfo, folder: Path) -> None:
        """Put one file of an entry into a folder."""

    def put(
        self, job: Job, key: JobKey, result: JobResult, folder: Path, references: Path | None
    ) -> None:
        """Keep the published artifact of an ok result."""

    def keep_latency(self, key: str, record: LatencyRecord) -> None:
        """Record what was measured of an entry's file."""

    def set_aside(self, key: str) -> None:
        """Move a damaged entry out of the way."""

    def drop(self, key: str) -> int:
        """Remove an entry; at most so many bytes are free."""

    def held(self) -> list[str]:
        """The keys that have an entry, whole or damaged."""

    def named(self, label: str) -> Iterator[tuple[str, Entry]]:
        """The entries of an artifact."""

    def usage(self, key: str, stored: Stored | None) -> tuple[int, float] | None:
        """Bytes of an entry, and when it was put there or last taken from."""

    def damage(self, stored: Stored) -> str:
        """What is wrong with the files of an entry, hashed again."""

    def leftovers(self) -> list[Leftover]:
        """What was set aside as damaged, and what a killed run left."""

    def remove(self, leftover: Leftover) -> bool:
        """Remove what is left; ``False``: it stays, since somebody has written it again."""


def opened(place: Location) -> AnyStore:
    """The store at a place; nothing is written.

    Raises:
        ConfigError: what opens such URLs is not installed.
    """
    if isinstance(place, Url):
        return RemoteStore(objects.opened(place))
    return Store(place)
