"""One published set: its files with all that goes along, under its name whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.finalize import sbom, statement
from converter.finalize.zoo_index import PublishedSet
from converter.layout import delivery, files
from converter.layout.signing import SIGNATURE, Signer
from converter.model.manifest import Manifest
from converter.model.records import FileInfo
from converter.plugins.layouts import FileSet, Layout

SUMS = "SHA256SUMS"
UNFINISHED = ".new-"
"""What the folder of a set is called that is not complete."""


@dataclass(frozen=True)
class Publisher:
    """What is published, where and how.

    Attributes:
        directory: of the run.
        options: of the layout.
        signer: ``None``: sets are not signed.
    """

    manifest: Manifest
    directory: Path
    target: Path
    layout: Layout
    options: Any
    keep_versions: int
    signer: Signer | None

    def deliver(self, planned: FileSet, past: Sequence[PublishedSet]) -> PublishedSet:
        """Have a set under its name, copied, hashed and forced to the disk.

        Args:
            past: sets of the model that are there already.

        Raises:
            OSError: a file is not what the run recorded, or a symbolic link is in the way.
        """
        key = self._key(planned)
        alike = [each for each in past if (each.name, each.key) == (planned.name, key)]
        for each in alike:
            _refuse_links(self.target, (part.path for part in each.files))
            # Hashed again although the key is that of the content: somebody may have damaged it.
            if all(is_whole(self.target / part.path, part) for part in each.files):
                return each
        version = Path(alike[0].folder).name if alike else self._version(planned, past, key)
        home = Path(planned.name) / version
        _refuse_links(self.target, [str(home)])
        (self.target / planned.name).mkdir(exist_ok=True)
        # Beside the version: a rename works within one file system only.
        staging = Path(tempfile.mkdtemp(dir=self.target / planned.name, prefix=UNFINISHED))
        try:
            made = self._made(planned, version, key, staging)
            _moved(staging, self.target / home, self.target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            with suppress(OSError):  # empty: nothing came of its first version
                (self.target / planned.name).rmdir()
        return PublishedSet(folder=str(home), key=key, files=_under(home, made))

    def _key(self, planned: FileSet) -> str:
        """What is in a set, in short."""
        text = [f"{name} {part.sha256}" for name, part in planned.files.items()]
        more = [self.layout.identity(planned, self.options), planned.first.license]
        more.append(self.signer.fingerprint if self.signer else None)
        # A set that says something else of itself is another one: the index is held against it.
        more.append(statement.of(planned).model_dump_json())
        text += [line for line in more if line]
        # Short, because nothing relies on it: each file in the folder is hashed.
        return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]

    def _version(self, planned: FileSet, past: Iterable[PublishedSet], key: str) -> str:
        if not self.layout.NUMBERED:
            return key
        folder = self.target / planned.name
        there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        names = [*there, *(Path(each.folder).name for each in past if each.name == planned.name)]
        return str(1 + max((int(name) for name in names if name.isdecimal()), default=0))

    def _made(self, planned: FileSet, version: str, key: str, staging: Path) -> list[FileInfo]:
        """Write a whole set into a folder; gives its files, paths relative to that."""
        made = [self._copied(name, part, staging) for name, part in planned.files.items()]
        texts = self.layout.texts(planned, self.manifest, version, self.options)
        made += [_written(staging, name, text) for name, text in texts.items()]
        made.append(_written(staging, sbom.FILE, sbom.render(planned, made, self.manifest, key)))
        sums = "".join(f"{part.sha256}  {part.path}\n" for part in sorted(made, key=_path))
        made.append(_written(staging, SUMS, sums))
        if self.signer is not None:
            self.signer.sign(staging)
            made.append(_recorded(staging, SIGNATURE))
        for folder in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
            # mkdtemp makes folders that only their owner can read.
            folder.chmod(0o755)
            # First the names of the files, then that of the folder.
            files.fsync(folder)
        return made

    def _copied(self, name: str, part: FileInfo, staging: Path) -> FileInfo:
        source, copy = self.directory / part.path, staging / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        # No hard link: onnx (1.23) refuses external data behind one, and it would change with the
        # file of the run.
        shutil.copyfile(source, copy)
        # The copy and not the source: so what was read and what was written are both looked at.
        if not is_whole(copy, part):
            words = "the file is not the one that the run recorded"
            raise OSError(errno.EIO, words, str(source))
        files.fsync(copy)
        return part.model_copy(update={"path": name})


def is_whole(path: Path, part: FileInfo) -> bool:
    """Whether a file is the one that was recorded; every byte is read."""
    return has_size(path, part) and files.sha256(path) == part.sha256


def has_size(path: Path, part: FileInfo) -> bool:
    return path.is_file() and path.stat().st_size == part.bytes


def _path(part: FileInfo) -> str:
    return part.path


def _under(home: Path, made: Iterable[FileInfo]) -> list[FileInfo]:
    return [part.model_copy(update={"path": str(home / part.path)}) for part in made]


def _written(folder: Path, name: str, text: str) -> FileInfo:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return _recorded(folder, name)


def _recorded(folder: Path, name: str) -> FileInfo:
    path = folder / name
    files.fsync(path)
    return FileInfo(path=name, bytes=path.stat().st_size, sha256=files.sha256(path))


def _refuse_links(target: Path, paths: Iterable[str]) -> None:
    """Raise where a symbolic link is at a path below the target, or on the way there."""
    for path in paths:
        for above in reversed(Path(path).parents[:-1]):
            delivery.refuse_link(target / above)
        delivery.refuse_link(target / path)


def _moved(staging: Path, home: Path, target: Path) -> None:
    if home.exists():  # somebody has damaged it: each file is replaced at once
        for source in [path for path in staging.rglob("*") if path.is_file()]:
            name = source.relative_to(staging)
            _refuse_links(target, [str(home.relative_to(target) / name)])
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, home / name)
    else:
        staging.rename(home)
    for folder in [home, *(path for path in home.rglob("*") if path.is_dir())]:
        files.fsync(folder)
    files.fsync(home.parent)
