"""One published set: its files with all that goes along, under its name whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.finalize import sbom, statement
from converter.finalize.target import Target
from converter.finalize.zoo_index import PublishedSet
from converter.layout import files
from converter.layout.signing import SIGNATURE, Signer
from converter.model.manifest import Manifest
from converter.model.records import FileInfo
from converter.plugins.layouts import FileSet, Layout

SUMS = "SHA256SUMS"


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
    target: Target
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
            self.target.refuse_links(part.path for part in each.files)
            # Looked at although the key is that of the content: somebody may have damaged it.
            if all(self.target.is_whole(part) for part in each.files):
                return each
        version = Path(alike[0].folder).name if alike else self._version(planned, past, key)
        home = Path(planned.name) / version
        self.target.refuse_links([str(home)])
        with self.target.staging(planned.name) as staging:
            made = self._made(planned, version, key, staging)
            self.target.install(staging, home, made)
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
        there = self.target.versions(planned.name)
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
        return made

    def _copied(self, name: str, part: FileInfo, staging: Path) -> FileInfo:
        source, copy = self.directory / part.path, staging / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        # No hard link: onnx (1.23) refuses external data behind one, and it would change with the
        # file of the run.
        shutil.copyfile(source, copy)
        # The copy and not the source: so what was read and what was written are both looked at.
        if not files.is_whole(copy, part.bytes, part.sha256):
            words = "the file is not the one that the run recorded"
            raise OSError(errno.EIO, words, str(source))
        files.fsync(copy)
        return part.model_copy(update={"path": name})


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
