"""``sweep.html``: the matrix model × point as one page that needs nothing but itself."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Template

from converter.display import pages
from converter.sweep import differences
from converter.sweep.record import Sweep

FILE = "sweep.html"
_TEMPLATE = "sweep.html"


@functools.cache
def _template() -> Template:
    """Compiled once: a sweep writes its page after each point."""
    return pages.jinja(Path(__file__).parent).get_template(_TEMPLATE)


def render(sweep: Sweep) -> str:
    """The page, from ``sweep.json`` alone."""
    return _template().render(
        info=sweep.sweep,
        points=sweep.points,
        ran=[point for point in sweep.points if point.manifest is not None],
        lines=differences.lines(sweep),
        codes=[cell.code for model in sweep.models for cell in model.cells],
    )
