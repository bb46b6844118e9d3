"""The figures of the page, as Plotly reads them: data and layout, no drawing of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from converter.display import columns, summary
from converter.model import units
from converter.model.manifest import ArtifactRow
from converter.model.records import STAGES, Latency
from converter.plugins.reports import _facts
from converter.plugins.reports import _timeline as _timeline_of
from converter.plugins.reports._columns import number

# More bars than these cannot be read, and each costs time to draw.
_MOST = 50
_BAR_HEIGHT, _FRAME_HEIGHT = 22, 120
_LABEL_WIDTH = 28


@dataclass(frozen=True)
class Figure:
    """One plot; without ``data`` there is only its caption, which then says why."""

    name: str
    title: str
    caption: str
    data: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)

    @property
    def alternative(self) -> str:
        """What it shows, for those who do not see it."""
        axes = [f"{name[0]}: {self.layout[name]['title']['text']}" for name in sorted(self.layout)
                if name[1:].startswith("axis")]  # fmt: skip
        return (
            f"{self.title}. {self.caption} Axes: {', '.join(axes)}. The figures are in the table."
        )


def figures(rows: Sequence[ArtifactRow]) -> list[Figure]:
    return [_latencies(rows), _speedups(rows), _sizes(rows), _times(rows), _timeline(rows)]


def _measured(row: ArtifactRow) -> list[Latency]:
    """A row's first record of each provider, where it has figures."""
    # Backwards, so that of several records of a provider the first one stays.
    firsts = {entry.provider: entry for entry in reversed(row.latency)}
    return [entry for entry in reversed(firsts.values()) if entry.p50_ms is not None]


def _latencies(rows: Sequence[ArtifactRow]) -> Figure:
    name, title = "latency", "Latency for each provider"
    timed = [row for row in rows if _measured(row)]
    if not timed:
        return Figure(name, title, _facts.unmeasured(rows))
    timed.sort(key=lambda row: -max(entry.p50_ms or 0 for entry in _measured(row)))
    shown = timed[:_MOST]
    traces = []
    for provider in _facts.providers(shown):
        points = [(at, entry) for at, entry in _of(shown, provider) if entry.p50_ms is not None]
        # Plotly draws a whisker as a length, from the dot on.
        tails = [max((entry.p99_ms or 0) - (entry.p50_ms or 0), 0) for _, entry in points]
        traces.append(
            _markers(provider, shown, [(at, entry.p50_ms) for at, entry in points], "ms")
            | {"error_x": {"type": "data", "symmetric": False, "array": tails, "width": 3}}
        )
    caption = f"The dot is the median, the whisker ends at p99. {_cut('slowest', timed, shown)}"
    layout = _list_layout(shown, "median latency, milliseconds", "log")
    return Figure(name, title, caption, traces, layout | legend("provider"))


def _speedups(rows: Sequence[ArtifactRow]) -> Figure:
    name, title = "speedup", "Speedup over PyTorch"
    timed = [row for row in rows if any(entry.speedup for entry in _measured(row))]
    if not timed:
        return Figure(name, title, _no_speedup(rows))
    # The least first: of a long list only the beginning is drawn, and what is slower than PyTorch
    # must be in it.
    timed.sort(key=lambda row: min(entry.speedup or 0 for entry in _measured(row)))
    shown = timed[:_MOST]
    traces = [
        _markers(
            provider,
            shown,
            [(at, entry.speedup) for at, entry in _of(shown, provider) if entry.speedup],
            "×",
        )
        for provider in _facts.providers(shown)
    ]
    layout = _list_layout(shown, "times as fast as PyTorch", "linear") | legend("provider")
    layout["xaxis"]["rangemode"] = "tozero"
    one = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1}
    layout["shapes"] = [one | {"line": {"dash": "dot", "width": 1}}]
    caption = (
        "PyTorch's median over that of ONNX Runtime; left of the dotted line the file is slower. "
        + _cut("least sped up", timed, shown)
    )
    return Figure(name, title, caption, traces, layout)


def _no_speedup(rows: Sequence[ArtifactRow]) -> str:
    """Why there is no speedup of any model."""
    if not _facts.measured(rows):
        return _facts.unmeasured(rows)
    if not any(entry.torch_p50_ms for row in rows for entry in _measured(row)):
        return "PyTorch was not timed."
    return (
        "PyTorch was timed, but there is no ratio of two medians that are both sound: "
        "the sections of the models say what speaks against them."
    )


