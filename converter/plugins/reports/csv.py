"""``manifest.csv``: a line for each artifact of each model, for spreadsheets."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from converter.model.manifest import Manifest
from converter.model.plaintext import plain
from converter.plugins.reports._columns import Value, columns

FILE = "manifest.csv"

# What makes a spreadsheet read a cell as a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def render(manifest: Manifest, directory: Path) -> str:
    listed = columns(manifest.rows)
    text = io.StringIO()
    # The csv module ends lines with \r\n by itself.
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in listed)
    for row in manifest.rows:
        writer.writerow(_cell(column.value(row)) for column in listed)
    return text.getvalue()


def _cell(value: Value) -> Value:
    """A text that would be a formula gets an apostrophe, which spreadsheets do not show.

    Of control characters only newlines and tabs stay: many readers end a line at a carriage
    return, for which the writer quotes no cell, and what follows would be a cell of its own.
    """
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
