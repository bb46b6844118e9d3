"""Which job ran when, and where: a line for each that ran beside others on a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from converter.display import columns
from converter.model.manifest import ArtifactRow
from converter.model.records import Spent
from converter.plugins.reports._columns import number

_LINE_HEIGHT, _FRAME_HEIGHT = 22, 120
_LABEL_WIDTH = 28


@dataclass(frozen=True)
class _Bar:
    """A job on a line; ``start`` counts in seconds from that of the first job."""

    line: int
    start: float
    row: ArtifactRow
    spent: Spent


def drawn(rows: Sequence[ArtifactRow]) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """A caption, and data and layout as Plotly reads them; both empty where nothing ran."""
    ran = [(row, row.spent) for row in rows if row.spent is not None]
    if not ran:
        return "No job was run in a process of its own.", [], {}
    bars, labels = _placed(sorted(ran, key=lambda item: item[1].started_at))
    traces = [_trace(bars, good) for good in (True, False)]
    wall, cpu = sum(s.seconds for _, s in ran), sum(s.cpu_seconds for _, s in ran)
    nodes = len(set(labels))
    caption = (
        f"{len(ran)} jobs on {nodes} {'node' if nodes == 1 else 'nodes'}: {number(wall)} s, and "
        f"{number(cpu)} s of CPU. Of a job that was tried again it is the last try."
    )
    return caption, [trace for trace in traces if trace["x"]], _layout(labels)


def _placed(ran: Sequence[tuple[ArtifactRow, Spent]]) -> tuple[list[_Bar], list[str]]:
    """The jobs on the first line of their node that is free, and the node of each line."""
    first = _instant(ran[0][1])
    lines: list[tuple[str, float]] = []  # its node, and when its last job ends
    bars = []
    for row, spent in ran:
        node, start = _node(row), _instant(spent) - first
        free = [at for at, (where, end) in enumerate(lines) if where == node and end <= start]
        line = free[0] if free else len(lines)
        lines[line : line + 1] = [(node, start + spent.seconds)]
        bars.append(_Bar(line, start, row, spent))
    # The lines of a node stand together.
    together = sorted(range(len(lines)), key=lambda line: lines[line][0])
    places = {line: place for place, line in enumerate(together)}
    moved = [_Bar(places[bar.line], bar.start, bar.row, bar.spent) for bar in bars]
    return moved, [lines[line][0] for line in together]


def _trace(bars: Sequence[_Bar], good: bool) -> dict[str, Any]:
    shown = [bar for bar in bars if (bar.row.status == "ok") is good]
    return {
        "type": "bar",
        "orientation": "h",
        "name": "ok" if good else "not ok",
        "y": [bar.line for bar in shown],
        "base": [bar.start for bar in shown],
        "x": [bar.spent.seconds for bar in shown],
        "text": [
            f"{escape(bar.row.label)}<br>{escape(_node(bar.row))}<br>{bar.spent.seconds:.1f} s, "
            f"{bar.spent.cpu_seconds:.1f} s of CPU"
            for bar in shown
        ],
        # Plotly writes the text of a bar into the bar: here it is for the pointer only.
        "textposition": "none",
        "hoverinfo": "text",
    }


def _layout(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "height": _FRAME_HEIGHT + _LINE_HEIGHT * len(labels),
        "barmode": "overlay",
        "xaxis": {"type": "linear", "title": {"text": "seconds since the first job"}},
        "yaxis": {
            "tickvals": list(range(len(labels))),
            "ticktext": [escape(columns.shorten(label, _LABEL_WIDTH)) for label in labels],
            # From the end to the start: Plotly counts upwards.
            "range": [len(labels) - 0.4, -0.6],
        },
    }


def _instant(spent: Spent) -> float:
    return datetime.fromisoformat(spent.started_at).timestamp()


def _node(row: ArtifactRow) -> str:
    return row.node.name if row.node is not None else "this machine"
