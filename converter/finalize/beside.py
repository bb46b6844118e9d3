"""What stands beside the versions of a set: the files of the newest one, under paths that stay.

Which names a layout has there are patterns, its ``OUTSIDE``. The index says which version counts,
and so what each of these paths is; nothing of it is recorded a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from converter.finalize.zoo_index import Entry, PublishedSet
from converter.layout.signing import SIGNATURE
from converter.model.records import FileInfo


@dataclass(frozen=True)
class Beside:
    """Files that stand there together, or not at all.

    Attributes:
        folder: of the set, relative to the index.
        parts: as they are recorded in their version, the one to open first at the beginning.
        is_artifact: a model, which may be large; else a text.
    """

    folder: str
    parts: Sequence[FileInfo]
    is_artifact: bool

    def path(self, part: FileInfo) -> str:
        """Where a file of it stands, relative to the index."""
        return f"{self.folder}/{Path(part.path).name}"

    @property
    def paths(self) -> list[str]:
        """Where its files stand."""
        return [self.path(part) for part in self.parts]


def of(entry: Entry, patterns: Sequence[str]) -> list[Beside]:
    """All that stands beside the versions of a model."""
    return [found for each in entry.sets for found in _of_set(each, entry, patterns)]


def _of_set(each: PublishedSet, entry: Entry, patterns: Sequence[str]) -> Iterator[Beside]:
    there = {part.path: part for part in each.files}
    main = [entry.path, *(part.path for part in entry.external_data)]
    variants = [[part.path for part in variant.files] for variant in entry.variants.values()]
    artifacts = [paths for paths in (main, *variants) if there.keys() >= {*paths}]
    for paths in artifacts:
        # A model of which a part would be missing is none.
        if all(_is_outside(path, each, patterns) for path in paths):
            yield Beside(each.name, [there[path] for path in paths], is_artifact=True)
    models = {path for paths in artifacts for path in paths}
    for path, part in there.items():
        if path not in models and _is_outside(path, each, patterns):
            yield Beside(each.name, [part], is_artifact=False)


def _is_outside(path: str, each: PublishedSet, patterns: Sequence[str]) -> bool:
    home, _, name = path.rpartition("/")
    return home == each.folder and matches(name, patterns)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name beside versions is one of the layout's own."""
    # The signature is of a whole set, and says nothing outside of it.
    return name != SIGNATURE and any(fnmatchcase(name, pattern) for pattern in patterns)


def is_unfinished(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name is that of one of them which a killed run was writing."""
    return any(fnmatchcase(name, f".{pattern}.*") for pattern in patterns)
