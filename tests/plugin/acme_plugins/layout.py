"""A layout: a shelf with a label beside each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converter.model.base import Frozen
from converter.plugins.layouts import FileSet, renamed

if TYPE_CHECKING:
    from converter.model.manifest import ArtifactRow, Manifest

NUMBERED = True
OUTSIDE = ("label.txt",)


class Options(Frozen):
    """What is on the label.

    Attributes:
        owner: whose it is.
    """

    owner: str = "acme"


def left_out(row: ArtifactRow) -> str:
    return "" if row.format == "onnx" else "the shelf is for ONNX"


def sets(rows: Sequence[ArtifactRow], options: Options) -> list[FileSet]:
    files = {name: part for row in rows for name, part in renamed(row, f"it-{row.id}").items()}
    return [FileSet(rows[0].name, rows[0], rows, files)]


def identity(files: FileSet, options: Options) -> str:
    return options.owner


def texts(files: FileSet, manifest: Manifest, version: str, options: Options) -> dict[str, str]:
    return {"label.txt": f"{files.name} {version} of {options.owner}\n"}
