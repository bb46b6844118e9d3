"""The latencies of a run in words: a short form for each, a table of 80 columns, the doubts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converter.job import Latency
from converter.manifest import Row
from converter.run import columns

_HEAD = ("model", "provider", "shape", "p50 ms", "p99 ms", "torch ms", "speedup", "stable")
_NAME_WIDTH = 18
_SHAPE_WIDTH = 13
_DOUBTS = 5


def render(rows: Sequence[Row], most: int) -> list[str]:
    """The parts of a summary: the table of at most ``most`` models, and what is in doubt."""
    with_latency = [row for row in rows if row.latency]
    if not with_latency:
        return []
    parts = []
    measured = [row for row in with_latency if any(e.status == "measured" for e in row.latency)]
    if measured and len(measured) <= most:
        parts.append(table(measured))
    if lines := [*_not_measured(with_latency), *(f"* {doubt}" for doubt in doubts(with_latency))]:
        parts.append("\n".join(lines))
    return parts


def short(latency: Latency) -> str:
    """``cpu 12.3 ms``, or ``cuda unavailable``."""
    if latency.status != "measured":
        return f"{latency.provider} {latency.status}"
    return f"{latency.provider} {figure(latency.p50_ms)} ms"


def figure(value: float | None) -> str:
    """Three digits, and no exponent; ``-`` where there is none."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def table(rows: Iterable[Row]) -> str:
    """A line for each measured latency, at most 80 columns wide; ``*``: there are notes on it."""
    cells = [
        _cells(row.name, entry)
        for row in rows
        for entry in row.latency
        if entry.status == "measured"
    ]
    return columns.table(_HEAD, cells, left=3)


def _cells(name: str, entry: Latency) -> tuple[str, ...]:
    shape = next(("x".join(map(str, shape)) for shape in entry.shapes.values()), "-")
    return (
        columns.shorten(name, _NAME_WIDTH),
        entry.provider,
        columns.shorten(shape, _SHAPE_WIDTH),
        figure(entry.p50_ms),
        figure(entry.p99_ms),
        figure(entry.torch_p50_ms),
        f"{entry.speedup:.2f}x" if entry.speedup is not None else "-",
        ("yes" if entry.stable else "NO") + ("*" if entry.notes else ""),
    )


@dataclass(frozen=True)
class Missing:
    """A provider without a figure, for one reason; ``models``: where, each named once."""

    provider: str
    status: str
    reason: str
    models: tuple[str, ...]


def not_measured(rows: Iterable[Row]) -> list[Missing]:
    """Why latencies are missing, each reason with the models that it concerns."""
    concerned: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows:
        for entry in row.latency:
            if entry.status != "measured":
                why = entry.provider, entry.status, entry.reason or "no reason was recorded"
                concerned.setdefault(why, {})[row.name] = None
    return [Missing(*why, tuple(models)) for why, models in concerned.items()]


def _not_measured(rows: Iterable[Row]) -> list[str]:
    return [
        f"latency {item.provider} {item.status}: {item.reason} ({_names(item.models)})"
        for item in not_measured(rows)
    ]


def doubtful(rows: Iterable[Row]) -> tuple[int, int]:
    """How many figures have notes, and how many there are."""
    figures = [entry for row in rows for entry in row.latency if entry.status == "measured"]
    return sum(bool(entry.notes) for entry in figures), len(figures)


def doubts(rows: Iterable[Row]) -> list[str]:
    """What makes figures doubtful, the most frequent first, each with one example."""
    models = Counter[str]()
    example: dict[str, str] = {}
    for row in rows:
        notes = [note for entry in row.latency for note in entry.notes]
        for kind in dict.fromkeys(map(_kind, notes)):
            models[kind] += 1
            first = next(note for note in notes if _kind(note) == kind)
            example.setdefault(kind, f"{row.name}: {first}")
    lines = []
    for kind, count in models.most_common(_DOUBTS):
        others = f" (and {count - 1} more)" if count > 1 else ""
        lines.append(f"{example[kind]}{others}")
    return lines


def _kind(note: str) -> str:
    """Notes of one kind differ in what follows the first words."""
    return note.removeprefix("PyTorch: ").partition(":")[0]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
