"""What models, libraries and files say, put into Markdown: it stays text, whatever it is."""

from __future__ import annotations

import re

from converter.model.plaintext import plain

_LONGEST = 400
# What begins HTML, an entity, a link, emphasis or a code span in the middle of a line.
_LIVE = re.compile(r"[\\`*\[\]<&]")


def code(text: str, longest: int | None = _LONGEST) -> str:
    """Text as a code span: no markup, link or mention in it is live."""
    flat = line(text) or " "
    if longest is not None and len(flat) > longest:
        flat = f"{flat[:longest]}…"
    # CommonMark: a span ends at a run of exactly as many backticks as began it.
    fence = _fence(flat, 1)
    pad = " " if "`" in flat else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def prose(text: str) -> str:
    """Text within a sentence."""
    return _LIVE.sub(r"\\\g<0>", line(text))


def cell(text: str) -> str:
    """Markdown in a table, where a bar would end the cell, also within a code span."""
    return text.replace("|", "\\|")


def block(language: str, *lines: str) -> list[str]:
    """Lines as a block of code."""
    text = plain("\n".join(lines))
    fence = _fence(text, 3)
    return [f"{fence}{language}", text, fence]


def line(text: str) -> str:
    """Text in one line."""
    # An empty line ends a paragraph, and with it a span.
    return re.sub(r"\s+", " ", plain(text)).strip()


def _fence(text: str, least: int) -> str:
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
