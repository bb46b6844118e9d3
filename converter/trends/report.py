"""An experiment's nights, read and written as a whole: for the end of a run and for the command."""

from __future__ import annotations

from pathlib import Path

from converter.model.manifest import Manifest, write_atomic
from converter.trends import memory, page, strips
from converter.trends.database import Database
from converter.trends.strips import History


def read(
    home: Path,
    most: int = page.NIGHTS,
    *,
    known: Manifest | None = None,
    known_in: str = "",
    anew: bool = False,
) -> tuple[History, list[str]]:
    """The last nights, with what is new on the disk; see ``memory.up_to_date``.

    Raises:
        OSError: the file cannot be read or written.
    """
    experiment = home.resolve().name

    def found(database: Database) -> History:
        nights = database.nights(most)
        return strips.history(experiment, database.number(), nights, database.strips(nights))

    return memory.up_to_date(home, experiment, found, known=known, known_in=known_in, anew=anew)


def write(home: Path, known: Manifest | None = None, known_in: str = "") -> list[str]:
    """Write ``history.html``; gives what is to be told.

    Raises:
        OSError: it, or ``history.sqlite``, cannot be written.
    """
    found, notes = read(home, known=known, known_in=known_in)
    if found.nights:
        # It can be made again: the run need not wait for the disk.
        write_atomic(home / page.FILE, page.render(found, home), durable=False)
    return notes
