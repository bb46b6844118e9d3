"""A place that is published to: what publishing does there, whatever keeps the files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from converter.finalize.beside import Beside
from converter.finalize.folder import Folder
from converter.finalize.prefix import Prefix
from converter.finalize.zoo_index import Index
from converter.model.records import FileInfo
from converter.storage import location, objects
from converter.storage.location import Location, Url


class Target(Protocol):
    """Paths are relative to its index; each call may raise ``OSError``.

    Attributes:
        place: for messages.
    """

    @property
    def place(self) -> Location:
        """Where it is."""

    def told(self) -> list[str]:
        """What went wrong on the way, and right after all; a sentence."""

    def prepare(self) -> None:
        """See that files can be put there. Raises ``RunError`` or ``OSError``."""

    def above(self) -> Iterable[Location]:
        """Places above it that have an index of models."""

    def below(self, index: Index) -> Iterable[Location]:
        """Places inside of it that have an index of models, beside those of its own models."""

    def read(self) -> Index:
        """Its index; an empty one where there is none."""

    def change(self, index: Index, alter: Callable[[Index], Index]) -> Index:
        """Write what ``alter`` makes of the index, which was read here; what is there then."""

    def refuse_links(self, paths: Iterable[str]) -> None:
        """Raise where a path leads elsewhere."""

    def exists(self, path: str) -> bool:
        """Whether a file is there, or a folder with one."""

    def has_size(self, part: FileInfo) -> bool:
        """Whether a file is there, of the size that was recorded."""

    def is_whole(self, part: FileInfo) -> bool:
        """Whether a file is the one that was recorded."""

    def versions(self, name: str) -> list[str]:
        """What lies in the folder of a set."""

    def staging(self, name: str) -> AbstractContextManager[Path]:
        """A folder of this machine for a set that is being made; it goes again."""

    def install(self, staging: Path, home: Path, parts: Sequence[FileInfo]) -> None:
        """Have a whole set under its name."""

    def put_beside(self, files: Beside) -> None:
        """Have beside the versions of a set what is in the newest one."""

    def remove_beside(self, folder: str, kept: Collection[str], patterns: Sequence[str]) -> None:
        """Remove what stands beside versions and is of none that counts.

        Args:
            kept: paths that stay.
            patterns: what may stand there at all.
        """

    def page(self, name: str) -> str | None:
        """A text that stands beside the index; ``None``: there is none."""

    def put_page(self, name: str, text: str) -> None:
        """Replace it, whole."""

    def clear(self, index: Index, patterns: Sequence[str]) -> None:
        """Remove what a killed run left unfinished, and versions that the index names no more.

        Of a model that it does not name nothing is known: the index may have been moved away.
        """


def opened(text: str) -> Target:
    """What a key of the configuration names; nothing is written.

    Raises:
        ConfigError: what opens such URLs is not installed.
        ValueError: it is no place.
    """
    place = location.parse(text)
    if isinstance(place, Url):
        return Prefix(objects.opened(place))
    return Folder(place)
