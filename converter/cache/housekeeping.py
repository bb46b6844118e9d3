"""The store as a whole: what is in it, what is damaged, what can go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from converter.cache.entries import DamagedError, Stored
from converter.cache.stores import AnyStore


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


def items(store: AnyStore) -> Iterator[Item]:
    """Every entry, without looking at the content of its artifact."""
    for key in store.held():
        stored, problem = None, ""
        try:
            stored = store.read(key)
            if stored is None:  # concurrent garbage collection
                continue
        except DamagedError as error:
            problem = str(error)
        if (usage := store.usage(key, stored)) is not None:
            yield Item(key, stored, problem, *usage)


def damage(store: AnyStore, item: Item) -> str:
    """What is wrong with an entry, its artifact hashed again; empty when it is whole."""
    return item.problem if item.stored is None else store.damage(item.stored)


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
