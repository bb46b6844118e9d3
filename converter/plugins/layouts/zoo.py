"""zoo: a folder for each model, its files under the names that they have in the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.model.base import Frozen
from converter.model.manifest import ArtifactRow, Manifest
from converter.plugins.layouts import FileSet

NUMBERED = False
OUTSIDE: tuple[str, ...] = ()


class Options(Frozen):
    """It has none."""


def left_out(row: ArtifactRow) -> str:
    return ""


def sets(rows: Sequence[ArtifactRow], options: Options) -> list[FileSet]:
    """All artifacts of a model together."""
    parts = {Path(part.path).name: part for row in rows for part in row.files}
    return [FileSet(rows[0].name, rows[0], rows, parts)]


def identity(files: FileSet, options: Options) -> str:
    return ""


def texts(files: FileSet, manifest: Manifest, version: str, options: Options) -> dict[str, str]:
    return {}
