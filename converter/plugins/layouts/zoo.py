"""zoo: a folder for each model, whose newest files are always found under the same paths::

    resnet18/model.onnx  resnet18/model.fp16.onnx  resnet18/README.md

Weights beside a file are called as the file says: ``resnet18/resnet18.onnx.data``.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.model.artifact import ONNX
from converter.model.base import Frozen
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import FileInfo
from converter.plugins.layouts import FileSet, _card, renamed

NUMBERED = False
CARD = "README.md"
OUTSIDE: tuple[str, ...] = (CARD, "model.*", "*.onnx.data")

_STEM = "model"


class Options(Frozen):
    """It has none."""


def left_out(row: ArtifactRow) -> str:
    return ""


def sets(rows: Sequence[ArtifactRow], options: Options) -> list[FileSet]:
    """All artifacts of a model together."""
    files = {name: part for row in rows for name, part in _named(row).items()}
    return [FileSet(rows[0].name, rows[0], rows, files)]


def _named(row: ArtifactRow) -> dict[str, FileInfo]:
    return renamed(row, _STEM if row.id == ONNX else f"{_STEM}.{row.id}")


def identity(files: FileSet, options: Options) -> str:
    return ""


def texts(files: FileSet, manifest: Manifest, version: str, options: Options) -> dict[str, str]:
    return {CARD: "\n".join(_card.render(files, manifest)) + "\n"}
