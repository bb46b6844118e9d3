"""Layouts: how published files are laid out, for whom they are published.

A plugin of this kind is a module that has what ``Layout`` lists. It says which files lie together
under which names and what is written beside them; it writes nothing itself:
``converter.finalize.publication`` delivers each set whole or not at all, and gives each its SBOM,
its hashes and its signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from converter.model.artifact import ONNX
from converter.model.base import Frozen
from converter.model.records import FileInfo
from converter.plugins import loader

if TYPE_CHECKING:
    # Each configuration is checked against the layouts, and would wait for all types of a manifest.
    from converter.model.manifest import ArtifactRow, Manifest

AT_THE_TOP = ("index.json", "index.html")
"""What stands beside the folders of the models: the index, and its page."""
DEFAULT = "zoo"
"""The layout of a folder of which no other is stated."""


@dataclass(frozen=True)
class FileSet:
    """Files that appear together, in a folder of their own.

    Attributes:
        name: of the folder that holds its versions, one folder each: the model's name, or that with
            a dot and more behind it.
        first: the model's ONNX file: what it says of inputs and outputs holds for what derives
            from it as well.
        rows: the artifacts of the set.
        files: name in the set → the file of the run that it is a copy of.
    """

    name: str
    first: ArtifactRow
    rows: Sequence[ArtifactRow]
    files: Mapping[str, FileInfo]

    def of(self, row: ArtifactRow) -> list[str]:
        """The names of an artifact's files, the one to open first."""
        return [name for part in row.files for name, own in self.files.items() if own == part]


class Layout(Protocol):
    """What a plugin has.

    Attributes:
        NUMBERED: versions are called 1, 2, 3, …; else by what is in them.
        APART: each artifact has a set of its own, in ``folder_apart``; may be left out.
        OUTSIDE: files of a set that also stand beside the folders of its versions, those of the
            newest one: what a reader of the folder looks for there. Names, or patterns such as
            ``model.*``; whatever has such a name there is the layout's own.
        Options: its options, which are keys of ``publish_to``.
    """

    NUMBERED: bool
    OUTSIDE: tuple[str, ...]
    Options: type[Frozen]

    def left_out(self, row: ArtifactRow) -> str:
        """Why an artifact has no place in this layout, in a few words; empty: it has one."""

    def sets(self, rows: Sequence[ArtifactRow], options: Any) -> list[FileSet]:
        """The sets of one model.

        Args:
            rows: its artifacts that are right and have a place, the exporter's ONNX file first.
        """

    def identity(self, files: FileSet, options: Any) -> str:
        """What makes another version of the set beside another content of its files."""

    def texts(
        self, files: FileSet, manifest: Manifest, version: str, options: Any
    ) -> dict[str, str]:
        """What is written beside the files: name in the set → text.

        Args:
            manifest: of the run that made the files.
            version: the name of the version's folder.
        """


def load(name: str | None) -> Layout:
    """The layout of a name, or the default.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    layout: Layout = loader.load("layouts", name or DEFAULT)
    return layout


def is_apart(layout: Layout) -> bool:
    """Whether each artifact has a folder of its own."""
    return bool(getattr(layout, "APART", False))  # layouts of before it have none


def folder_apart(model: str, artifact: str) -> str:
    """The folder of an artifact that has one of its own."""
    return model if artifact == ONNX else f"{model}.{artifact}"


def renamed(row: ArtifactRow, stem: str) -> dict[str, FileInfo]:
    """The files of an artifact with ``stem`` in place of what their names have in common.

    The weights beside an ONNX file keep their name: the file itself says it.
    """
    first = Path(row.files[0].path).name
    before = f"{row.name}.{row.id}" if row.id != ONNX else row.name
    found = {}
    for part in row.files:
        name = Path(part.path).name
        inside = row.onnx is not None and name != first
        kept = inside or not name.startswith(before)
        found[name if kept else f"{stem}{name.removeprefix(before)}"] = part
    return found
