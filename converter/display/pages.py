"""What all pages are made with: one Jinja, one way to make text safe, one check of scripts.

Names, messages and logs are a model's own words, and a manifest or an index may come from anybody:
nothing of them becomes markup, and what is unprintable in them is shown as �.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import markupsafe
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from converter.display import explanations
from converter.model import units
from converter.model.plaintext import plain

_SHARED = Path(__file__).parent / "templates"


def jinja(folder: Path, **filters: Callable[..., Any]) -> Environment:
    """What compiles the templates of a folder; make it once, since that takes long.

    Args:
        folder: of the page's own templates; those that all pages share are found, too.
        filters: of this page alone.
    """
    made = Environment(
        loader=FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        # A misspelt name fails instead of leaving a gap in the page.
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
        # Nobody edits them while a page is made: each inclusion would look.
        auto_reload=False,
    )
    made.filters |= {"bytes": units.size, "quote": quote, "words": words, **filters}
    made.globals |= {"explained": explanations.of, "anchor": explanations.anchor}
    return made


def _readable(value: Any) -> Any:
    # Not of markup, which is ours.
    return plain(value) if type(value) is str and not value.isprintable() else value


def escape(text: str) -> Markup:
    """Text for a page that is put together without a template; markup stays as it is."""
    return markupsafe.escape(_readable(text))


def words(name: str) -> str:
    """``not run`` for ``not_run``."""
    return name.replace("_", " ")


def code(path: Path) -> Markup:
    """A style or a script of ours, as it is; line ends as a browser reads them."""
    return Markup(path.read_text(encoding="utf-8").replace("\r\n", "\n"))


def data(value: object) -> Markup:
    """JSON to stand in an element ``script``: no text in it can end that."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(written.replace("<", "\\u003c"))


def allowed(script: str) -> str:
    """What a page's Content-Security-Policy says of a script that may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
