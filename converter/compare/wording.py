"""A comparison in words, for a terminal and a log."""

from __future__ import annotations

from collections.abc import Iterable

from converter.compare.causes import arrow
from converter.model.changes import Change, Comparison

# In the order in which they are told: somebody may read the first lines only.
_TITLES = {"regression": "worse", "improvement": "better", "note": "changed"}
_MOST_NOTES, _MOST, _MOST_NAMES = 40, 200, 10


def lines(comparison: Comparison) -> list[str]:
    """The verdict, what is worse with its possible reasons, and what else changed."""
    if comparison.verdict == "no_baseline":
        return ["no baseline yet: this is the first complete run of all models (no_baseline)"]
    started = comparison.baseline_started_at
    told = [f"compared with {comparison.baseline_run_id} of {started}: {comparison.verdict}"]
    for severity, title in _TITLES.items():
        found = [change for change in comparison.changes if change.severity == severity]
        told += [f"{title}: {text}" for text in _told(found, severity)]
    for cause in comparison.causes:
        if len(cause.models) > 1:
            names = ", ".join(cause.models[:_MOST_NAMES])
            names += ", …" if len(cause.models) > _MOST_NAMES else ""
            told.append(f"one cause, {len(cause.models)} models: {names}")
    # Another version is no news by itself; beside a change it may be the reason.
    if comparison.changes and comparison.environment:
        differences = (arrow(part.name, part.before, part.after) for part in comparison.environment)
        told.append(f"also different: {', '.join(differences)}")
    return told


def _told(changes: list[Change], severity: str) -> Iterable[str]:
    # What is worse is cut where nobody would read it: a machine that is wrong as a whole.
    shown = changes[: _MOST_NOTES if severity == "note" else _MOST]
    yield from (line(change) for change in shown)
    if len(shown) < len(changes):
        yield f"{len(changes) - len(shown)} more, see manifest.json"


def line(change: Change) -> str:
    """``resnet18: size 44700000 → 47000000 (+5.1%); possible cause: torch 2.14 → 2.15``."""
    words = [f"{change.about}: {change.kind.replace('_', ' ')}", said(change)]
    return " ".join(word for word in words if word) + _possible_cause(change)


def said(change: Change) -> str:
    """``44700000 → 47000000 (+5.1%, allowed +5.0%)``; empty for a model that came or went."""
    # Two histograms are too long for a line, and what came or went has one side only.
    if change.kind in ("ops", "added", "removed"):
        return change.detail
    values = f"{_value(change.before)} → {_value(change.after)}"
    return f"{values} ({change.detail})" if change.detail else values


def _possible_cause(change: Change) -> str:
    return f"; possible cause: {', '.join(change.explained_by)}" if change.explained_by else ""


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
