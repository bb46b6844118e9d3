"""What Python files import, by their content, kept from run to run beside the store.

Parsing 20,000 files takes half a minute, reading them half a second. What a file imports follows
from its bytes alone, so that nothing here can be out of date: an entry is found by their hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.layout.files import write_atomic

FOLDER = ".imports"
"""In the folder of the store, which takes it for no entry; it may be deleted at any time."""

Imports = Sequence[str]
"""Dotted names; one of a relative import begins with its dots: ``..near.name``."""
# Fewer files are parsed again in less time than it takes to write.
_WORTH = 100
# Of runs that use other models of the same folders; beyond it only what this run needed is kept.
_SPARE = 10_000


class ImportIndex:
    """Args: folder: of the store; ``None``: nothing is kept. roots: that code is imported from."""

    def __init__(self, folder: Path | None, roots: Sequence[str] = ()) -> None:
        # Another Python may parse other files.
        said = "\n".join([f"{sys.version_info[:2]}", *roots])
        name = hashlib.sha256(said.encode()).hexdigest()[:32]
        self._path = folder / FOLDER / f"{name}.json" if folder is not None else None
        self._known: dict[str, Imports] | None = None
        self._used: set[str] = set()
        self._new = 0

    def get(self, digest: str) -> Imports | None:
        """What a file of that hash imports; ``None``: nobody has parsed it yet."""
        self._used.add(digest)
        return self._read().get(digest)

    def put(self, digest: str, found: Imports) -> None:
        self._read()[digest] = found
        self._new += 1

    def save(self) -> None:
        """Write what is new, where that is worth it; a place that cannot be written is no harm."""
        if self._path is None or self._new < _WORTH:
            return
        kept = self._read()
        if len(kept) > 2 * len(self._used) + _SPARE:
            kept = {digest: kept[digest] for digest in self._used}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            # Of two runs that write at once one is lost, and parsed again.
            write_atomic(self._path, json.dumps(kept, separators=(",", ":")))
            self._new = 0

    def _read(self) -> dict[str, Imports]:
        if self._known is None:
            self._known = {}
            with contextlib.suppress(OSError, ValueError, RecursionError):
                found = json.loads(self._path.read_bytes()) if self._path is not None else {}
                # What is damaged is parsed again. One that lists other imports would go unnoticed:
                # who can write here can write entries of the store as well.
                items = found.items() if isinstance(found, dict) else ()
                self._known = {digest: names for digest, names in items if _is_one(names)}
        return self._known


def _is_one(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(name, str) for name in found)
