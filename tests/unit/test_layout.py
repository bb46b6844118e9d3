"""The rules of the tree that a reader relies on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for package in ("converter", "registry") for path in (REPOSITORY / package).rglob("*.py")
)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_has_at_most_50_lines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 50, f"{node.name}: at most 50 lines"


def test_exceptions_are_caught_wholesale_in_one_place_only() -> None:
    found = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "Exception"
    }
    assert found <= {"converter/worker/stages.py"}
