"""A folder that is published to: versions are renamed into their place, the index is replaced."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from converter.finalize import links, sbom, zoo_index
from converter.finalize.beside import Beside, is_unfinished, matches
from converter.finalize.zoo_index import INDEX, PAGE, Index
from converter.layout import delivery, files
from converter.layout.files import write_atomic
from converter.model.errors import RunError
from converter.model.manifest import dump as dumped
from converter.model.records import FileInfo

UNFINISHED = ".new-"
"""What the folder of a set is called that is not complete."""
# Beside unfinished versions only what has such a name is removed: the rest is the user's.
VERSION = re.compile(r"[0-9a-f]{16}")
NUMBER = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True)
class Folder:
    """``converter.finalize.target.Target`` for a folder of this machine; place: absolute."""

    place: Path

    def told(self) -> list[str]:
        return []

    def prepare(self) -> None:
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            # By writing: the permission bits say nothing of a read-only file system, or of root.
            with tempfile.TemporaryFile(dir=self.place):
                pass
        except OSError as error:
            what = f"publish_to: {error.strerror or error}: {error.filename or self.place}"
            raise RunError(
                f"{what}. Check the folder and its owner, or name another one"
            ) from error

    def above(self) -> Iterator[Path]:
        for above in self.place.resolve().parents:
            with suppress(OSError):  # an index.json of something else
                if zoo_index.read(above).models:
                    yield above

    def below(self, index: Index) -> Iterator[Path]:
        for folder, folders, names in os.walk(self.place):
            here = Path(folder)
            if here == self.place:  # what lies in those is known
                folders[:] = [name for name in folders if name not in index.names]
            elif INDEX in names:
                with suppress(OSError):  # an index.json of something else
                    if zoo_index.read(here).models:
                        yield here

    def read(self) -> Index:
        return zoo_index.read(self.place)

    def change(self, index: Index, alter: Callable[[Index], Index]) -> Index:
        altered = alter(index)
        write_atomic(self.place / INDEX, dumped(altered))
        # The versions that the old index named go next: it must not come back after a power
        # failure.
        files.fsync(self.place)
        return altered

    def refuse_links(self, paths: Iterable[str]) -> None:
        for path in paths:
            for above in reversed(Path(path).parents[:-1]):
                delivery.refuse_link(self.place / above)
            delivery.refuse_link(self.place / path)

    def exists(self, path: str) -> bool:
        return (self.place / path).exists()

    def has_size(self, part: FileInfo) -> bool:
        return files.has_size(self.place / part.path, part.bytes)

    def is_whole(self, part: FileInfo) -> bool:
        return files.is_whole(self.place / part.path, part.bytes, part.sha256)

    def versions(self, name: str) -> list[str]:
        folder = self.place / name
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        (self.place / name).mkdir(exist_ok=True)
        # Beside the version: a rename works within one file system only.
        staging = Path(tempfile.mkdtemp(dir=self.place / name, prefix=UNFINISHED))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            with suppress(OSError):  # empty: nothing came of its first version
                (self.place / name).rmdir()

    def install(self, staging: Path, home: Path, parts: Sequence[FileInfo]) -> None:
        for folder in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
            # mkdtemp makes folders that only their owner can read.
            folder.chmod(0o755)
            # First the names of the files, then that of the folder.
            files.fsync(folder)
        there = self.place / home
        if there.exists():  # somebody has damaged it: each file is replaced at once
            for source in [path for path in staging.rglob("*") if path.is_file()]:
                name = source.relative_to(staging)
                self.refuse_links([str(home / name)])
                (there / name).parent.mkdir(parents=True, exist_ok=True)
                files.replace(source, there / name)
        else:
            staging.rename(there)
        for folder in [there, *(path for path in there.rglob("*") if path.is_dir())]:
            files.fsync(folder)
        files.fsync(there.parent)

    def put_beside(self, files: Beside) -> None:
        delivery.refuse_link(self.place / files.folder)
        links.put(self.place, files)

    def remove_beside(self, folder: str, kept: Collection[str], patterns: Sequence[str]) -> None:
        home = self.place / folder
        delivery.refuse_link(home)
        for path in home.iterdir() if home.is_dir() else ():
            is_file = path.is_symlink() or path.is_file()
            if is_file and f"{folder}/{path.name}" not in kept and matches(path.name, patterns):
                path.unlink()

    def page(self, name: str) -> str | None:
        try:
            return files.read_plain(self.place / name).decode(errors="replace")
        except FileNotFoundError:
            return None

    def put_page(self, name: str, text: str) -> None:
        # A power cut may cost it: the next run writes it again.
        write_atomic(self.place / name, text, durable=False)

    def clear(self, index: Index, patterns: Sequence[str]) -> None:
        wanted, own = index.homes, index.names
        for name in (INDEX, PAGE):
            for path in self.place.glob(f".{name}.*"):  # of `write_atomic`
                path.unlink()
        for model in self.place.iterdir():
            # What a link leads to is not ours to remove.
            if model.is_symlink() or not model.is_dir():
                continue
            if model.name in own:
                self._clear_beside(model, wanted, patterns)
            for version in model.iterdir():
                ours = version.name.startswith(UNFINISHED) or (
                    model.name in own
                    and _is_version(version)
                    and version.relative_to(self.place) not in wanted
                )
                if ours and version.is_dir() and not version.is_symlink():
                    _remove(version)
            if model.name in own and not any(home.parts[0] == model.name for home in wanted):
                with suppress(OSError):  # what somebody else has put there stays
                    model.rmdir()

    def _clear_beside(self, model: Path, homes: Collection[Path], patterns: Sequence[str]) -> None:
        for path in model.iterdir():
            # What leads to a version goes before it, whatever became of the new one.
            leads_nowhere = path.is_symlink() and not links.leads_to_one_of(path, homes, self.place)
            if leads_nowhere or (path.is_file() and is_unfinished(path.name, patterns)):
                path.unlink()


def _remove(version: Path) -> None:
    # Half of a version must not be taken for one, nor for somebody else's.
    if not version.name.startswith(UNFINISHED):
        version = version.rename(version.with_name(f"{UNFINISHED}{version.name}-{os.getpid()}"))
    shutil.rmtree(version)


def _is_version(path: Path) -> bool:
    # Anybody may call a folder 7: ours has what every set has.
    numbered = NUMBER.fullmatch(path.name) and (path / sbom.FILE).is_file()
    return bool(VERSION.fullmatch(path.name) or numbered)
