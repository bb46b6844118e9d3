"""The nights of an experiment in words: a line for each model, or one model night by night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from converter.display import columns
from converter.display.columns import Table
from converter.display.letters import LETTERS
from converter.display.screen import Paragraph
from converter.trends import noise, strips
from converter.trends.nights import Figures, Night
from converter.trends.strips import ABSENT, Event, History, Strip

_MOST, _TOLD = 40, 20  # models that have a line in the table, and a sentence below it
_BESIDE = 48  # columns of a line that no letters stand in: name, status, day, spaces
_NONE = "-"


def paragraphs(history: History, width: int) -> list[Paragraph]:
    """All models: what changed last comes first.

    Args:
        width: columns that there are.
    """
    changed = [strip for strip in history.strips if strip.events or strip.fails]
    few = len(history.strips) <= _MOST
    shown = history.strips if few else changed[:_MOST]
    parts: list[Paragraph] = [heading(history)]
    if shown:
        parts.append(_table(shown, history.nights, max(width - _BESIDE, 10)))
        parts.append(_legend(shown))
    if left := len(history.strips) - len(shown):
        steady = len(history.strips) - len(changed)
        more = [f"{left - steady} more changed"] * (left > steady)
        more += [f"{steady} more did not change"] * (steady > 0)
        parts.append(f"{', '.join(more)}; history.html has every line.")
    told = [line for strip in changed[:_TOLD] for line in _told(strip, history.nights)]
    told += [f"… and {len(changed) - _TOLD} more"] if len(changed) > _TOLD else []
    return [*parts, *(["\n".join(told)] if told else []), *_versions(history)]


def heading(history: History) -> str:
    """``zoo: 30 nights, 2026-11-01 to 2026-11-30; exit code of the last one: 1``."""
    nights = history.nights
    count = f"{len(nights)} night{'s' * (len(nights) != 1)}"
    of = f" of {history.total}" if history.total > len(nights) else ""
    days = dict.fromkeys([nights[0].date, nights[-1].date])
    code = nights[-1].exit_code
    return f"{history.experiment}: {count}{of}, {' to '.join(days)}; last exit code: {code}"


def model(strip: Strip, history: History) -> list[Paragraph]:
    """One artifact, a line for each night that has it, the newest first."""
    timed = [one for one in strip.series if one.kind is noise.LATENCY]
    others = [one for one in strip.series if one.kind is not noise.LATENCY]
    series = [*timed, *others]
    head = ["night", "status", *(one.about or one.name for one in series), "file"]
    rows = []
    for at in reversed(range(len(history.nights))):
        if (cell := strip.cells[at]) is None:
            continue
        figures = [_figure(one, at) for one in series]
        file = (cell.sha256 or _NONE)[:8]
        rows.append([history.nights[at].time, cell.status, *figures, file])
    parts: list[Paragraph] = [strip.label, columns.table(head, rows, left=2)]
    if any(one.outside for one in series):
        parts.append("* beyond the noise of the nights before")
    happened = [line for event in strip.latest for line in _event(event, history.nights)]
    return [*parts, *(["\n".join(happened)] if happened else [])]


def record(history: History) -> dict[str, Any]:
    """The same as one JSON object; figures of a model in the order of the nights."""
    return {
        "experiment": history.experiment,
        "total": history.total,
        "nights": [
            {
                "id": night.id,
                "directory": night.directory,
                "started_at": night.started_at,
                "exit_code": night.exit_code,
                "counts": night.counts,
                "changed": [each.model_dump() for each in changes],
            }
            for night, changes in zip(history.nights, history.changes, strict=True)
        ],
        "models": [_model(strip, history.nights) for strip in history.strips],
    }


def _model(strip: Strip, nights: Sequence[Night]) -> dict[str, Any]:
    return {
        "model": strip.model,
        "artifact": strip.artifact,
        "nights": [None if cell is None else _cell(cell) for cell in strip.cells],
        "events": [
            {"run": nights[event.at].id, "text": event.text, "because": event.because}
            for event in strip.events
        ],
    }


def _cell(cell: Figures) -> dict[str, Any]:
    latency = {
        provider: {"p50_ms": each.p50, "low_ms": each.low, "high_ms": each.high}
        for provider, each in cell.latency.items()
    }
    plain = {name: getattr(cell, name) for name in cell.__slots__ if name != "latency"}
    return {**plain, "latency": latency}


def _table(shown: Sequence[Strip], nights: Sequence[Night], most: int) -> Table:
    rows = []
    for strip in shown:
        letters = "".join(LETTERS[state] for state in strip.states)[-most:]
        status = strip.states[-1].replace("_", " ")
        rows.append([strip.label, letters, status, strip.since(nights)])
    return columns.table(["model", "nights", "now", "since"], rows, left=4)


def _legend(shown: Sequence[Strip]) -> str:
    seen = {state for strip in shown for state in strip.states} - {ABSENT}
    return ", ".join(f"{letter} {state}" for state, letter in LETTERS.items() if state in seen)


def _told(strip: Strip, nights: Sequence[Night]) -> Iterator[str]:
    """What happened last: of a model that fails what it fails with."""
    if strip.fails and strip.last and not any(event.status for event in strip.events):
        # It has failed in all of these nights.
        since = strip.since(nights)
        yield f"{strip.label}: {strips.came_to(strip.last)}{' since ' * bool(since)}{since}"
    elif strip.events:
        last, *hint = _event(strip.latest[0], nights)
        yield f"{strip.label}: {last}"
        yield from hint


def _event(event: Event, nights: Sequence[Night]) -> Iterator[str]:
    yield f"{nights[event.at].date} {event.text}"
    if event.because:
        yield f"    changed then: {event.because}"


def _versions(history: History) -> Iterator[Paragraph]:
    """By night what all models ran on that was not so before."""
    lines = [
        f"{night.date} {strips.sentence(changes)}"
        for night, changes in zip(history.nights, history.changes, strict=True)
        if changes
    ]
    if lines:
        yield "\n".join(["versions and machine:", *lines])


def _figure(series: noise.Series, at: int) -> str:
    value = series.values[at]
    if value is None:
        return _NONE
    mark = "*" if at in series.outside else ""
    return f"{strips.text_of(series.kind, value)}{mark}"
