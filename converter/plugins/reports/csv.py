"""``manifest.csv``: a line for each artifact of each model, for spreadsheets."""

from __future__ import annotations

from pathlib import Path

from converter.model.manifest import Manifest
from converter.plugins.reports import _spreadsheet
from converter.plugins.reports._columns import columns

FILE = "manifest.csv"


def render(manifest: Manifest, directory: Path) -> str:
    listed = columns(manifest.rows)
    lines = ([column.value(row) for column in listed] for row in manifest.rows)
    return _spreadsheet.text([column.key for column in listed], lines)
