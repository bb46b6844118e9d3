"""``run.log``: what the run printed, line by line with the time, for when the terminal is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from converter.display.progress import Progress
from converter.display.screen import Printer
from converter.model.errors import RunError
from converter.model.manifest import ArtifactRow
from converter.plugins.executors import Event

NAME = "run.log"


class RunLog:
    """Appends to the file and flushes each line. A full disk ends the log, never the run."""

    def __init__(self, printer: Printer) -> None:
        self._print = printer

    def __call__(self, text: str) -> None:
        # UTC, like the times of the manifest: local clocks are set back once a year.
        now = datetime.now(UTC)
        for line in text.strip("\n").splitlines():
            self._print(f"{now:%Y-%m-%d %H:%M:%S}Z {line}".rstrip())


@contextmanager
def opened(directory: Path) -> Iterator[RunLog]:
    """The log of a run directory.

    Raises:
        RunError: it cannot be written; a link in its place is not followed.
    """
    path = directory / NAME
    try:
        # Code of models has run in this folder when a run is resumed. Opened for appending, a link
        # would lead the log into whatever file it names.
        if path.is_symlink():
            raise RunError(f"a symbolic link stands where {path} belongs: remove it")
        # Behind what a resumed run wrote before.
        stream = path.open("a", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield RunLog(Printer(stream))
    finally:
        try:
            stream.close()
        except OSError:  # what did not fit on the disk is lost again
            pass


class Both:
    """Tells several what the run does."""

    def __init__(self, parts: Sequence[Progress]) -> None:
        self._parts = parts

    def doing(self, what: str) -> None:
        for part in self._parts:
            part.doing(what)

    def event(self, event: Event) -> None:
        for part in self._parts:
            part.event(event)

    def row(self, row: ArtifactRow) -> None:
        for part in self._parts:
            part.row(row)

    def measuring(self, total: int) -> None:
        for part in self._parts:
            part.measuring(total)

    def measured(self, row: ArtifactRow) -> None:
        for part in self._parts:
            part.measured(row)

    def close(self) -> None:
        for part in self._parts:
            part.close()
