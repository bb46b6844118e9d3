"""What a run prints while it goes on: a bar on a terminal, a line per model in a log."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol, TextIO

from converter.display import columns, latencies, summary
from converter.model.manifest import ArtifactRow
from converter.plugins.executors import Event, Finished, StageEntered, Started

if TYPE_CHECKING:
    from tqdm import tqdm

# `set_description_str` draws at every call, whatever `mininterval` tqdm has: this is ours.
_REDRAW_S = 0.2


class Progress(Protocol):
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


def create(total: int, output: TextIO, terminal: TextIO) -> Progress:
    """A bar where ``terminal`` is one, otherwise lines on ``output``."""
    if terminal.isatty():
        return Bar(total, terminal)
    return Lines(total, Printer(output))


class Printer:
    """Prints what the stream's encoding can hold. A reader that has gone must not end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, text: str) -> None:
        if self._stream is None:
            return
        # An encoding may be ASCII, and a name or a message anything: an error here would end the
        # run. A stream such as StringIO has none.
        encoding = self._stream.encoding or "ascii"
        try:
            safe = text.encode(encoding, "backslashreplace").decode(encoding)
            self._stream.write(safe + "\n")
            self._stream.flush()
        except OSError:
            self._stream = None


def line(done: int, total: int, row: ArtifactRow) -> str:
    """``[ 12/121] ok       resnet18  12.3 s``, with code and reason when it is not ok.

    What is from the store took its time in another run. A job that was tried again says so.
    """
    count = f"[{done:>{len(str(total))}}/{total}]"
    took = "stored" if row.cached else f"{summary.seconds(row):.1f} s"
    if summary.retried(row):
        took = f"{took} (try {row.attempts})"
    text = f"{count} {row.status:<8} {row.label}  {took}"
    why = summary.reason(row)
    return f"{text}  {why}" if why else text


def latency_line(done: int, total: int, row: ArtifactRow) -> str:
    """``[ 12/121] latency resnet18  cpu 12.3 ms, cuda unavailable``."""
    count = f"[{done:>{len(str(total))}}/{total}]"
    found = dict.fromkeys(latencies.short(latency) for latency in row.latency)
    text = f"{count} latency {row.label}  {', '.join(found)}"
    why = summary.reason(row)
    return f"{text}  {why}" if why else text


class Lines:
    """One line for each finished model, and one for each whose latency was measured."""

    def __init__(self, total: int, printer: Callable[[str], None]) -> None:
        self._total = total
        self._done = 0
        self._print = printer

    def event(self, event: Event) -> None:
        pass

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
    since: float = field(default_factory=time.monotonic)


class Bar:
    """A bar with counts, an estimate, and what is running for how long."""

    def __init__(self, total: int, terminal: TextIO) -> None:
        # Only here: a run whose output is a log draws no bar.
        from tqdm import tqdm

        sized = _has_size(terminal)
        self._bar: tqdm[NoReturn] = tqdm(
            total=total,
            file=terminal,
            ncols=None if sized else summary.WIDTH,
            nrows=None if sized else 24,
            dynamic_ncols=sized,
            # tqdm cuts a line at the width of the terminal: what may be long stands last. `{bar}`
            # without a width takes what the rest leaves, and would change with every stage.
            bar_format="{n_fmt}/{total_fmt} |{bar:12}| {elapsed}<{remaining} {desc}",
        )
        self._total = total
        self._counts: Counter[str] = Counter()
        self._running: dict[str, _Running] = {}
        self._drawn = 0.0

    def event(self, event: Event) -> None:
        if isinstance(event, Started):
            self._running[event.name] = _Running()
        elif isinstance(event, StageEntered) and event.name in self._running:
            self._running[event.name].stage = event.stage
        elif isinstance(event, Finished):
            self._running.pop(event.result.label, None)
        self._draw()

    def row(self, row: ArtifactRow) -> None:
        self._counts["ok" if row.status in summary.EXPECTED else "failed"] += 1
        self._bar.update(1)
        if row.status not in summary.EXPECTED:
            text = line(int(self._bar.n), self._total, row)
            # tqdm writes to stdout unless it is told where its bar is.
            self._bar.write(text, file=self._bar.fp)
        self._draw()

    def measuring(self, total: int) -> None:
        self._total = total
        self._bar.reset(total)
        self._draw()

    def measured(self, row: ArtifactRow) -> None:
        self._bar.update(1)
        if any(latency.status != "measured" for latency in row.latency):
            text = latency_line(int(self._bar.n), self._total, row)
            self._bar.write(text, file=self._bar.fp)
        self._draw()

    def close(self) -> None:
        # The last state is drawn however short ago the one before it was.
        self._drawn = 0.0
        self._draw()
        self._bar.close()

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        # `set_description` adds a colon.
        self._bar.set_description_str(describe(self._counts, self._running, now))


def describe(counts: Counter[str], running: dict[str, _Running], now: float) -> str:
    """``ok 11 failed 1 | resnet18 verify 12s, vit_b_16 export 3s``."""
    parts = [
        # Before its first stage a model has none, which leaves two spaces.
        f"{columns.shorten(name, 24)} {item.stage} {now - item.since:.0f}s".replace("  ", " ")
        for name, item in running.items()
    ]
    if not parts and not counts:
        return "starting"
    text = f"ok {counts['ok']} failed {counts['failed']}"
    return f"{text} | {', '.join(parts)}" if parts else text
