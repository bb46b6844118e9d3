"""Tables of the report without the columns that say nothing."""

from __future__ import annotations

from converter.plugins.reports._grids import Line, grid

HEADS = ["Case", "#Error", "Reason"]


def test_a_column_that_says_nothing_is_not_shown() -> None:
    found = grid(HEADS, [Line(["a", "1", ""]), Line(["b", "2", ""])])
    assert found.heads == [("Case", False), ("Error", True)]


def test_a_table_whose_lines_all_span_keeps_what_they_say() -> None:
    found = grid(HEADS, [Line(["a", "attempt 1 was given up"], span=True)])
    assert "attempt 1 was given up" in found.markup
    assert found.markup.count("<th scope=") == 3  # two titles, and the head of the line
