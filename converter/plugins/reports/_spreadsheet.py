"""Text that spreadsheets read as what it says: lines of cells, none of them a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from converter.model.plaintext import plain

Value = str | int | float | None

# What makes a spreadsheet read a cell as a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")


def text(head: Iterable[str], lines: Iterable[Iterable[Value]]) -> str:
    """The whole file."""
    stream = io.StringIO()
    # The csv module ends lines with \r\n by itself.
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for line in lines:
        writer.writerow(map(_cell, line))
    return stream.getvalue()


def _cell(value: Value) -> Value:
    """A text that would be a formula gets an apostrophe, which spreadsheets do not show.

    Of control characters only newlines and tabs stay: many readers end a line at a carriage
    return, for which the writer quotes no cell, and what follows would be a cell of its own.
    """
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
