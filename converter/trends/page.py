"""``history.html``: an experiment over its nights as one page that needs nothing but itself."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup

from converter.display import explanations, pages, summary
from converter.display.letters import LETTERS
from converter.display.pages import escape
from converter.model.artifact import ONNX
from converter.plugins import reports
from converter.trends import noise, sparks, strips
from converter.trends.nights import Night
from converter.trends.noise import Kind, Series
from converter.trends.strips import ABSENT, History, Strip

FILE = "history.html"
NIGHTS = 30
"""So many are on the page; the file has all."""

_HERE = Path(__file__).parent
_STYLE = Path(reports.__file__).parent / "templates" / "report.css"
_TOLD = 4  # events of a model, the newest first; the command has all


@functools.cache
def _jinja() -> Environment:
    return pages.jinja(_HERE)


_TITLES = {
    noise.LATENCY: "Latency", noise.ERROR: "Worst error", noise.SIZE: "Size", noise.SECONDS: "Time",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """What the page needs of a strip, when that is gone.

    Attributes:
        cells: of the table: those before the figures, and by kind those of the figures.
        news: the nights in which something happened.
        codes: of errors that are told of.
    """

    rank: tuple[int, bool, str, bool, str]
    artifact: str
    cells: str
    figures: dict[Kind, str]
    states: frozenset[str]
    last: str
    fails: bool
    fails_newly: bool
    news: tuple[int, ...]
    codes: frozenset[str]


def render(history: History, found: Iterable[Strip], home: Path) -> str:
    """The page.

    Args:
        history: the nights alone.
        found: a strip for each artifact, in any order.
        home: where it is seen which nights still have a report.
    """
    script = pages.code(_HERE / "history.js")
    style = [pages.code(path) for path in (_STYLE, _HERE / "history.css")]
    lines = sorted((_line(strip, history) for strip in found), key=lambda line: line.rank)
    kinds = [kind for kind in _TITLES if any(kind in line.figures for line in lines)]
    return (
        _jinja()
        .get_template(FILE)
        .render(
            history=history,
            verdict=verdict(history, lines),
            good=not any(line.fails for line in lines),
            count=len(lines),
            columns=[_TITLES[kind] for kind in kinds],
            told=list(_told(history, lines, home)),
            rows=(_row(line, kinds) for line in lines),
            statuses=sorted({line.last for line in lines}),
            codes=frozenset().union(*(line.codes for line in lines)),
            letters=_letters(lines),
            ruler=_ruler(history),
            marks=Markup(_marks(history)),
            style=Markup("\n").join(style),
            script=script,
            digest=pages.allowed(script),
        )
    )


def verdict(history: History, lines: Sequence[Line]) -> str:
    """The newest night in a sentence."""
    wrong = [line for line in lines if line.fails]
    if not wrong:
        return "Every model is as expected."
    there = [line for line in lines if line.last != ABSENT]
    what = "model" if all(line.artifact == ONNX for line in there) else "artifact"
    told = f"{len(wrong)} of {len(there)} {what}{'s' * (len(there) != 1)} failed unexpectedly"
    if len(history.nights) == 1:
        return f"{told}."
    newly = sum(line.fails_newly for line in wrong)
    return f"{told}, {newly or 'none'} newly in the last night."


@dataclass(frozen=True)
class Told:
    """A night for its line in the table of nights.

    Attributes:
        link: to its report; empty where that is gone.
        changes: what it ran on that was not so the night before.
        news: how many models changed in it.
    """

    night: Night
    link: str
    counts: str
    changes: str
    news: int


def _told(history: History, lines: Iterable[Line], home: Path) -> Iterator[Told]:
    """The nights, the newest first."""
    news = Counter(at for line in lines for at in line.news)
    for at in reversed(range(len(history.nights))):
        night = history.nights[at]
        there = (home / night.directory / "report.html").is_file()
        counts = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in night.counts.items())
        link = f"{quote(night.directory)}/report.html" if there else ""
        changes = strips.sentence(history.changes[at])
        yield Told(night, link, counts, changes, news[at])


def _line(strip: Strip, history: History) -> Line:
    cells = (
        f'<tr data-status="{strip.states[-1]}" data-is="{_flags(strip, history)}">'
        f'<th scope="row">{escape(strip.label)}</th>'
        f"<td>{_drawn(strip, history)}</td>"
        f"<td>{_events(strip, history)}</td>"
    )
    figures: dict[Kind, str] = {}
    for one in strip.series:
        figures[one.kind] = figures.get(one.kind, "") + _figure(one)
    return Line(
        rank=strips.rank(strip),
        artifact=strip.artifact,
        cells=cells,
        figures=figures,
        states=frozenset(strip.states),
        last=strip.states[-1],
        fails=strip.fails,
        fails_newly=len(history.nights) > 1 and strip.fails_newly,
        news=tuple(event.at for event in strip.events),
        codes=frozenset(_codes(strip)),
    )


def _row(line: Line, kinds: Sequence[Kind]) -> Markup:
    """A line of the table, put together here: of ten thousand models a template is too slow."""
    figures = "".join(f"<td>{line.figures.get(kind, '')}</td>" for kind in kinds)
    return Markup(f"{line.cells}{figures}</tr>")


def _flags(strip: Strip, history: History) -> str:
    """What the table can be narrowed to."""
    found = {
        "fails": strip.fails,
        "tonight": bool(strip.events) and strip.newest == len(history.nights) - 1,
        "changed": bool(strip.events),
    }
    return " ".join(name for name, holds in found.items() if holds)


def _drawn(strip: Strip, history: History) -> str:
    """The letters of the nights, and the same in words for those who do not see them."""
    segments = list(_segments(strip, history))
    said = "; ".join(title for _, _, title in segments)
    letters = "".join(
        f'<i class="{kind}" title="{title}">{letters}</i>' for kind, letters, title in segments
    )
    return f'<span class="strip" role="img" aria-label="{said}">{letters}</span>'


def _segments(strip: Strip, history: History) -> Iterator[tuple[str, str, str]]:
    """Nights that follow each other with one status: its kind, their letters, and words."""
    for state, group in groupby(enumerate(strip.states), key=lambda pair: pair[1]):
        ats = [at for at, _ in group]
        kind = _kind(state)
        first, last = history.nights[ats[0]].date, history.nights[ats[-1]].date
        when = first if first == last else f"{first} to {last}"
        letters = (LETTERS[state] if state != ABSENT else "\N{NO-BREAK SPACE}") * len(ats)
        yield kind, letters, f"{state.replace('_', ' ')} {when}"


def _codes(strip: Strip) -> Iterator[str]:
    yield from (event.code for event in strip.events if event.code)
    if strip.last is not None and strip.last.code:
        yield strip.last.code


def _kind(state: str) -> str:
    if state == ABSENT:
        return "n"
    return "o" if state == "ok" else "w" if state in (*summary.EXPECTED, "not_run") else "f"


def _events(strip: Strip, history: History) -> str:
    """What happened, the newest first: the first in full, the others on demand."""
    told = [
        f"<b>{history.nights[event.at].date}</b> {_linked(event.text, event.code)}"
        + (f' <span class="because">{escape(event.because)}</span>' if event.because else "")
        for event in strip.latest
    ]
    if strip.fails and not any(event.status for event in strip.events) and strip.last:
        since = strip.since(history.nights)
        when = f" since <b>{since}</b>" if since else ""
        told.append(_linked(strips.came_to(strip.last), strip.last.code) + Markup(when))
    if len(told) < 2:
        return f"<p>{told[0]}</p>" if told else ""
    left = len(told) - 1 - _TOLD
    more = [f"<p>{each}</p>" for each in told[1 : _TOLD + 1]]
    more += [f"<p>and {left} before</p>"] if left > 0 else []
    # Where the figures of a night move, the sentence of the first is not enough to see it.
    return (
        f"<p>{told[0]}</p><details><summary>{len(told) - 1} more</summary>{''.join(more)}</details>"
    )


def _linked(text: str, code: str | None) -> Markup:
    """What happened; the code in it leads to what that means."""
    if not code:
        return escape(text)
    before, named, after = text.partition(code)
    link = Markup('<a class="code" href="#{}">{}</a>')
    named = link.format(explanations.anchor(named), named) if named else named
    return escape(before) + named + escape(after)


def _figure(series: Series) -> str:
    """The newest figure, and the drawing of all."""
    about = f"<small>{escape(series.about)}</small> " if series.about else ""
    last = series.last
    said = strips.text_of(series.kind, last) if last is not None else ""
    # What the last night does not have is of an earlier one.
    kind = "muted" if series.values[-1] is None else ""
    kind = "out" if len(series.values) - 1 in series.outside else kind
    marked = f' class="{kind}"' if kind else ""
    drawn = sparks.spark(series)
    paths = f'<path class="b" d="{drawn.band}"/>' if drawn.band else ""
    paths += f'<path d="{drawn.line}"/>'
    paths += f'<path class="d" d="{drawn.outside}"/>' if drawn.outside else ""
    size = f"0 0 {sparks.STEP * len(series.values)} {sparks.HEIGHT}"
    svg = f'<svg role="img" viewBox="{size}"><title>{_reach(series)}</title>{paths}</svg>'
    return f"<div>{svg}<span{marked}>{about}{said}</span></div>"


def _reach(series: Series) -> str:
    """What a drawing shows, in words: ``latency CPU 2.1 ms to 2.4 ms in 30 nights``."""
    values = [value for value in series.values if value is not None]
    low, high = (strips.text_of(series.kind, each) for each in (min(values), max(values)))
    nights = f"{len(values)} night{'s' * (len(values) != 1)}"
    return f"{escape(series.name)} {low if low == high else f'{low} to {high}'} in {nights}"


def _letters(lines: Iterable[Line]) -> list[tuple[str, str, str]]:
    """The legend: kind, letter and words of each status that occurs."""
    seen = frozenset().union(*(line.states for line in lines)) - {ABSENT}
    return [
        (_kind(state), letter, state.replace("_", " "))
        for state, letter in LETTERS.items()
        if state in seen
    ]


def _ruler(history: History) -> str:
    """A mark over each night in which something changed that all models ran on."""
    return "".join("▾" if each else "\N{NO-BREAK SPACE}" for each in history.changes)


def _marks(history: History) -> str:
    """The style that draws these nights through strips and drawings: nothing in each row."""
    places = [100 * at / len(history.nights) for at, each in enumerate(history.changes) if each]
    lines = [
        f"linear-gradient(90deg, transparent calc({at:.3f}% - .5px), var(--mark) 0, "
        f"var(--mark) calc({at:.3f}% + .5px), transparent 0)"
        for at in places
    ]
    return f":root {{ --marks: {', '.join(lines) or 'none'}; --nights: {len(history.nights)}; }}"
