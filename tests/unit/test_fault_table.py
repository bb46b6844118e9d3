"""The table of faults is whole, and the tests that it names are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| (\d+) \|(.*)\|$", TABLE, re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def defined(file: str) -> frozenset[str]:
    """The functions at the top of a file of tests."""
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_row_is_there_once_with_all_its_cells() -> None:
    assert [int(number) for number, _ in LINES] == list(range(1, 71))
    for number, cells in LINES:
        parts = [cell.strip() for cell in cells.split("|")]
        assert len(parts) == 5, number
        assert all(parts), number


def test_every_test_that_it_names_is_there() -> None:
    for number, cells in LINES:
        named = TEST.findall(cells)
        assert named, f"row {number} names no test"
        assert len(named) == cells.count("::"), number
        for file, test in named:
            assert test in defined(file), f"row {number}: {file} has no {test}"
            assert test.startswith("test_")
