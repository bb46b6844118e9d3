"""An experiment's nights, read and written as a whole: for the end of a run and for the command."""

from __future__ import annotations

from pathlib import Path

from converter.layout.files import write_atomic
from converter.model.manifest import Manifest
from converter.trends import memory, page, strips
from converter.trends.database import Database
from converter.trends.strips import History


def read(home: Path, most: int = page.NIGHTS, *, anew: bool = False) -> tuple[History, list[str]]:
    """The last nights, with what is new on the disk; see ``memory.up_to_date``.

    Raises:
        OSError: the file cannot be read or written.
    """

    def found(database: Database) -> History:
        history = _nights(database, home, most)
        return history.of(strips.strips(history, database.strips(history.nights)))

    return memory.up_to_date(home, _experiment(home), found, anew=anew)


def write(home: Path, known: Manifest | None = None, known_in: str = "") -> list[str]:
    """Write ``history.html``; gives what is to be told.

    Args:
        known: the manifest of the folder ``known_in``, which needs not be read then.

    Raises:
        OSError: it, or ``history.sqlite``, cannot be written.
    """

    def rendered(database: Database) -> str:
        history = _nights(database, home, page.NIGHTS)
        found = strips.strips(history, database.strips(history.nights))
        # One strip at a time: those of ten thousand models are half a gigabyte.
        return page.render(history, found, home) if history.nights else ""

    text, notes = memory.up_to_date(
        home, _experiment(home), rendered, known=known, known_in=known_in
    )
    if text:
        # It can be made again: the run need not wait for the disk.
        write_atomic(home / page.FILE, text, durable=False)
    return notes


def _nights(database: Database, home: Path, most: int) -> History:
    return strips.history(_experiment(home), database.number(), database.nights(most))


def _experiment(home: Path) -> str:
    return home.resolve().name
