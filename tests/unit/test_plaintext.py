"""What is said is text: nothing in it acts on the terminal that shows it."""

from __future__ import annotations

import json

import pytest

from converter.model.errors import Code
from converter.model.manifest import fingerprint
from converter.model.plaintext import plain, readable_json
from converter.model.records import ErrorRecord

LOST = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 1×3 → y, \u3000, \xa0", "plain, é, 1×3 → y, \u3000, \xa0"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("of\r\nWindows", "of\nWindows"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b(Btext\x1b7", "text"),
        ("over\rwritten", f"over{LOST}written"),
        ("a\x00b\x07c\x7f\x9b2J", f"a{LOST}b{LOST}c{LOST}{LOST}2J"),
        ("\x1b\x1b[0m[31mred", f"{LOST}[31mred"),
        ("cut short \x1b", f"cut short {LOST}"),
        ("\u202ereversed \ud800", f"{LOST}reversed {LOST}"),
    ],
)
def test_nothing_but_text_is_left(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(shown) == shown


def test_a_message_and_its_hint_are_cleaned_where_they_are_made() -> None:
    hostile = "\x1b[31mred\x00\ud800"
    made = ErrorRecord(stage="load", code=Code.LOAD, message=hostile, hint=hostile)
    assert (made.message, made.hint) == (f"red{LOST}{LOST}",) * 2
    raw = made.model_dump_json().replace("red", "\\u001b[1mred")
    assert ErrorRecord.model_validate_json(raw) == made


def test_a_cause_is_the_same_in_colour_and_may_hold_anything() -> None:
    marks = {
        fingerprint("load", "LOAD", None, text)
        for text in ("red \ud800", "\x1b[31mred\x1b[0m \ud800", f"red {LOST}")
    }
    assert len(marks) == 1


@pytest.mark.parametrize(
    "text", ["é → y", "\x1b[31m", "\x7f\x9b", "\u202e", "a\nb", "\ud800", "\U000e0001"]
)
def test_json_on_a_terminal_says_the_same_and_nothing_that_acts(text: str) -> None:
    shown = readable_json({text: [text, 1]})
    assert json.loads(shown) == {text: [text, 1]}
    assert plain(shown) == shown
    assert ("é → y" in shown) == (text == "é → y")
