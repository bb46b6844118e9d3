r"""What models, libraries and files say, made safe to print: text, and nothing that acts.

A message goes to a terminal, into a log, a page and a spreadsheet. An escape sequence in it could
colour, rewrite or erase what stands there, a NUL ends the text for many programs, and a lone
surrogate cannot be written at all.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Annotated

from pydantic import BeforeValidator

# ECMA-48: control sequences (colours, cursor), control strings (titles, links), other escapes.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])"
)


def plain(text: str, instead: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """Text without escape sequences; ``instead`` stands for each other unprintable character.

    Newlines and tabs stay, and so do spaces of every kind.
    """
    # A carriage return by itself is replaced below: a terminal would write over the line with it.
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    return text if text.isprintable() else "".join(c if _shows(c) else instead for c in text)


def readable_json(value: object) -> str:
    """JSON for a terminal and for programs: readable letters as they are, all others escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if text.isprintable() else "".join(c if _shows(c) else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def _shows(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


def _said(value: object) -> object:
    return plain(value) if isinstance(value, str) else value


# Before pydantic looks at it: pydantic refuses a lone surrogate.
PlainText = Annotated[str, BeforeValidator(_said)]
