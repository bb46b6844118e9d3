"""The store as a whole: what is in it, what is damaged, what can go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converter.cache.entries import DAMAGED, ENTRY, TEMPORARY, DamagedError, Store, Stored
from converter.layout import files

_ABANDONED_S = 3600.0  # nothing takes an hour to put an entry there


@dataclass(frozen=True)
class Item:
    """One folder of the store.

    Attributes:
        stored: ``None`` when the entry is damaged.
        problem: what is wrong with it.
        bytes: of all its files; a hard link to a file of a run counts in full.
        used_at: seconds since the epoch: when it was put there or last taken from.
    """

    key: str
    stored: Stored | None
    problem: str
    bytes: int
    used_at: float


def items(store: Store) -> Iterator[Item]:
    """Every entry, without looking at the content of its artifact."""
    for key in store.held():
        folder = store.path / key
        stored, problem = None, ""
        try:
            stored = store.read(key)
            if stored is None:  # concurrent garbage collection
                continue
        except DamagedError as error:
            problem = str(error)
        try:
            # `Store.place` touches this file at each use; a damaged entry may lack it.
            used = (folder / ENTRY if stored else folder).stat().st_mtime
            yield Item(key, stored, problem, size(folder), used)
        except FileNotFoundError:
            continue


def damage(item: Item) -> str:
    """What is wrong with an entry, its artifact hashed again; empty when it is whole."""
    if item.stored is None:
        return item.problem
    for part in item.stored.files:
        try:
            # `Store.read` looks at sizes only, which a flipped bit leaves as they are.
            if files.sha256(item.stored.folder / part.path) != part.sha256:
                return f"{part.path} is not the file that was hashed"
        except OSError as error:
            return f"{part.path}: {error.strerror}"
    return ""


def leftovers(store: Store) -> list[Path]:
    """What was set aside as damaged, and what a killed run left half written."""
    if not store.path.is_dir():
        return []
    found = []
    for path in sorted(store.path.iterdir()):
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:  # another run is done with it
            continue
        abandoned = path.name.startswith(TEMPORARY) and age > _ABANDONED_S
        if abandoned or path.name.startswith(DAMAGED):
            found.append(path)
    return found


def superfluous(found: list[Item], max_age_s: float | None, max_bytes: int | None) -> list[Item]:
    """The entries beyond the limits: those that were longest of no use go first."""
    now = time.time()
    # From the newest on: what is most likely to be used again gets its room first.
    newest = sorted(found, key=lambda item: item.used_at, reverse=True)
    gone, total = [], 0
    for item in newest:
        total += item.bytes
        too_old = max_age_s is not None and now - item.used_at > max_age_s
        too_much = max_bytes is not None and total > max_bytes
        if too_old or too_much or item.stored is None:
            gone.append(item)
            # Its room is free for older ones: a single giant must not cost them their place.
            total -= item.bytes
    return gone


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
