"""A store in an object store: files by their content, and a document for each key.

``entries/KEY.json`` holds what ``entry.json`` and ``result.json`` of a folder do, and is written
last, by one conditional call: who reads it finds an entry whose files are there, or none. What is
missing or damaged all the same is a miss with its reason, and is built again::

    entries/KEY.json   latency/KEY.json   files/3f/3f2a…   names/resnet18@fp16/KEY   used/KEY
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from converter.cache.entries import (
    DamagedError,
    Entry,
    LatencyRecord,
    Leftover,
    Stored,
    of_job,
    unwritable,
    with_names,
)
from converter.model import manifest
from converter.model.base import Frozen
from converter.model.job import Job
from converter.model.records import FileInfo, JobResult
from converter.plan import keys
from converter.plan.keys import JobKey
from converter.storage import blobs, side_by_side
from converter.storage.backend import ABSENT, ConflictError, Object
from converter.storage.blobs import FILES, GRACE_S
from converter.storage.location import Location
from converter.storage.objects import TEMPORARY, MismatchError, Objects

ENTRIES, LATENCY, NAMES, USED, ASIDE = "entries/", "latency/", "names/", "used/", "damaged/"
_KEY_LENGTH = 64
_KEY = "[0-9a-f]{64}"
# What the store itself has written below its folders; anything else there is somebody else's.
_OWN = re.compile(
    rf"{FILES}[0-9a-f]{{2}}/{_KEY}|{NAMES}[^/]+/{_KEY}|{USED}{_KEY}|{LATENCY}{_KEY}\.json|"
    rf"{ASIDE}{_KEY}-[0-9a-f]+\.json|{re.escape(TEMPORARY)}.+"
)


class Document(Frozen):
    """An entry, whole.

    Attributes:
        result: the text of ``result.json``, as its hash in the entry has it.
    """

    schema_version: Literal["1"] = "1"
    entry: Entry
    result: str


class RemoteStore:
    """``converter.cache.stores.AnyStore`` for a prefix of an object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._listed: dict[str, Object] = {}  # documents and marks, when they were listed last

    @property
    def where(self) -> Location:
        return self._objects.place

    @property
    def at_a_time(self) -> int:
        # Of file systems that only fsspec knows nobody says that several threads may use one.
        return side_by_side.MOST if self._objects.conditional else 1

    def open(self) -> None:
        """See that entries can be put here.

        Raises:
            RunError: they cannot.
        """
        try:
            self._objects.require_conditional()
        except OSError as error:
            raise unwritable(self.where, error) from error

    def told(self) -> list[str]:
        """What went wrong on the way, and right after all; a sentence."""
        return self._objects.patience.told(self.where)

    def read(self, key: str) -> Stored | None:
        """The entry of a key; whether its files are there is not looked at.

        Raises:
            DamagedError: it is not whole.
            OSError: the store cannot be read.
        """
        found = self._objects.read(_entry(key))
        if found is None:
            return None
        try:
            document = Document.model_validate_json(found.data)
            # One chain holds an entry together, as in a folder.
            digest = hashlib.sha256(document.result.encode()).hexdigest()
            if digest != document.entry.result_sha256:
                raise DamagedError("its result is not what was written")
            if keys.digest(document.entry.parts) != key:
                raise DamagedError("its entry: key mismatch")
            result = JobResult.model_validate_json(document.result)
        except ValidationError as error:
            words = "its document is torn, or of another version of the converter"
            raise DamagedError(words) from error
        return Stored(key, document.entry, result, self._latency(key))

    def _latency(self, key: str) -> LatencyRecord | None:
        found = self._objects.read(f"{LATENCY}{key}.json")
        try:
            return LatencyRecord.model_validate_json(found.data) if found is not None else None
        except ValidationError:  # it is measured again
            return None

    def place(self, stored: Stored, folder: Path) -> None:
        """Put the files of an entry into an empty folder, and note that it was of use.

        Raises:
            DamagedError: a file is not what was put there.
            OSError: a file is gone, or cannot be brought here.
        """
        for part in stored.files:
            self.copy(stored, part, folder)
        try:
            self._objects.write(f"{USED}{stored.key}", b"")
        except PermissionError:  # a store that is only read
            return

    def copy(self, stored: Stored, part: FileInfo, folder: Path) -> None:
        """Put one file of an entry into a folder.

        Raises:
            DamagedError: it is not what was put there.
            OSError: it is gone, or cannot be brought here.
        """
        try:
            self._objects.download(
                blobs.key_of(part.sha256), folder / part.path, part.bytes, part.sha256
            )
        except MismatchError as error:
            raise DamagedError(f"{part.path}: checksum mismatch") from error

    def put(
        self, job: Job, key: JobKey, result: JobResult, folder: Path, references: Path | None
    ) -> None:
        """Keep the published artifact of an ok result, in place of an entry of its key.

        Args:
            folder: what the paths of the artifact start from.
            references: the file of the cases that its variants are verified on.

        Raises:
            OSError: the store cannot be written; nothing appears under the key.
        """
        for part in result.files:
            blobs.keep(self._objects, folder / part.path, part.bytes, part.sha256)
        if references is not None and result.references is not None:
            part = result.references
            blobs.keep(self._objects, references, part.bytes, part.sha256)
        text = manifest.dump(with_names(result))
        document = Document(entry=of_job(job, key, text), result=text)
        self._objects.write(_name(document.entry.label, key.digest), b"")
        self._install(_entry(key.digest), manifest.dump(document).encode())

    def _install(self, key: str, data: bytes) -> None:
        """Write a document; of two runs that build the same, either one's stays."""
        try:
            self._objects.write(key, data, ABSENT)
        except ConflictError:
            there = self._objects.read(key)
            try:
                self._objects.write(key, data, there.version if there is not None else ABSENT)
            except ConflictError:  # another run has put its own there at this moment
                return

    def keep_latency(self, key: str, record: LatencyRecord) -> None:
        """Record what was measured of an entry's file; an entry that is gone is left alone.

        Raises:
            OSError: the store cannot be written.
        """
        if self._objects.about(_entry(key)) is not None:
            self._objects.write(f"{LATENCY}{key}.json", manifest.dump(record).encode())

    def set_aside(self, key: str) -> None:
        """Move a damaged entry out of the way, for whoever wants to know what happened to it.

        Raises:
            OSError: the store cannot be written.
        """
        stored = self._whole(key)
        if self._objects.about(_entry(key)) is None:
            return
        aside = f"{ASIDE}{key}-{uuid.uuid4().hex[:8]}.json"
        self._objects.copy(_entry(key), aside)
        self.drop(key)
        # Under its name is what others would take it for, and not upload again.
        for part in stored.files if stored is not None else ():
            if self._damage_of(part):
                self._objects.delete(blobs.key_of(part.sha256))

    def drop(self, key: str) -> int:
        """Remove an entry; the bytes that are free at once: its files may be those of others too.

        Raises:
            OSError: the store cannot be written.
        """
        there = self._objects.about(_entry(key))
        self._objects.delete(_entry(key))
        for mark in (f"{LATENCY}{key}.json", f"{USED}{key}"):
            self._objects.delete(mark)
        return there.bytes if there is not None else 0

    def held(self) -> list[str]:
        """The keys that have an entry, whole or damaged.

        Raises:
            OSError: the store cannot be read.
        """
        self._listed = {
            each.key: each for below in (ENTRIES, USED) for each in self._objects.list(below)
        }
        names = (_key_of(key) for key in self._listed if key.startswith(ENTRIES))
        return sorted(name for name in names if len(name) == _KEY_LENGTH)

    def named(self, label: str) -> Iterator[tuple[str, Entry]]:
        """The entries of an artifact; those that cannot be read are left out.

        Raises:
            OSError: the store cannot be read.
        """
        below = _name(label, "")
        for each in self._objects.list(below):
            key = each.key.removeprefix(below)
            stored = self._whole(key)
            if stored is not None:
                yield key, stored.entry

    def usage(self, key: str, stored: Stored | None) -> tuple[int, float] | None:
        """Bytes of an entry, and when it was put there or last taken from; ``None``: it is gone."""
        there = self._listed.get(_entry(key))
        if there is None:
            return None
        used = self._listed.get(f"{USED}{key}", there)
        files = sum(part.bytes for part in stored.files) if stored is not None else 0
        return there.bytes + files, max(there.modified, used.modified)

    def damage(self, stored: Stored) -> str:
        """What is wrong with the files of an entry, every byte read; empty when they are whole."""
        for part in stored.files:
            if why := self._damage_of(part):
                return f"{part.path} {why}"
        return ""

    def _damage_of(self, part: FileInfo) -> str:
        try:
            digest = self._objects.sha256(blobs.key_of(part.sha256))
        except FileNotFoundError:
            return "is gone"
        return "" if digest == part.sha256 else "is not the file that was hashed"

    def leftovers(self) -> list[Leftover]:
        """What was set aside as damaged, files that no entry names, what a killed run left.

        Raises:
            OSError: the store cannot be read.
        """
        # The files first: what is uploaded from here on is not among them.
        there = list(self._objects.list())
        # Of both listings: what one of them lacks may have come or gone meanwhile.
        listed = {_key_of(each.key) for each in there if each.key.startswith(ENTRIES)}
        entries = {key: self._whole(key) for key in sorted(listed.union(self.held()))}
        # Nobody knows which files an entry names that cannot be read: then all of them stay.
        is_known = all(entries.values())
        needed = {
            blobs.key_of(p.sha256) for found in entries.values() if found for p in found.files
        }
        old = time.time() - GRACE_S
        return [
            Leftover(each.key, each.bytes)
            for each in there
            if _OWN.fullmatch(each.key)
            and (
                each.key.startswith(ASIDE)
                or (
                    each.modified < old
                    and (
                        each.key.startswith(TEMPORARY)
                        or (each.key.startswith(FILES) and is_known and each.key not in needed)
                        or (
                            each.key.startswith((NAMES, USED, LATENCY))
                            and _key_of(each.key) not in entries
                        )
                    )
                )
            )
        ]

    def remove(self, leftover: Leftover) -> bool:
        """Remove what is left; ``False``: it stays, since somebody has written it again meanwhile.

        Raises:
            OSError: the store cannot be written.
        """
        there = self._objects.about(leftover.name)
        aside = leftover.name.startswith(ASIDE)
        if there is None or not (aside or time.time() - there.modified > GRACE_S):
            return False
        self._objects.delete(leftover.name)
        return True

    def _whole(self, key: str) -> Stored | None:
        try:
            return self.read(key)
        except DamagedError:
            return None


def _entry(key: str) -> str:
    return f"{ENTRIES}{key}.json"


def _name(label: str, key: str) -> str:
    return f"{NAMES}{label.replace('/', '@')}/{key}"


def _key_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".json")
