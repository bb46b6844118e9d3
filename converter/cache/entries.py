"""The store: a folder for each key, with the files of an artifact and the result that proved them.

``<store>/<key>/`` holds ``entry.json``, ``result.json``, the ``.onnx`` and its external data. A
folder appears under its key when it is whole, and only then: several runs may share a store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from converter.layout import files
from converter.model import manifest
from converter.model.artifact import ONNX, label
from converter.model.base import Frozen
from converter.model.errors import ConverterError, RunError
from converter.model.job import Job
from converter.model.records import FileInfo, JobResult, Latency, StageRecord, VerifyRecord
from converter.plan import keys
from converter.plan.keys import JobKey, Parts
from converter.storage.location import Location

ENTRY = "entry.json"
RESULT = "result.json"
# In no hash: it changes while the entry stays, and one that is torn only means to measure again.
LATENCY = "latency.json"
DAMAGED = ".damaged-"
TEMPORARY = ".tmp-"
_CLONE = 0x40049409  # FICLONE: a copy that shares its blocks until one is written to
_KEY_LENGTH = 64
_ABANDONED_S = 3600.0  # nothing takes an hour to put an entry there


class DamagedError(ConverterError):
    """An entry is not what was put there."""


class Entry(Frozen):
    """What an entry was built from.

    Attributes:
        trust: what ``CONVERTER_TRUST`` listed when its model ran.
        parts: they hash to the key.
        result_sha256: of ``result.json``, which has the hashes of the artifact's files.
    """

    schema_version: Literal["1"] = "1"
    name: str
    artifact: str = ONNX
    source: str
    created_at: str
    trust: list[str]
    parts: Parts
    result_sha256: str

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.name, self.artifact)


class LatencyRecord(Frozen):
    """The latency of an entry's file, as it was measured last.

    Attributes:
        basis: what the figures depend on besides the file: machine, versions, what was asked for.
        stage: the record of the stage `benchmark`.
        verify: with what the benchmark proved on its providers.
    """

    basis: Parts
    latency: list[Latency]
    stage: StageRecord
    verify: VerifyRecord


@dataclass(frozen=True)
class Stored:
    """A whole entry; the paths in its result are names in its folder."""

    key: str
    entry: Entry
    result: JobResult
    latency: LatencyRecord | None

    @property
    def files(self) -> list[FileInfo]:
        return [*self.result.files, *([self.result.references] if self.result.references else [])]


@dataclass(frozen=True)
class Leftover:
    """Something in a store that is no entry, and can go."""

    name: str
    bytes: int


class Store:
    """Args: path: absolute; made when something is put there."""

    at_a_time = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[tuple[str, Entry]]] | None = None

    @property
    def where(self) -> Path:
        return self.path

    def told(self) -> list[str]:
        """Nothing goes wrong on the way to a folder."""
        return []

    def open(self) -> None:
        """See that entries can be put here.

        Raises:
            RunError: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Tried, since permission bits say nothing of a read-only file system or a full disk.
            os.rmdir(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.path))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def read(self, key: str) -> Stored | None:
        """The entry of a key; its files have the right size, their content is not looked at.

        Raises:
            DamagedError: it is not whole.
        """
        folder = self.path / key
        if not folder.is_dir():
            return None
        try:
            entry = Entry.model_validate_json((folder / ENTRY).read_bytes())
            # One chain holds an entry together: the key is the hash of the parts, the entry has the
            # hash of the result, and the result those of the files.
            text = (folder / RESULT).read_bytes()
            if hashlib.sha256(text).hexdigest() != entry.result_sha256:
                raise DamagedError(f"{RESULT} is not what was written")
            # A folder that was renamed, or another way to make keys.
            if keys.digest(entry.parts) != key:
                raise DamagedError(f"{ENTRY}: key mismatch")
            result = JobResult.model_validate_json(text)
            stored = Stored(key, entry, result, _latency(folder))
            for part in stored.files:
                # Whoever can write here can make an entry that is whole by its own hashes.
                if Path(part.path).is_absolute() or ".." in Path(part.path).parts:
                    raise DamagedError(f"{part.path} leads out of the folder that it counts from")
                # The content is hashed once it is in the run directory.
                if (folder / part.path).lstat().st_size != part.bytes:
                    raise DamagedError(f"{part.path}: size mismatch, expected {part.bytes} bytes")
        except (OSError, ValidationError) as error:
            # pydantic's message has a line for each field; the reason of a miss is one line in a
            # row.
            raise DamagedError(" ".join(str(error).split())[:200]) from error
        return stored

    def place(self, stored: Stored, folder: Path) -> None:
        """Put the files of an entry into an empty folder, and note that it was of use.

        A self-contained file is a hard link where it can be; external data never is, because
        onnx refuses it.

        Raises:
            OSError: a file is gone, or the folder cannot be written.
        """
        alone = len(stored.result.files) == 1
        for part in stored.files:
            _put(self.path / stored.key / part.path, folder / part.path, link=alone)
        with contextlib.suppress(PermissionError):  # another user's entry
            # `store gc` goes by this time; the artifact's own belongs to all runs that link it.
            os.utime(self.path / stored.key / ENTRY)

    def copy(self, stored: Stored, part: FileInfo, folder: Path) -> None:
        """Put one file of an entry into a folder.

        Raises:
            OSError: it is gone, or the folder cannot be written.
        """
        # A run that was killed may have put it there, and `_put` never writes over a file.
        (folder / part.path).unlink(missing_ok=True)
        _put(self.path / stored.key / part.path, folder / part.path, link=True)

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
        # In the store itself: a rename works within one file system only.
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.path))
        try:
            written: list[Path] = []
            alone = len(result.files) == 1
            parts = [(folder / part.path, alone) for part in result.files]
            # References are no file of an ONNX model: nothing that reads them refuses a link.
            for path, link in [*parts, *([(references, True)] if references else [])]:
                kept = temporary / path.name
                _put(path, kept, link=link)
                # It may be one file with that of the run, where nobody must change the store.
                kept.chmod(0o444)
                written.append(kept)
            text = manifest.dump(with_names(result))
            entry = of_job(job, key, text)
            files.write_new(temporary / RESULT, text)
            files.write_new(temporary / ENTRY, manifest.dump(entry))
            # mkdtemp makes folders that only their owner can read, and users share a store.
            temporary.chmod(0o755)
            # All of it before it has its name. Texts first: with each of them a journalling file
            # system writes what it has to say of all others, for which is then nothing to wait.
            for path in (temporary / RESULT, temporary / ENTRY, *written, temporary):
                files.fsync(path)
            self._install(temporary, self.path / key.digest)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _install(self, temporary: Path, place: Path) -> None:
        """Give a whole entry its name; of two runs that build the same, the later one's stays."""
        while True:
            try:
                # Only onto nothing or an empty folder: an entry that is there is moved away, and
                # another run may put its own in between.
                temporary.rename(place)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._set_aside(place, TEMPORARY)
            else:
                # The store is not forced to the disk: after a power cut the entry may be missing,
                # which is a miss.
                return

    def keep_latency(self, key: str, record: LatencyRecord) -> None:
        """Record what was measured of an entry's file; an entry that is gone is left alone.

        Raises:
            OSError: the store cannot be written.
        """
        if (self.path / key).is_dir():
            files.write_atomic(self.path / key / LATENCY, manifest.dump(record))

    def set_aside(self, key: str) -> None:
        """Move a damaged entry out of the way, for whoever wants to know what happened to it.

        Raises:
            OSError: the store cannot be written.
        """
        self._set_aside(self.path / key, DAMAGED)

    def drop(self, key: str) -> int:
        """Remove an entry; its bytes: a file that a run has as a hard link stays until that goes.

        Raises:
            OSError: the store cannot be written.
        """
        freed = _size(self.path / key)
        # Under another name first: whoever reads the store meanwhile must not find half an entry.
        self._set_aside(self.path / key, TEMPORARY)
        return freed

    def _set_aside(self, place: Path, prefix: str) -> None:
        # mkdtemp gives a name that nobody else has, and a rename may replace an empty folder.
        aside = Path(tempfile.mkdtemp(prefix=f"{prefix}{place.name[:12]}-", dir=self.path))
        try:
            place.rename(aside)  # over the empty folder
        except FileNotFoundError:  # another run was faster
            aside.rmdir()
        else:
            if prefix == TEMPORARY:
                shutil.rmtree(aside, ignore_errors=True)

    def held(self) -> list[str]:
        """The keys that have an entry, whole or damaged."""
        if not self.path.is_dir():
            return []
        # By length, since what is temporary or set aside has a shorter name.
        return sorted(p.name for p in self.path.iterdir() if len(p.name) == _KEY_LENGTH)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """What the entries were built from; those that cannot be read are left out."""
        for key in self.held():
            try:
                yield key, Entry.model_validate_json((self.path / key / ENTRY).read_bytes())
            except (OSError, ValidationError):
                continue

    def named(self, label: str) -> Iterator[tuple[str, Entry]]:
        """The entries of an artifact; those that cannot be read are left out."""
        if self._known is None:
            # Read at the first question, and once: a run whose models are all in the store reads no
            # list of entries.
            self._known = {}
            for key, entry in self.entries():
                self._known.setdefault(entry.label, []).append((key, entry))
        yield from self._known.get(label, [])

    def usage(self, key: str, stored: Stored | None) -> tuple[int, float] | None:
        """Bytes of an entry, and when it was put there or last taken from; ``None``: it is gone.

        A hard link to a file of a run counts in full.
        """
        folder = self.path / key
        try:
            # `place` touches this file at each use; a damaged entry may lack it.
            used = (folder / ENTRY if stored else folder).stat().st_mtime
            return _size(folder), used
        except FileNotFoundError:
            return None

    def damage(self, stored: Stored) -> str:
        """What is wrong with the files of an entry, hashed again; empty when they are whole."""
        for part in stored.files:
            try:
                # `read` looks at sizes only, which a flipped bit leaves as they are.
                if files.sha256(self.path / stored.key / part.path) != part.sha256:
                    return f"{part.path} is not the file that was hashed"
            except OSError as error:
                return f"{part.path}: {error.strerror}"
        return ""

    def leftovers(self) -> list[Leftover]:
        """What was set aside as damaged, and what a killed run left half written."""
        if not self.path.is_dir():
            return []
        found = []
        for path in sorted(self.path.iterdir()):
            try:
                age = time.time() - path.stat().st_mtime
            except FileNotFoundError:  # another run is done with it
                continue
            abandoned = path.name.startswith(TEMPORARY) and age > _ABANDONED_S
            if abandoned or path.name.startswith(DAMAGED):
                found.append(Leftover(path.name, _size(path)))
        return found

    def remove(self, leftover: Leftover) -> bool:
        """Remove what is left; whether it went.

        Raises:
            OSError: it cannot be removed.
        """
        shutil.rmtree(self.path / leftover.name)
        return True


