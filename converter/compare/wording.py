"""A comparison in words, for a terminal and a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from converter.compare.causes import arrow
from converter.model.changes import Change, Comparison
from converter.model.units import size

# In the order in which they are told: somebody may read the first lines only.
_TITLES = {"regression": "worse", "improvement": "better", "note": "changed"}
_NEWLY = "newly_failing"
_MOST_NOTES, _MOST, _MOST_NAMES = 40, 200, 10


def lines(comparison: Comparison) -> list[str]:
    """The verdict, what is worse with what else differs there, and what else changed."""
    if comparison.verdict == "no_baseline":
        return ["no baseline yet: this is the first complete run of all models (no_baseline)"]
    started = comparison.baseline_started_at
    told = [f"compared with {comparison.baseline_run_id} of {started}: {comparison.verdict}"]
    for severity, title in _TITLES.items():
        found = [change for change in comparison.changes if change.severity == severity]
        told += [f"{title}: {text}" for text in _told(found, severity)]
    # Another version is no news by itself; beside a change it may be the reason. Once is enough.
    named = {reason for change in comparison.changes for reason in change.explained_by}
    differences = [arrow(part.name, part.before, part.after) for part in comparison.environment]
    further = [each for each in differences if each not in named]
    if comparison.changes and further:
        told.append(f"also different: {', '.join(further)}")
    return told


def _told(changes: list[Change], severity: str) -> list[str]:
    groups = together(changes)
    # What is worse is cut where nobody would read it: a machine that is wrong as a whole.
    shown = groups[: _MOST_NOTES if severity == "note" else _MOST]
    left = sum(map(len, groups[len(shown) :]))
    return [*map(_group, shown), *([f"{left} more, see manifest.json"] if left else [])]


def together(changes: Iterable[Change]) -> list[list[Change]]:
    """What fails now first; changes of one cause, with the same that differs, as one."""
    groups: dict[object, list[Change]] = {}
    for number, change in enumerate(sorted(changes, key=lambda each: each.kind != _NEWLY)):
        shared = change.cause is not None and change.kind == _NEWLY
        groups.setdefault((change.cause, *change.explained_by) if shared else number, []).append(
            change
        )
    return [*groups.values()]


def _group(changes: list[Change]) -> str:
    """``resnet18, vgg11 (torch 2.14 → 2.15): newly failing ok → failed (EXPORT: …)``."""
    names = ", ".join(change.about for change in changes[:_MOST_NAMES])
    names += f" and {len(changes) - _MOST_NAMES} more" if len(changes) > _MOST_NAMES else ""
    return _line(changes[0], names)


def line(change: Change) -> str:
    """``resnet18 (torch 2.14 → 2.15): size 44.7 MB → 47 MB (+5.1%)``."""
    return _line(change, change.about)


def _line(change: Change, about: str) -> str:
    # Before what was seen: it is what can be put right.
    why = f" ({', '.join(change.explained_by)})" if change.explained_by else ""
    words = [f"{about}{why}: {change.kind.replace('_', ' ')}", said(change)]
    return " ".join(word for word in words if word)


def said(change: Change) -> str:
    """``44700000 → 47000000 (+5.1%, allowed +5.0%)``; empty for a model that came or went."""
    # Two histograms are too long for a line, and what came or went has one side only.
    if change.kind in ("ops", "added", "removed"):
        return change.detail
    values = f"{value(change.before, change.kind)} → {value(change.after, change.kind)}"
    return f"{values} ({change.detail})" if change.detail else values


def value(found: Any, kind: str) -> str:
    """What a change of a kind was from or to, for people."""
    if kind == "size" and isinstance(found, int):
        return size(found)
    if isinstance(found, list):
        return ", ".join(map(str, found))
    if isinstance(found, dict):
        return ", ".join(f"{name} {each}" for name, each in found.items())
    return "–" if found is None else f"{found:.4g}" if isinstance(found, float) else str(found)
