"""A model of a published folder or URL, copied and verified: it appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from converter.finalize import zoo_index
from converter.finalize.delivering import SUMS
from converter.finalize.zoo_index import INDEX, Entry, Index
from converter.layout import files
from converter.model.artifact import ONNX
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.records import FileInfo, TensorInfo
from converter.model.wording import did_you_mean
from converter.storage import objects
from converter.storage.backend import TooLargeError
from converter.storage.location import Location, Url

CARD = "README.md"
_PIECE = 1 << 20


class DamagedError(Exception):
    """A file is not what the index says, in words."""


@dataclass(frozen=True)
class Fetched:
    """What was copied.

    Attributes:
        files: their paths here, the one to open first at the beginning.
        inputs: of the model.
        notes: what the index says of it that a user should know; a sentence each.
    """

    files: list[Path]
    inputs: list[TensorInfo]
    notes: list[str]


def fetch(place: Location, name: str, folder: Path) -> Fetched:
    """Copy the files of an artifact into a folder, and hash each copy.

    Args:
        name: a model, or ``NAME/ARTIFACT``.
        folder: a new or an empty one.

    Raises:
        ConfigError: nothing is published there, it has no such model, or the folder is in use.
        DamagedError: a file is not what the index says.
        RunError: something cannot be read or written.
    """
    try:
        index, bring = _opened(place)
    except OSError as error:
        message = f"{error.filename or place}: {error.strerror or error}."
        raise ConfigError(Problem("fetch", message)) from error
    entry, inputs, parts = _found(index, name, place)
    _refuse_used(folder)
    target = folder.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside it: a rename is whole, a copy from another disk is not.
        with tempfile.TemporaryDirectory(prefix=".converter-", dir=target.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            for part in parts:
                _bring(bring, part, made / Path(part.path).name)
            sums = "".join(f"{part.sha256}  {Path(part.path).name}\n" for part in parts)
            (made / SUMS).write_text(sums, encoding="utf-8")
            for path in made.iterdir():
                files.fsync(path)
            os.rename(made, target)
            files.fsync(target.parent)
    except OSError as error:
        where = error.filename or folder
        raise RunError(f"{where}: {error.strerror or error}") from error
    names = [Path(part.path).name for part in parts]
    return Fetched([folder / each for each in [*names, SUMS]], inputs, _notes(entry))


def names(index: Index) -> list[str]:
    """What can be fetched."""
    return [
        word
        for name, entry in index.models.items()
        for word in (name, *(f"{name}/{id_}" for id_ in entry.variants))
    ]


def _opened(place: Location) -> tuple[Index, Callable[[FileInfo, Path], None]]:
    """The index of a place, and how a file of it comes here: no more than its size."""
    if isinstance(place, Url):
        there = objects.opened(place)
        data = there.read(INDEX)
        index = zoo_index.parsed(data.data, place / INDEX) if data is not None else Index()

        def download(part: FileInfo, target: Path) -> None:
            there.fetch(part.path, target, part.bytes)

        return _published(index, place), download
    folder = place.absolute()

    def copy(part: FileInfo, target: Path) -> None:
        for above in reversed(Path(part.path).parents[:-1]):
            if (folder / above).is_symlink():
                raise DamagedError(f"{above} is a symbolic link")
        with files.open_plain(folder / part.path) as source, target.open("xb") as made:
            # Before the first byte: whoever can change a file can make it larger than any disk.
            if os.fstat(source.fileno()).st_size != part.bytes:
                raise TooLargeError
            _copy(source, made, part.bytes)

    return _published(zoo_index.read(folder), place), copy


def _copy(source: IO[bytes], made: IO[bytes], size: int) -> None:
    """Copy so many bytes: a file may grow while it is read."""
    while size and (piece := source.read(min(size, _PIECE))):
        made.write(piece)
        size -= len(piece)


def _published(index: Index, place: Location) -> Index:
    if not index.models:
        hint = "Name a folder or a URL of `publish_to`."
        raise ConfigError(Problem("fetch", f"{place} has no {INDEX} with models.", hint))
    return index


def _found(
    index: Index, name: str, place: Location
) -> tuple[Entry, list[TensorInfo], Sequence[FileInfo]]:
    """The entry of a model, and inputs and files of what is asked for."""
    model, slash, artifact = name.partition("/")
    if not slash:
        artifact = ONNX
    entry = index.models.get(model)
    if entry is None or (artifact != ONNX and artifact not in entry.variants):
        hint = did_you_mean(name, names(index))
        raise ConfigError(Problem("fetch", f"{place} has no {name!r}.", hint))
    inputs, parts = (
        entry.inputs,
        [FileInfo(path=entry.path, bytes=entry.bytes, sha256=entry.sha256)],
    )
    parts += entry.external_data
    if artifact != ONNX:
        inputs, parts = entry.variants[artifact].inputs or inputs, entry.variants[artifact].files
    cards = (each.recorded(CARD) for each in entry.sets if parts[0] in each.files)
    parts = [*parts, *(card for card in cards if card is not None)]
    for name, count in Counter([SUMS, *(Path(part.path).name for part in parts)]).items():
        if count > 1:
            raise DamagedError(f"{INDEX} is damaged: two of its files would be called {name} here")
    return entry, inputs, parts


def _bring(bring: Callable[[FileInfo, Path], None], part: FileInfo, target: Path) -> None:
    try:
        bring(part, target)
        # The copy and not the source: so what was read and what was written are both looked at.
        is_right = files.is_whole(target, part.bytes, part.sha256)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedError(f"{part.path} is missing") from error
    except files.NotPlainError as error:
        raise DamagedError(f"{part.path} {error.strerror}") from error
    except TooLargeError:
        is_right = False
    if not is_right:
        raise DamagedError(f"{part.path} is not what {INDEX} says ({part.bytes} bytes, SHA-256)")


def _notes(entry: Entry) -> list[str]:
    notes = []
    if entry.retired:
        notes.append(f"it is retired since {(entry.retired_since or '')[:10]}: no run makes it now")
    if entry.failing_since:
        since = entry.failing_since[:10]
        notes.append(f"it is the last good file: newer attempts fail since {since}")
    return notes


def _refuse_used(folder: Path) -> None:
    hint = "Name a new or an empty folder with -o DIR."
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(Problem("fetch", f"{folder} is in the way.", hint))
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(Problem("fetch", f"{folder} is not empty.", hint))
