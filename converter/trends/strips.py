"""A strip for each artifact: its nights, its figures, and what happened in which night."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

from converter.compare import causes
from converter.model import artifact, units
from converter.model.changes import Difference
from converter.trends import noise
from converter.trends.nights import Figures, Label, Night
from converter.trends.noise import Kind, Series

ABSENT = "absent"
_MOST = 4  # versions that a sentence names


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an artifact in a night.

    Attributes:
        at: the number of the night.
        status: that it came to, where that is what happened; else empty.
        code: of the error, where it came to one; the text names it.
        because: what else changed then.
    """

    at: int
    text: str
    status: str = ""
    because: str = ""
    code: str = ""


@dataclass(frozen=True)
class Strip:
    """An artifact over the nights.

    Attributes:
        cells: ``None``: that night did not have it.
        events: in the order of nights.
        series: of the latency on each provider, then of error, size and time.
    """

    model: str
    artifact: str
    cells: Sequence[Figures | None]
    events: Sequence[Event]
    series: Sequence[Series]

    @property
    def label(self) -> str:
        return artifact.label(self.model, self.artifact)

    @cached_property
    def states(self) -> list[str]:
        return [cell.status if cell else ABSENT for cell in self.cells]

    @property
    def last(self) -> Figures | None:
        """Of the newest night."""
        return self.cells[-1]

    @property
    def fails(self) -> bool:
        """Whether somebody has to look at it now."""
        return self.last is not None and not (self.last.expected or self.last.optional)

    @property
    def fails_newly(self) -> bool:
        """Whether it was as expected, or not there, in the night before the last one."""
        return self.fails and (self.cells[-2] is None or self.cells[-2].expected)

    @property
    def newest(self) -> int:
        """The night of its last event; -1: nothing has happened."""
        return self.events[-1].at if self.events else -1

    @property
    def latest(self) -> list[Event]:
        """The events of the newest night first."""
        return sorted(self.events, key=lambda event: -event.at)

    def since(self, nights: Sequence[Night]) -> str:
        """The day since which it has had its status; empty: since before these nights."""
        if self.last is not None and self.last.failing_since and not self.last.expected:
            return self.last.failing_since[:10]
        at = len(self.states) - 1
        while at > 0 and self.states[at - 1] == self.states[-1]:
            at -= 1
        return nights[at].date if at else ""


@dataclass(frozen=True)
class History:
    """An experiment over its last nights, the oldest first.

    Attributes:
        experiment: its name.
        total: nights that are on record.
        changes: by night what it ran on that was not so the night before.
        strips: by their ``rank``.
    """

    experiment: str
    total: int
    nights: Sequence[Night]
    changes: Sequence[Sequence[Difference]] = field(default=())
    strips: Sequence[Strip] = field(default=())

    def of(self, strips: Iterable[Strip]) -> History:
        """The same nights with these strips alone."""
        return replace(self, strips=sorted(strips, key=rank))


def history(experiment: str, total: int, nights: Sequence[Night]) -> History:
    """The nights, without any strips yet."""
    pairs = pairwise(nights)
    changes = [[], *(after.changed_since(before) for before, after in pairs)] if nights else []
    return History(experiment, total, nights, changes)


def strips(
    history: History, cells: Iterable[tuple[Label, Sequence[Figures | None]]]
) -> Iterator[Strip]:
    """Work out what happened in which night, one artifact after the other."""
    told = [sentence(each) for each in history.changes]
    return (_strip(label, row, told) for label, row in cells)


def rank(strip: Strip) -> tuple[int, bool, str, bool, str]:
    """Its place: what changed last comes first, of that what fails, then by name."""
    derives = strip.artifact != artifact.ONNX  # behind what it is made from
    return -strip.newest, not strip.fails, strip.model, derives, strip.artifact


def sentence(differences: Sequence[Difference]) -> str:
    """``torch 2.14.0 → 2.15.0, onnx 1.22.0 → 1.23.2 and 3 more``."""
    named = [causes.arrow(each.name, each.before, each.after) for each in differences]
    more = f" and {len(named) - _MOST} more" if len(named) > _MOST else ""
    return ", ".join(named[:_MOST]) + more


def text_of(kind: Kind, value: float) -> str:
    """A figure for people."""
    if kind is noise.SIZE:
        return units.size(int(value))
    if kind is noise.ERROR:
        return f"{value:.1e}"
    if kind is noise.SECONDS:
        return f"{value:.1f} s"
    return f"{value:.3g} ms"


def came_to(figures: Figures) -> str:
    """``failed EXPORT_UNSUPPORTED: aten::roll has no ONNX form``."""
    words = figures.status.replace("_", " ")
    if figures.code is None:
        return words
    return f"{words} {figures.code}" + (f": {figures.message}" if figures.message else "")


def _strip(label: Label, cells: Sequence[Figures | None], changes: Sequence[str]) -> Strip:
    series = _series(cells)
    events = [*_changes_of_status(cells, changes), *_steps(series, changes)]
    events.sort(key=lambda event: event.at)
    return Strip(*label, cells, events, series)


def _series(cells: Sequence[Figures | None]) -> list[Series]:
    providers = dict.fromkeys(name for cell in cells if cell for name in cell.latency)
    found = []
    for provider in providers:
        medians = [cell.latency.get(provider) if cell else None for cell in cells]
        reach = [
            (each.low, each.high)
            if each and each.low is not None and each.high is not None
            else None
            for each in medians
        ]
        values = [each.p50 if each else None for each in medians]
        found.append(noise.series(noise.LATENCY, values, provider, reach))
    for kind, name in (
        (noise.ERROR, "max_abs"), (noise.SIZE, "bytes"), (noise.SECONDS, "seconds"),
    ):  # fmt: skip
        figures = [getattr(cell, name) if cell else None for cell in cells]
        if any(value is not None for value in figures):
            found.append(noise.series(kind, figures))
    return found


def _changes_of_status(cells: Sequence[Figures | None], changes: Sequence[str]) -> Iterable[Event]:
    for at, (before, after) in enumerate(pairwise(cells), 1):
        if after is None:
            if before is not None:
                yield Event(at, "not in the list any more", ABSENT)
        elif before is None:
            # What was there before that has come back.
            again = any(cells[:at])
            came = "" if after.status == "ok" else f": {came_to(after)}"
            text = f"{'in the list again' if again else 'new'}{came}"
            yield Event(at, text, after.status, code=after.code or "")
        elif (before.status, before.code) != (after.status, after.code):
            because = (after.changed or changes[at]) if not after.expected else changes[at]
            text = "ok again" if after.status == "ok" else came_to(after)
            yield Event(at, text, after.status, because, after.code or "")


def _steps(series: Sequence[Series], changes: Sequence[str]) -> Iterable[Event]:
    for one in series:
        for at in one.steps:
            band, value = one.bands[at], one.values[at]
            if band is None or value is None:
                continue
            was, now = text_of(one.kind, band.middle), text_of(one.kind, value)
            by = (
                f" ({100 * (value / band.middle - 1):+.0f}\N{NO-BREAK SPACE}%)"
                if band.middle
                else ""
            )
            yield Event(at, f"{one.name} {was} → {now}{by}", because=changes[at])
