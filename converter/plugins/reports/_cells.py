"""The matrix on the page: what its cells say, and the plot in which to find a file for a budget."""

from __future__ import annotations

from html import escape
from typing import Any

from converter.model import matrix, units
from converter.model.matrix import Cell, Column, Matrix
from converter.plugins.reports._columns import NONE, bounded, number
from converter.plugins.reports._figures import Figure

# As in report.js, by runtime; a precision has a shape.
_COLOURS = ("#3f83d6", "#d98214", "#2c9c74", "#c5568a", "#8d72d4", "#7f8f2f", "#b5593b", "#4f9dad")
_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "star")
# A logarithmic axis has no zero: what is equal to the last bit stands here.
_LEAST = 1e-9


def error(cell: Cell) -> str:
    """The error of a cell: of a quantised one in decibels, of another one beside its tolerance."""
    if cell.sqnr_db is not None:
        return f"{cell.sqnr_db:.1f} dB"
    return NONE if cell.worst is None else bounded(cell.worst)


def short_error(cell: Cell) -> str:
    """The same in the table, where there is no room for the part of a bound that is relative."""
    return error(cell).partition(" + ")[0]


def said(cell: Cell) -> str:
    """All of a cell in a line."""
    where = f"{cell.label} on {cell.version or cell.column.runtime}, {cell.column.precision}"
    if cell.status != "ok":
        code = f" {cell.code}" if cell.code else ""
        return f"{where}: {cell.status.replace('_', ' ')}{code}: {cell.reason}"
    parts = [error(cell)]
    parts += [] if cell.bytes is None else [units.size(cell.bytes)]
    parts += [] if cell.p50_ms is None else [f"{number(cell.p50_ms)} ms"]
    computed = f" ({cell.arithmetic})" if cell.arithmetic else ""
    return f"{where}: ok{computed}; {', '.join(parts)}"


def sortable(cell: Cell) -> dict[str, float]:
    """What a column sorts by, for each figure that it may show: the worst is the largest."""
    found: dict[str, float | None] = {
        "error": _error_key(cell), "size": cell.bytes, "latency": cell.p50_ms,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}


def _error_key(cell: Cell) -> float | None:
    if cell.sqnr_db is not None:
        return -cell.sqnr_db
    return None if cell.worst is None else matrix.share(cell.worst)


def budget(found: Matrix) -> Figure:
    """Error over latency and over size, of every cell that is ok."""
    name, title = "budget", "The best file for a budget"
    points = [cell for cell in found.all if cell.status == "ok" and _distance(cell) is not None]
    if not points:
        return Figure(name, title, "No cell that is ok has an error to be shown.")
    timed = any(cell.p50_ms is not None for cell in points)
    traces = []
    for column in found.columns:
        own = [cell for cell in points if cell.column == column]
        if fast := [cell for cell in own if cell.p50_ms is not None]:
            traces.append(_trace(found, column, fast, "latency"))
        if own:
            # One entry of the legend for both plots; what is not timed has none in the first.
            shown = not any(cell.p50_ms is not None for cell in own)
            traces.append(_trace(found, column, own, "size", legend=shown))
    left = sum(cell.status == "ok" for cell in found.all) - len(points)
    caption = (
        "Each point is a file on a runtime that is right there; the lower, the closer to PyTorch, "
        "the further left, the faster or smaller. The error is the largest relative L2 distance of "
        "any output; of a quantised file that of its signal to noise ratio. Choose a model and "
        "state a budget: what is beyond it fades, and the line above the plot names the file with "
        "the least error within it. All axes are logarithmic."
    )
    if left:
        caption += f" {left} more have no such distance: integers, or nothing to divide by."
    return Figure(name, title, caption, traces, _layout(timed))


def _distance(cell: Cell) -> float | None:
    # Of a quantised file without the patterns of values, which lie beyond its ranges.
    if cell.sqnr_db is not None:
        return max(10 ** (-cell.sqnr_db / 20), _LEAST)
    return None if cell.rel_l2 is None else max(cell.rel_l2, _LEAST)


def _trace(
    found: Matrix, column: Column, cells: list[Cell], over: str, *, legend: bool = True
) -> dict[str, Any]:
    runtimes = list(dict.fromkeys(each.runtime for each in found.columns))
    precisions = list(dict.fromkeys(each.precision for each in found.columns))
    megabytes = over == "size"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(column.title),
        "legendgroup": column.title,
        "showlegend": legend,
        "meta": over,
        "xaxis": "x2" if megabytes else "x",
        "yaxis": "y",
        "x": [(cell.bytes or 0) / 1e6 if megabytes else cell.p50_ms for cell in cells],
        "y": [_distance(cell) for cell in cells],
        "text": [escape(said(cell)).replace(": ok", "<br>ok", 1) for cell in cells],
        "customdata": [
            {
                "model": cell.model,
                "said": said(cell),
                "error": _distance(cell),
                "ms": cell.p50_ms,
                "mb": (cell.bytes or 0) / 1e6,
            }
            for cell in cells
        ],
        "hoverinfo": "text",
        "marker": {
            "size": 8,
            "color": _COLOURS[runtimes.index(column.runtime) % len(_COLOURS)],
            "symbol": _SHAPES[precisions.index(column.precision) % len(_SHAPES)],
        },
    }


def _layout(timed: bool) -> dict[str, Any]:
    """Two plots beside each other that share the axis of errors; without times one."""
    layout: dict[str, Any] = {
        "height": 520,
        "legend": {"title": {"text": "runtime and precision"}},
        "yaxis": {
            "type": "log",
            "title": {"text": "relative L2 error"},
            "exponentformat": "power",
            "dtick": 1,
        },
        "xaxis2": {
            "type": "log",
            "title": {"text": "size, megabytes"},
            "domain": [0.53, 1] if timed else [0, 1],
            "anchor": "y",
        },
    }
    if timed:
        title = {"text": "median latency, milliseconds"}
        layout["xaxis"] = {"type": "log", "title": title, "domain": [0, 0.47]}
    return layout
