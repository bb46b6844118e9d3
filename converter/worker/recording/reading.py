"""The files that a builder of the user's reads, so that a result is not kept without them.

Seen is what Python opens (SQLite's databases too), and what torch, torchvision and safetensors open
for it; not what other libraries open in C or Rust, what processes of the model's own open, nor that
a folder was listed or looked for a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from converter.worker.recording import opening


class Reading:
    """Notes the user's files that are opened for reading, code too, from ``start`` to ``stop``.

    What was written before it is read is left out: the job made it.
    """

    def __init__(self) -> None:
        self._read: dict[str, None] = {}
        self._written: set[str] = set()

    def start(self) -> None:
        opening.listen(self._note)

    def stop(self) -> None:
        opening.leave(self._note)

    def leave_out(self, path: Path) -> None:
        """Note a file that is no news, whoever reads it."""
        own = os.path.abspath(path)
        self._written.add(own)
        self._read.pop(own, None)

    def files(self) -> list[str]:
        """What was read and is still there, absolute, sorted."""
        # Temporary files are gone by now.
        return sorted(path for path in self._read if os.path.isfile(path))

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = opening.path_of(event, arguments)
        if path is not None:
            # In the order of events: what is written after it was read is still an input.
            if path not in self._written:
                self._read[path] = None
        elif event in ("open", "os.rename"):
            self._note_written(event, arguments)
        elif event == "sqlite3.connect":
            self._note_database(opening.database(arguments))

    def _note_written(self, event: str, arguments: tuple[Any, ...]) -> None:
        # `open` has its mode second, and a descriptor in place of a name has none.
        paths = arguments[:2] if event == "os.rename" else arguments[:1]
        names = [
            os.path.abspath(os.fsdecode(argument))
            for argument in paths
            if isinstance(argument, str | bytes | os.PathLike)
        ]
        # To write under another name and then rename is how a file is written safely.
        if event == "os.rename" and names[0] in self._written:
            self._written.add(names[-1])
        elif event == "open" and names and arguments[2] & os.O_CREAT:
            self._written.add(names[0])

    def _note_database(self, path: object) -> None:
        # One that is not there yet is made by the job.
        if isinstance(path, str | bytes | os.PathLike) and not os.path.exists(path):
            self._written.add(os.path.abspath(os.fsdecode(path)))
