"""The latencies of a run in words: a short form, a table, doubts and remarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from converter.display import columns
from converter.display.columns import Table
from converter.display.screen import Paragraph
from converter.model.manifest import ArtifactRow
from converter.model.records import Latency

_HEAD = ("model", "provider", "shape", "p50 ms", "p99 ms", "torch ms", "speedup", "stable")
_KINDS = 5


def paragraphs(rows: Sequence[ArtifactRow], most: int) -> list[Paragraph]:
    """The parts of a summary: the table of at most ``most`` models, and what is said of them."""
    with_latency = [row for row in rows if row.latency]
    if not with_latency:
        return []
    parts: list[Paragraph] = []
    measured = [row for row in with_latency if any(e.status == "measured" for e in row.latency)]
    if measured and len(measured) <= most:
        parts.append(table(measured))
    lines = [
        *_not_measured(with_latency),
        *(f"* {doubt}" for doubt in doubts(with_latency)),
        *(f"* torch of {doubt}" for doubt in torch_doubts(with_latency)),
        *(f"remark: {remark}" for remark in remarks(with_latency)),
    ]
    return [*parts, "\n".join(lines)] if lines else parts


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


def table(rows: Iterable[ArtifactRow]) -> Table:
    """A line for each measured latency; ``*``: a doubtful one."""
    cells = [
        _cells(row.label, entry)
        for row in rows
        for entry in row.latency
        if entry.status == "measured"
    ]
    return columns.table(_HEAD, cells, left=3, shrinks=(0, 2))


def _cells(name: str, entry: Latency) -> tuple[str, ...]:
    # The first input stands for all: there is room for one.
    shape = next(("x".join(map(str, shape)) for shape in entry.shapes.values()), "-")
    return (
        name,
        entry.provider,
        shape,
        figure(entry.p50_ms),
        figure(entry.p99_ms),
        figure(entry.torch_p50_ms) + ("*" if entry.torch_notes else ""),
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


def not_measured(rows: Iterable[ArtifactRow]) -> list[Missing]:
    """Why latencies are missing, each reason with the models that it concerns."""
    concerned: dict[tuple[str, str, str], dict[str, None]] = {}
    for row in rows:
        for entry in row.latency:
            if entry.status != "measured":
                why = entry.provider, entry.status, entry.reason or "no reason was recorded"
                # A dict as a set that keeps its order: one model may lack it at several sizes.
                concerned.setdefault(why, {})[row.label] = None
    return [Missing(*why, tuple(models)) for why, models in concerned.items()]


def _not_measured(rows: Iterable[ArtifactRow]) -> list[str]:
    """Without those whose row fails for it: that is told with the failures."""
    told = [
        row.model_copy(update={"latency": [e for e in row.latency if not _failed_for(row, e)]})
        for row in rows
    ]
    return [
        f"latency {item.provider} {item.status}: {item.reason} ({_names(item.models)})"
        for item in not_measured(told)
    ]


def _failed_for(row: ArtifactRow, entry: Latency) -> bool:
    error = row.error
    if error is None or entry.reason is None:
        return False
    return entry.reason.startswith(f"{error.code}: {error.message}")


def doubtful(rows: Iterable[ArtifactRow]) -> tuple[int, int]:
    """How many figures of files are doubtful, and how many there are."""
    figures = [entry for row in rows for entry in row.latency if entry.status == "measured"]
    return sum(bool(entry.notes) for entry in figures), len(figures)


def torch_doubtful(rows: Iterable[ArtifactRow]) -> tuple[int, int]:
    """How many figures of PyTorch are doubtful, and how many there are."""
    figures = [entry for row in rows for entry in row.latency if entry.torch_p50_ms is not None]
    return sum(bool(entry.torch_notes) for entry in figures), len(figures)


def doubts(rows: Iterable[ArtifactRow]) -> list[str]:
    """What makes figures of files doubtful, the most frequent first, each with one example."""
    return _by_kind(rows, lambda entry: entry.notes)


def torch_doubts(rows: Iterable[ArtifactRow]) -> list[str]:
    """The same of the figures of PyTorch."""
    return _by_kind(rows, lambda entry: entry.torch_notes)


def remarks(rows: Iterable[ArtifactRow]) -> list[str]:
    """What is to be known and casts no doubt, in the same way."""
    return _by_kind(rows, lambda entry: entry.remarks)


def _by_kind(rows: Iterable[ArtifactRow], said: Callable[[Latency], list[str]]) -> list[str]:
    models = Counter[str]()
    example: dict[str, str] = {}
    for row in rows:
        notes = [note for entry in row.latency for note in said(entry)]
        # Models are counted, not notes: one may have the same doubt on each provider and at each
        # size.
        for kind in dict.fromkeys(map(_kind, notes)):
            models[kind] += 1
            first = next(note for note in notes if _kind(note) == kind)
            example.setdefault(kind, f"{row.label}: {first}")
    lines = []
    for kind, count in models.most_common(_KINDS):
        others = f" (and {count - 1} more)" if count > 1 else ""
        lines.append(f"{example[kind]}{others}")
    return lines


def _kind(note: str) -> str:
    """Notes of one kind differ in what follows the first words."""
    return note.partition(":")[0]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