def _sizes(rows: Sequence[ArtifactRow]) -> Figure:
    name, title = "size", "Size against latency"
    timed = [row for row in rows if _measured(row) and _facts.file_bytes(row)]
    if not timed:
        return Figure(name, title, _facts.unmeasured(rows))
    traces = []
    for provider in _facts.providers(timed):
        found = [(timed[at], entry) for at, entry in _of(timed, provider) if entry.p50_ms]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escape(_facts.short(provider)),
                "x": [(_facts.file_bytes(row) or 0) / 1e6 for row, _ in found],
                "y": [entry.p50_ms for _, entry in found],
                "text": [
                    f"{escape(row.label)}<br>{units.size(_facts.file_bytes(row) or 0)}, "
                    f"{number(entry.p50_ms)} ms"
                    for row, entry in found
                ],
                "hoverinfo": "text+name",
            }
        )
    layout = {
        "height": 420,
        "xaxis": {"type": "log", "title": {"text": "size, megabytes"}},
        "yaxis": {"type": "log", "title": {"text": "median latency, milliseconds"}},
    } | legend("provider")
    return Figure(name, title, "Both axes are logarithmic.", traces, layout)


def _times(rows: Sequence[ArtifactRow]) -> Figure:
    name, title = "time", "Where the time went"
    total = sum(summary.seconds(row) for row in rows)
    if not total:
        return Figure(name, title, "No stage was run.")
    ran = sorted(rows, key=lambda row: -summary.seconds(row))
    shown = ran[:_MOST]
    traces = []
    shares = []
    for stage in STAGES:
        spent = sum(_spent(row, stage) for row in rows)
        if spent:
            shares.append((spent / total, stage))
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": stage,
                    "y": list(range(len(shown))),
                    "x": [_spent(row, stage) for row in shown],
                    "text": [
                        f"{escape(row.label)}<br>{stage} {_spent(row, stage):.2f} s"
                        for row in shown
                    ],
                    # Plotly writes the text of a bar into the bar: here it is for the pointer only.
                    "textposition": "none",
                    "hoverinfo": "text",
                }
            )
    listed = ", ".join(f"{stage} {share:.0%}" for share, stage in sorted(shares, reverse=True))
    caption = f"{number(total)} s in the stages of all models: {listed}. "
    layout = _list_layout(shown, "time in the stages, seconds", "linear") | legend("stage")
    layout |= {"barmode": "stack", "bargap": 0.35}
    return Figure(name, title, caption + _cut("slowest", ran, shown), traces, layout)


def _timeline(rows: Sequence[ArtifactRow]) -> Figure:
    return Figure("timeline", "When and where jobs ran", *_timeline_of.drawn(rows))


def _spent(row: ArtifactRow, stage: str) -> float:
    return next((found.seconds or 0.0 for key, found in row.stages.items() if key == stage), 0.0)


def _of(rows: Sequence[ArtifactRow], provider: str) -> list[tuple[int, Latency]]:
    """The measured records of one provider, with the place of their row."""
    return [
        (at, entry)
        for at, row in enumerate(rows)
        for entry in _measured(row)
        if entry.provider == provider
    ]


def _markers(
    provider: str,
    rows: Sequence[ArtifactRow],
    points: Sequence[tuple[int, float | None]],
    unit: str,
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(_facts.short(provider)),
        "x": [value for _, value in points],
        "y": [at for at, _ in points],
        "text": [f"{escape(rows[at].label)}<br>{number(value)} {unit}" for at, value in points],
        "hoverinfo": "text+name",
    }


def legend(title: str) -> dict[str, Any]:
    """The part of a layout that says what the colours stand for."""
    return {"legend": {"title": {"text": title}}}


def _list_layout(rows: Sequence[ArtifactRow], unit: str, scale: str) -> dict[str, Any]:
    """A line for each model, the first on top. Plotly reads markup in labels: it is escaped."""
    labels = [escape(columns.shorten(row.label, _LABEL_WIDTH)) for row in rows]
    return {
        "height": _FRAME_HEIGHT + _BAR_HEIGHT * len(rows),
        "xaxis": {"type": scale, "title": {"text": unit}},
        "yaxis": {
            "title": {"text": "model", "standoff": 12},
            # By number: as names, two labels that are cut to the same text would share a line.
            "tickvals": list(range(len(rows))),
            "ticktext": labels,
            # From the end to the start: Plotly counts upwards.
            "range": [len(rows) - 0.4, -0.6],
        },
    }


def _cut(which: str, rows: Sequence[ArtifactRow], shown: Sequence[ArtifactRow]) -> str:
    return "" if len(shown) == len(rows) else f"The {len(shown)} {which} of {len(rows)} models."