def unwritable(where: Location, error: OSError) -> RunError:
    """What to say of a store before a run that could put nothing there."""
    return RunError(
        f"the store {where} cannot be written: {error.strerror or error}. "
        "Choose another with store.path=DIR, or none with store.use=false."
    )


def of_job(job: Job, key: JobKey, result: str) -> Entry:
    """The entry of a job; result: the text of its result."""
    return Entry(
        name=job.name,
        artifact=job.artifact,
        source=str(job.source),
        created_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        trust=job.trust,
        parts=key.parts,
        result_sha256=hashlib.sha256(result.encode()).hexdigest(),
    )


def with_names(result: JobResult) -> JobResult:
    """The result with names in place of paths, as a job reports it; latency has its own file.

    Where and when it was made is of the run that made it.
    """
    named = [part.model_copy(update={"path": Path(part.path).name}) for part in result.files]
    of_the_run: dict[str, object] = {"latency": [], "spent": None, "node": None, "other_tries": []}
    return result.model_copy(update={"files": named, **of_the_run})


def _latency(folder: Path) -> LatencyRecord | None:
    try:
        return LatencyRecord.model_validate_json((folder / LATENCY).read_bytes())
    except (OSError, ValidationError):  # it is measured again
        return None


def _put(source: Path, target: Path, *, link: bool) -> None:
    """A hard link, else a copy that shares its blocks, else a copy."""
    # Whoever owns a file can change it, whatever its mode: behind a link, ours too.
    if link and source.lstat().st_uid == os.geteuid():
        try:
            # A symbolic link stays one: `delivery._check` then sees that it is no plain file.
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            # Another file system, one without links or a file of somebody else's, too many links.
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
        else:
            return
    # `x`: what somebody has planted at the target is not written through.
    with source.open("rb") as old, target.open("xb") as new:
        try:
            # Btrfs and XFS take no time and no room for it; ext4 refuses.
            fcntl.ioctl(new.fileno(), _CLONE, old.fileno())
        except OSError:  # another file system, or one without shared blocks
            shutil.copyfileobj(old, new, 1 << 20)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
