"""How a problem of the configuration reads."""

from __future__ import annotations

import pytest

from converter.model.errors import ConfigError, Problem


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
