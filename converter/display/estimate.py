"""How long what is left of a run takes: from the seconds that the same models took before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from converter.model.manifest import ArtifactRow, awaits_benchmark
from converter.model.records import StageName, StageRecord


@dataclass(frozen=True)
class Took:
    """Seconds of an artifact in an earlier run; ``latency``: ``None`` where none was measured.

    Attributes:
        peak_bytes: the most memory that its conversion held; ``None``: not known.
    """

    conversion: float
    latency: float | None = None
    peak_bytes: int | None = None


def took(row: ArtifactRow) -> Took | None:
    """What a row says of its time; ``None`` where it never ran."""
    spent = {name: stage.seconds for name, stage in row.stages.items() if stage.seconds is not None}
    latency = spent.pop("benchmark", None)
    return Took(sum(spent.values()), latency, peak(row.stages)) if spent else None


def peak(stages: Mapping[StageName, StageRecord]) -> int | None:
    """The most memory of a conversion's stages."""
    of_stages = (stage.peak_rss_bytes for name, stage in stages.items() if name != "benchmark")
    return max((bytes_ for bytes_ in of_stages if bytes_ is not None), default=None)


class Estimate:
    """What is left of a run, in seconds.

    What was never seen counts as the mean of what was: of this run, or else of the earlier ones.

    Args:
        labels: of all artifacts of the run.
        before: by label.
        workers: tells how many conversions run side by side, 0 while that is not known; latencies
            never do.
        latency: whether latencies are measured.
    """

    def __init__(
        self,
        labels: Iterable[str] = (),
        before: Mapping[str, Took] | None = None,
        workers: Callable[[], int] = lambda: 1,
        *,
        latency: bool = False,
    ) -> None:
        before = before or {}
        self._workers = workers
        self._left = dict.fromkeys(labels)
        self._unmeasured = dict.fromkeys(self._left if latency else ())
        self._conversions = _Seconds(
            {label: took.conversion for label, took in before.items() if label in self._left}
        )
        self._latencies = _Seconds(
            {
                label: took.latency
                for label, took in before.items()
                if label in self._left and took.latency is not None
            }
        )

    def row(self, row: ArtifactRow) -> None:
        """A conversion is done."""
        self._left.pop(row.label, None)
        if not awaits_benchmark(row):
            self._unmeasured.pop(row.label, None)
        found = took(row)
        if found is not None and not row.cached:
            self._conversions.done.append(found.conversion)

    def measuring(self) -> None:
        """The conversions are over."""
        self._left.clear()

    def measured(self, row: ArtifactRow) -> None:
        """A latency is measured."""
        self._unmeasured.pop(row.label, None)
        self._latencies.done.append(row.stages["benchmark"].seconds or 0.0)

    def remaining(self, running: Mapping[str, float], *, begun: bool = True) -> str:
        """``01:20``; ``01:20+`` where more comes on top; ``?`` where nothing is known.

        On top come latencies that were never measured, and what precedes the first model.

        Args:
            running: by label, for how many seconds already.
            begun: models run, or have run.
        """
        conversions = self._conversions.left(self._left, running)
        workers = self._workers()
        if conversions is None or (conversions and not workers):
            return "?"
        # The longest of them bounds what many workers can do.
        seconds = max([sum(conversions) / max(1, workers), *conversions])
        on_top = self._latencies.left(self._unmeasured, {} if self._left else running)
        if on_top is None:
            return f"{clock(seconds)}+" if self._left else "?"
        return clock(seconds + sum(on_top)) + "+" * (not begun)


class _Seconds:
    """Seconds of one kind. Attributes: done: those of this run."""

    def __init__(self, before: Mapping[str, float]) -> None:
        self._before = before
        self.done: list[float] = []

    def left(self, labels: Iterable[str], running: Mapping[str, float]) -> list[float] | None:
        """What is left of each; ``None`` where one was never seen and there is no mean."""
        seen = self.done or list(self._before.values())
        mean = sum(seen) / len(seen) if seen else None
        found = []
        for label in labels:
            expected = self._before.get(label, mean)
            if expected is None:
                return None
            found.append(max(0.0, expected - running.get(label, 0.0)))
        return found


def clock(seconds: float) -> str:
    """``01:20``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
