"""``sweep.html``: the matrix model × point as one page that needs nothing but itself."""

from __future__ import annotations

import functools
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from converter.display import summary
from converter.model import units
from converter.sweep.record import Sweep

FILE = "sweep.html"
_TEMPLATE = "sweep.html"


@functools.cache
def _template() -> Template:
    """Compiled once: a sweep writes its page after each point."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Names and problems come from configurations: none of them may become markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"size": units.size, "quote": quote}
    return jinja.get_template(_TEMPLATE)


def render(sweep: Sweep) -> str:
    """The page, from ``sweep.json`` alone."""
    return _template().render(
        info=sweep.sweep, points=sweep.points, models=sweep.models, expected=summary.EXPECTED
    )
