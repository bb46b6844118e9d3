"""Which process ran when, and where: a line for each that ran beside others on a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Any

from converter.display import columns
from converter.model import manifest
from converter.model.manifest import ArtifactRow
from converter.model.records import Spent, Try
from converter.plugins.reports._columns import number

_LINE_HEIGHT, _FRAME_HEIGHT = 22, 120
_LABEL_WIDTH = 28
_KINDS = ("ok", "not ok", "given up", "latency")


@dataclass(frozen=True)
class _Bar:
    """A process on a line; ``start`` counts in seconds from that of the first one."""

    line: int
    start: float
    kind: str
    label: str
    node: str
    spent: Spent


def drawn(rows: Sequence[ArtifactRow]) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """A caption, and data and layout as Plotly reads them; both empty where nothing ran."""
    ran = [
        (row, one, one.spent)
        for row in rows
        for one in manifest.tries_of(row)
        if one.spent is not None
    ]
    if not ran:
        return "No job was run in a process of its own.", [], {}
    bars, labels = _placed(sorted(ran, key=lambda item: item[2].started_at))
    traces = [_trace(bars, kind) for kind in _KINDS]
    wall, cpu = sum(s.seconds for *_, s in ran), sum(s.cpu_seconds or 0.0 for *_, s in ran)
    nodes = len(set(labels))
    caption = (
        f"{len(ran)} processes on {nodes} {'node' if nodes == 1 else 'nodes'}: {number(wall)} s, "
        f"and {number(cpu)} s of CPU."
    )
    return caption, [trace for trace in traces if trace["x"]], _layout(labels)


def _placed(ran: Sequence[tuple[ArtifactRow, Try, Spent]]) -> tuple[list[_Bar], list[str]]:
    """Processes on the first line of their node that is free, and the node of each line."""
    first = _instant(ran[0][2])
    lines: list[tuple[str, float]] = []  # its node, and when its last job ends
    bars = []
    for row, one, spent in ran:
        node, start = one.node or "this machine", _instant(spent) - first
        free = [at for at, (where, end) in enumerate(lines) if where == node and end <= start]
        line = free[0] if free else len(lines)
        lines[line : line + 1] = [(node, start + spent.seconds)]
        bars.append(_Bar(line, start, _kind(row, one), row.label, node, spent))
    # The lines of a node stand together.
    together = sorted(range(len(lines)), key=lambda line: lines[line][0])
    places = {line: place for place, line in enumerate(together)}
    moved = [replace(bar, line=places[bar.line]) for bar in bars]
    return moved, [lines[line][0] for line in together]


def _kind(row: ArtifactRow, one: Try) -> str:
    if one.reason:
        return "given up"
    if one.provider:
        return "latency"
    return "ok" if row.status == "ok" else "not ok"


def _trace(bars: Sequence[_Bar], kind: str) -> dict[str, Any]:
    shown = [bar for bar in bars if bar.kind == kind]
    return {
        "type": "bar",
        "orientation": "h",
        "name": kind,
        "y": [bar.line for bar in shown],
        "base": [bar.start for bar in shown],
        "x": [bar.spent.seconds for bar in shown],
        "text": [
            f"{escape(bar.label)}<br>{escape(bar.node)}<br>{bar.spent.seconds:.1f} s, "
            f"{_cpu(bar.spent)} of CPU"
            for bar in shown
        ],
        # Plotly writes the text of a bar into the bar: here it is for the pointer only.
        "textposition": "none",
        "hoverinfo": "text",
    }


def _cpu(spent: Spent) -> str:
    return "an unknown time" if spent.cpu_seconds is None else f"{spent.cpu_seconds:.1f} s"


def _layout(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "height": _FRAME_HEIGHT + _LINE_HEIGHT * len(labels),
        "barmode": "overlay",
        "xaxis": {"type": "linear", "title": {"text": "time since the first job, seconds"}},
        "legend": {"title": {"text": "outcome"}},
        "yaxis": {
            "title": {"text": "node", "standoff": 12},
            "tickvals": list(range(len(labels))),
            "ticktext": [escape(columns.shorten(label, _LABEL_WIDTH)) for label in labels],
            # From the end to the start: Plotly counts upwards.
            "range": [len(labels) - 0.4, -0.6],
        },
    }


def _instant(spent: Spent) -> float:
    return datetime.fromisoformat(spent.started_at).timestamp()
