"""Small drawings of a figure over the nights, as SVG paths in whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converter.trends.noise import Series

STEP, HEIGHT = 8, 40
"""Of the drawing's own units: from night to night, and from the top to the bottom."""

_EDGE = 4
Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spark:
    """Paths.

    Attributes:
        line: through the figures; with gaps where a night has none.
        band: what is noise; empty where the figure never moves.
        outside: dots on what is beyond it.
    """

    line: str
    band: str
    outside: str


def spark(series: Series) -> Spark:
    """The drawing of a figure that at least one night has."""
    values = [value for value in series.values if value is not None]
    moves = min(values) != max(values)
    # Without its figure a band says nothing.
    known = zip(series.values, series.bands, strict=True)
    bands = [None if value is None else band for value, band in known] if moves else []
    # What is noise in any case must not look like a mountain range.
    low = min(min(values) * (1 - series.kind.share), *(each.low for each in bands if each), 1e300)
    high = max(max(values) * (1 + series.kind.share), *(each.high for each in bands if each), 0.0)

    def point(at: int, value: float) -> Point:
        share = (value - low) / (high - low) if high > low else 0.5
        return at * STEP + STEP // 2, round(HEIGHT - _EDGE - share * (HEIGHT - 2 * _EDGE))

    points = [None if value is None else point(at, value) for at, value in enumerate(series.values)]
    lows = [None if each is None else point(at, each.low) for at, each in enumerate(bands)]
    highs = [None if each is None else point(at, each.high) for at, each in enumerate(bands)]
    return Spark(
        # A night between two without a figure would be a line of no length: round ends show it.
        "".join(f"{_path(run)}h0" if len(run) == 1 else _path(run) for run in _runs(points)),
        "".join(
            f"{_path([*upper, *reversed(lower)])}z"
            for upper, lower in zip(_runs(highs), _runs(lows), strict=True)
        ),
        "".join(f"M{x} {y}h0" for x, y in (points[at] or (0, 0) for at in sorted(series.outside))),
    )


def _runs(points: Iterable[Point | None]) -> list[list[Point]]:
    """Points that follow each other without a gap."""
    runs: list[list[Point]] = [[]]
    for each in points:
        if each is not None:
            runs[-1].append(each)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(points: Sequence[Point]) -> str:
    """Lines from point to point; what lies on a straight line is one."""
    (x, y), *rest = points
    path, flat = f"M{x} {y}", 0
    for to_x, to_y in rest:
        if to_y == y:
            flat += to_x - x
        else:
            path += f"h{flat}" if flat else ""
            path += f"l{to_x - x} {to_y - y}"
            flat = 0
        x, y = to_x, to_y
    return path + (f"h{flat}" if flat else "")
