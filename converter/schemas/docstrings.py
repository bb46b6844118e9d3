"""What the docstring of a configuration type says of its keys.

A line under ``Attributes:`` describes one key or several, and may end in an example, in YAML::

    low, high: bounds of ``uniform``. Example: ``0``.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

_KEYS = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")
_EXAMPLE = re.compile(r"(.*?)(?: Example: ``(.+)``\.)?")


@dataclass(frozen=True)
class Line:
    """What is said of one key.

    Attributes:
        description: a sentence, in Markdown.
        examples: values that may be written there; none or one.
    """

    description: str
    examples: list[Any]


def summary(kind: type[BaseModel]) -> str:
    """The first paragraph, in Markdown."""
    return _markdown(_text(kind).partition("\n\n")[0])


def lines(kind: type[BaseModel]) -> dict[str, Line]:
    """What is said of each key, by the name of its field; those of base types too."""
    found: dict[str, Line] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _own(_text(base))
    return found


def _text(kind: type[BaseModel]) -> str:
    return inspect.cleandoc(vars(kind).get("__doc__") or "")


def _own(text: str) -> dict[str, Line]:
    written: dict[str, list[str]] = {}
    keys = ""
    for line in text.partition("Attributes:\n")[2].splitlines():
        if begun := _KEYS.fullmatch(line):
            keys = begun[1]
            written[keys] = [begun[2]]
        elif line.strip() and keys:
            written[keys].append(line.strip())
    return {
        key: _line(" ".join(parts)) for keys, parts in written.items() for key in keys.split(", ")
    }


def _line(text: str) -> Line:
    found = _EXAMPLE.fullmatch(text)
    assert found is not None  # both parts may be empty
    examples = [] if found[2] is None else [yaml.safe_load(found[2])]
    return Line(_markdown(found[1]), examples)


def _markdown(text: str) -> str:
    """A sentence as Markdown: one backtick for code, YAML's null, a capital at the start."""
    plain = " ".join(text.split()).replace("``", "`").replace("`None`", "`null`")
    return plain[:1].upper() + plain[1:]
