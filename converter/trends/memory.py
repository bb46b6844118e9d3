"""``history.sqlite`` kept up to date: what the run directories say, and what they once said.

It is a cache of their manifests that outlives them: ``keep`` removes directories, their nights
stay. Whoever asks first takes in what is new on the disk, so that a run that was killed behind its
manifest, or a file that was lost, costs nothing but the nights whose directories are gone.

A night is a run with ``+experiment`` in ``outputs/EXPERIMENT/TIME`` that converted all of its
models, whatever became of them: no point of a sweep, and none that ``select`` has narrowed.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from converter.finalize import history
from converter.layout import runfiles
from converter.layout.runfiles import MANIFEST
from converter.model.manifest import Manifest
from converter.trends import nights
from converter.trends.database import FILE, Database, UnusableError

Result = TypeVar("Result")

# What SQLite opens besides, on its own.
_BESIDE = ("-journal", "-wal", "-shm")
_KINDS = {
    stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe",
}  # fmt: skip


def up_to_date(
    home: Path,
    experiment: str,
    read: Callable[[Database], Result],
    *,
    known: Manifest | None = None,
    known_in: str = "",
    anew: bool = False,
) -> tuple[Result, list[str]]:
    """Take in what is new in the folder of an experiment, and read from what is there then.

    Args:
        known: the manifest of the folder ``known_in``, which needs not be read then.
        anew: set the file aside first.

    Returns:
        What ``read`` gave, and what is to be told.

    Raises:
        OSError: the file cannot be written, is no plain file, or is held by another process for too
            long.
    """
    path = home / FILE
    for ending in ("", *_BESIDE):
        _refuse_other(path.with_name(f"{FILE}{ending}"))
    notes = []
    if anew and path.exists():
        notes.append(_set_aside(path, "it was to be made again"))
    found = (each for _, _, each in _news({}, home, known, known_in))
    # Nothing is left in a folder that is no experiment's.
    kept = path.exists() or any(each and _is_night(each, experiment) for each in found)
    try:
        while True:
            try:
                with Database(path if kept else None) as database:
                    news = _news(database.stamps(), home, known, known_in)
                    _take_in(database, experiment, news)
                    database.keep()
                    return read(database), notes
            except UnusableError as error:
                if len(notes) > 1:  # made twice, and still not right: it is the disk's
                    raise OSError(None, str(error), str(path)) from error
                notes.append(_set_aside(path, str(error)))
    except sqlite3.Error as error:
        raise OSError(None, str(error), str(path)) from error


def _take_in(
    database: Database, experiment: str, news: Iterable[tuple[str, str, Manifest | None]]
) -> None:
    for folder, stamp, found in news:
        if found is not None and _is_night(found, experiment):
            # A manifest that is no use is passed over as one that cannot be read.
            with suppress(ValidationError):
                night = nights.night_of(found, folder)
                database.put(night, [*nights.figures_of(found)])
        database.looked_at(folder, stamp)


def _news(
    stamps: Mapping[str, str], home: Path, known: Manifest | None, known_in: str
) -> Iterator[tuple[str, str, Manifest | None]]:
    """Folders whose manifest is not as it was when it was last looked at."""
    for folder in history.folders(home):
        if any("\ud800" <= letter <= "\udfff" for letter in folder.name):
            continue  # a name that is no text, which SQLite does not keep
        path = folder / MANIFEST
        try:
            found = path.stat()
        except OSError:
            continue  # a sweep, or a run that has not begun
        stamp = f"{found.st_mtime_ns} {found.st_size}"
        if stamps.get(folder.name) == stamp:
            continue
        if known is not None and folder.name == known_in:
            yield folder.name, stamp, known
            continue
        try:
            yield folder.name, stamp, runfiles.read(path)
        except FileNotFoundError:
            continue  # `keep` of another run has just removed it
        except (OSError, ValidationError):  # of a later version of the converter, or damaged
            yield folder.name, stamp, None


def _is_night(found: Manifest, experiment: str) -> bool:
    run = found.run
    return run.experiment == experiment and run.converted and not run.narrowed


def _refuse_other(path: Path) -> None:
    """Refuse what SQLite would follow, wait for, or not understand.

    Raises:
        OSError: something else than a file is there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    kind = _KINDS.get(stat.S_IFMT(mode), "something that is no file")
    if not stat.S_ISREG(mode):
        told = f"{kind} stands where a file belongs, and is left as it is: move it away"
        raise OSError(None, told, str(path))


def _set_aside(path: Path, why: str) -> str:
    """Give the file another name; one that was set aside before makes room."""
    aside = path.with_name(f"{path.stem}.old{path.suffix}")
    path.replace(aside)
    # Of the file that is gone: SQLite would take it for a part of the new one.
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}-journal").unlink()
    return (
        f"{path} was set aside as {aside.name}: {why}. It is made again from the run directories "
        "that are there"
    )
