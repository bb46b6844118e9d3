"""What a run prints while it goes on: a bar on a terminal, a line per model in a log."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol, TextIO

from converter.display import columns, latencies, notice, summary
from converter.display.columns import WIDTH
from converter.display.estimate import Estimate, clock
from converter.display.screen import Screen
from converter.model.manifest import ArtifactRow
from converter.plugins.executors import Event, Finished, GivenUp, StageEntered, Started, Waits

if TYPE_CHECKING:
    from tqdm import tqdm

# `set_description_str` draws at every call, whatever `mininterval` tqdm has: this is ours.
LOADING, STOPPING = "loading torch …", "stopping …"
_REDRAW_S = 0.2
_WIDE = 1000
_LEAST, _MOST = 8, 24  # letters of a name


class Progress(Protocol):
    def doing(self, what: str) -> None:
        """What the run itself does while no model runs yet: ``loading torch …``."""

    def event(self, event: Event) -> None:
        """Take note of what an executor reports."""

    def row(self, row: ArtifactRow) -> None:
        """A model has its row."""

    def measuring(self, total: int) -> None:
        """The conversions are done; the latency of ``total`` models is measured now."""

    def measured(self, row: ArtifactRow) -> None:
        """The latency of a model is measured, or not to be measured."""

    def close(self) -> None:
        """Nothing more will come."""


def create(
    total: int,
    output: TextIO,
    terminal: TextIO,
    estimate: Callable[[], Estimate] = Estimate,
) -> Progress:
    """A bar where ``terminal`` is one, otherwise lines on ``output``.

    Args:
        estimate: of the run; not called where nobody sees it.
    """
    if terminal.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return Bar(total, terminal, estimate())
    return Lines(total, Screen(output))


def line(done: int, total: int, row: ArtifactRow, width: int = _WIDE) -> str:
    """``[ 12/121] ok       resnet18  12.3 s``, with its code when it is not ok.

    The end of the run tells the reason, once. What is from the store took its time in another run.
    A job that was tried again says so, and one of a cluster on which of its nodes it ran.

    Args:
        width: columns that there are; the name is shortened to them.
    """
    count = f"[{done:>{len(str(total))}}/{total}]"
    took = "stored" if row.cached else f"{summary.seconds(row):.1f} s"
    if summary.retried(row):
        took = f"{took} (try {row.attempts})"
    if row.node is not None:
        took = f"{took} on {row.node.name}"
    head, tail = f"{count} {row.status:<8} ", f"  {took}  {summary.code(row)}".rstrip()
    return f"{head}{columns.shorten(row.label, max(_LEAST, width - len(head + tail)))}{tail}"


def given_up(event: GivenUp) -> str:
    """``resnet18: attempt 1 on gpu01 was given up: the node gpu01 was lost``."""
    return f"{event.name}: {event.lost.words}"


def latency_line(done: int, total: int, row: ArtifactRow) -> str:
    """``[ 12/121] latency resnet18  cpu 12.3 ms, cuda unavailable``."""
    count = f"[{done:>{len(str(total))}}/{total}]"
    word, found = "latency", dict.fromkeys(latencies.short(latency) for latency in row.latency)
    if not found:  # it was verified there, and nothing was to be timed
        word = "runtimes"
        found = dict.fromkeys(f"{one.provider} {one.status}" for one in row.verify.providers)
    return f"{count} {word} {row.label}  {', '.join(found)}  {summary.code(row)}".rstrip()


class Lines:
    """A line for each finished model, each latency, each attempt that waits or was lost."""

    def __init__(self, total: int, printer: Callable[[str], None]) -> None:
        self._total = total
        self._done = 0
        self._print = printer

    def doing(self, what: str) -> None:
        pass

    def event(self, event: Event) -> None:
        if isinstance(event, GivenUp):
            self._print(given_up(event))
        elif isinstance(event, Waits):
            self._print(f"{event.name}: {event.words}")

    def row(self, row: ArtifactRow) -> None:
        self._done += 1
        self._print(line(self._done, self._total, row))

    def measuring(self, total: int) -> None:
        self._done, self._total = 0, total

    def measured(self, row: ArtifactRow) -> None:
        self._done += 1
        self._print(latency_line(self._done, self._total, row))

    def close(self) -> None:
        pass


def _has_size(terminal: TextIO) -> bool:
    """Terminals of containers can have none, and tqdm would draw nothing."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns > 0
    except OSError:
        return False


@dataclass
class _Running:
    stage: str = ""
    node: str = ""
    since: float = field(default_factory=time.monotonic)


