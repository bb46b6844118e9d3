"""How a problem of the configuration reads."""

from __future__ import annotations

import pytest

from converter.model.errors import MOST_PROBLEMS, ConfigError, Problem, told


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            Problem("a.yaml:3", "duplicate key 'seed'", "Remove one."),
            "a.yaml:3: duplicate key 'seed'. Remove one.",
        ),
        (
            Problem("seed", "found 'x'; expected a number.", "Did you mean 1?"),
            "seed: found 'x'; expected a number. Did you mean 1?",
        ),
        (Problem("a.yaml:2", "012 is octal;", "quote it."), "a.yaml:2: 012 is octal; quote it."),
        (Problem("seed", "is this a number?"), "seed: is this a number?"),
        (Problem("", "the folder is empty"), "the folder is empty."),
    ],
)
def test_message_and_hint_are_sentences(problem: Problem, text: str) -> None:
    assert str(problem) == text
    assert str(ConfigError(problem)) == text


def test_of_very_many_problems_the_first_are_told_and_the_rest_counted() -> None:
    problems = [Problem(f"models.m{n}", "unknown key.") for n in range(MOST_PROBLEMS + 1200)]
    lines = told(problems)
    assert (len(lines), lines[-1]) == (MOST_PROBLEMS + 1, "… and 1200 more")
    assert lines[0] == "models.m0: unknown key."
    assert str(ConfigError(problems)) == "\n".join(lines)
    assert len(ConfigError(problems).problems) == len(problems)
    assert told(problems[:MOST_PROBLEMS])[-1] == f"models.m{MOST_PROBLEMS - 1}: unknown key."


@pytest.mark.parametrize("part", ["key", "message", "hint"])
def test_a_line_is_never_longer_than_a_person_reads(part: str) -> None:
    said = {"key": "seed", "message": "found a list.", "hint": "Remove it."}
    text = str(Problem(**{**said, part: "[x, y], " * 50_000}))
    assert len(text) < 1200
    assert "…" in text
