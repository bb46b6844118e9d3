"""What the error codes mean, for pages: the sections of ``docs/errors.md``.

A page works without network, and where the documentation is not: it has the sections of the codes
that occur in it, and each code links to its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

_PACKAGE = Path(__file__).resolve().parents[1]
_SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
# Of a paragraph: code, bold, and a link, of which the words stay: there is nothing to lead to.
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*([^*`]+)\*|\[([^\]]+)\]\([^)]*\)")


@dataclass(frozen=True)
class Explanation:
    """What a code means, what its message names, and what to do."""

    code: str
    text: Markup


def anchor(code: str) -> str:
    """The name of the element that explains a code."""
    return f"code-{code}"


def of(codes: Iterable[str | None]) -> list[Explanation]:
    """The sections of these codes, each once, by name; one that is not known has none."""
    known = _sections()
    found = {code for code in codes if code in known}
    return [Explanation(code, _markup(known[code])) for code in sorted(found)]


@functools.cache
def _sections() -> dict[str, str]:
    # A wheel has it in the package, a checkout beside it.
    inside = _PACKAGE / "docs" / "errors.md"
    path = inside if inside.is_file() else _PACKAGE.parent / "docs" / "errors.md"
    return dict(_SECTION.findall(path.read_text(encoding="utf-8")))


@functools.cache
def _markup(text: str) -> Markup:
    parts = []
    # Text and blocks of code in turns.
    for at, part in enumerate(_BLOCK.split(text)):
        if at % 2:
            block = Markup('<pre tabindex="0">{}</pre>')
            parts.append(block.format(part))
        else:
            lines = [line for line in part.splitlines() if line.strip()]
            parts += [Markup("<p>{}</p>").format(_inline(line)) for line in lines]
    return Markup("\n").join(parts)


def _inline(line: str) -> Markup:
    return Markup(_INLINE.sub(_element, str(escape(line))))


def _element(found: re.Match[str]) -> str:
    code, strong, stressed, link = found.groups()
    if code is not None:
        return f"<code>{code}</code>"
    if strong is not None:
        return f"<strong>{strong}</strong>"
    # What is linked may be code itself.
    return f"<em>{stressed}</em>" if stressed is not None else _INLINE.sub(_element, link)