class Bar:
    """A bar with counts, the time that is left, and what is running for how long."""

    def __init__(self, total: int, terminal: TextIO, estimate: Estimate | None = None) -> None:
        # Only here: a run whose output is a log draws no bar.
        from tqdm import tqdm

        self._screen = Screen(terminal)
        notice.clear(terminal)  # in whose place it comes
        sized = _has_size(terminal)
        self._bar: tqdm[NoReturn] = tqdm(
            total=total,
            file=terminal,
            ncols=None if sized else WIDTH,
            nrows=None if sized else 24,
            dynamic_ncols=sized,
            # tqdm cuts a line at the width of the terminal: what may be long stands last. `{bar}`
            # without a width takes what the rest leaves, and would change with every stage.
            bar_format="{n_fmt}/{total_fmt} |{bar:12}| {desc}",
            colour=self._colour("green"),
        )
        self._estimate = estimate or Estimate()
        self._total = total
        self._doing = "starting"
        self._counts: Counter[str] = Counter()
        self._running: dict[str, _Running] = {}
        self._closed = False
        self._began = time.monotonic()
        self._drawn = 0.0
        self._draw()

    def doing(self, what: str) -> None:
        self._doing = what
        self._draw(now=True)

    def event(self, event: Event) -> None:
        if isinstance(event, Started):
            self._running[event.name] = _Running(node=event.node)
            self._doing = ""
        elif isinstance(event, StageEntered) and event.name in self._running:
            self._running[event.name].stage = event.stage
        elif isinstance(event, GivenUp):
            self._write(given_up(event))
        elif isinstance(event, Waits):
            self._write(f"{event.name}: {event.words}")
        elif isinstance(event, Finished):
            self._running.pop(event.result.label, None)
        self._draw()

    def row(self, row: ArtifactRow) -> None:
        self._estimate.row(row)
        expected = row.status in summary.EXPECTED
        self._counts["ok" if expected else "failed"] += 1
        if not expected:
            self._bar.colour = self._colour("red")
        self._bar.update(1)
        if not expected:
            self._write(line(int(self._bar.n), self._total, row, self._screen.width))
        self._draw()

    def measuring(self, total: int) -> None:
        self._total = total
        self._bar.reset(total)
        self._estimate.measuring()
        self.doing(LOADING)

    def measured(self, row: ArtifactRow) -> None:
        self._estimate.measured(row)
        self._bar.update(1)
        if any(latency.status != "measured" for latency in row.latency):
            self._write(latency_line(int(self._bar.n), self._total, row))
        self._draw()

    def close(self) -> None:
        self._closed = True
        self.doing("")
        self._bar.close()

    def _colour(self, name: str) -> str | None:
        return name if self._screen.colours else None

    def _write(self, text: str) -> None:
        # tqdm writes to stdout unless it is told where its bar is.
        self._bar.write(self._screen.rendered(text), file=self._bar.fp)

    def _draw(self, *, now: bool = False) -> None:
        time_now = time.monotonic()
        # The last state is drawn however short ago the one before it was.
        if not now and time_now - self._drawn < _REDRAW_S:
            return
        self._drawn = time_now
        elapsed = {name: time_now - item.since for name, item in self._running.items()}
        times = clock(time_now - self._began)
        if not self._closed and self._doing != STOPPING:
            times = f"{times}<{self._estimate.remaining(elapsed, begun=not self._doing)}"
        beside = f"{self._total}/{self._total} |{'':12}| {times} "
        room = self._screen.width - len(beside) - 1
        running = {} if self._closed else self._running
        told = describe(self._counts, running, time_now, self._doing, room)
        # `set_description` adds a colon.
        self._bar.set_description_str(f"{times} {told}".rstrip())


def describe(
    counts: Counter[str],
    running: dict[str, _Running],
    now: float,
    doing: str = "",
    room: int = _WIDE,
) -> str:
    """``ok 11 failed 1 | resnet18 verify 12s, vit_b_16 export 3s``.

    Names are shortened to what there is room for. Where there is none for all, those that run
    for the longest time are named, and the others counted.
    """
    head = f"ok {counts['ok']} failed {counts['failed']}" if counts else ""
    if doing or not running:
        return " | ".join(part for part in (head, doing) if part)
    head = f"{head} | " if head else ""
    longest = sorted(running.items(), key=lambda pair: pair[1].since)
    text = ""
    for shown in range(len(longest), 0, -1):
        more = f" +{len(longest) - shown}" if shown < len(longest) else ""
        width = (room - len(head) - len(more) + 2) // shown - 2
        named = ", ".join(_named(name, item, now, width) for name, item in longest[:shown])
        text = f"{head}{named}{more}"
        if len(text) <= room:
            break
    return text


def _named(name: str, item: _Running, now: float, width: int) -> str:
    # Before its first stage a model has none.
    rest = f"{f' {item.stage}' if item.stage else ''} {now - item.since:.0f}s"
    rest += f" on {item.node}" if item.node else ""
    return f"{columns.shorten(name, max(_LEAST, min(_MOST, width - len(rest))))}{rest}"
