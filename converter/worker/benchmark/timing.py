"""Time a call until its median is known: warm-up, measurement, statistics. No torch, no NumPy."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Call = Callable[[], object]
Clock = Callable[[], int]
Time = TypeVar("Time", int, float)

TOLERANCE = 0.02  # of the median
MIN_CALLS = 3  # whatever the budget is
_FIRST_CHECK = 30
_Z = 1.96  # two-sided 95 % of the normal distribution
_SECOND_NS = 1_000_000_000
_WINDOW_NS = 20_000_000
_WINDOW_CALLS = 3
_MILLISECOND_NS = 1e6
# A spread or a drift below these is common on a quiet machine.
_SPREAD = 1.25
_DRIFT = 0.05


@dataclass(frozen=True)
class Timing:
    """What was timed.

    Attributes:
        warmup: calls that are not counted.
        durations_ns: of each counted call, in order.
        stable: the confidence interval of the median came within 2 % of it.
    """

    warmup: int
    durations_ns: list[int]
    stable: bool

    def milliseconds(self) -> dict[str, float]:
        """``mean_ms``, ``std_ms``, ``min_ms``, ``p50_ms``, ``p90_ms`` and ``p99_ms``."""
        ordered = sorted(self.durations_ns)
        deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
        found = {
            "mean_ms": statistics.fmean(ordered),
            "std_ms": deviation,
            "min_ms": ordered[0],
            "p50_ms": statistics.median(ordered),
            "p90_ms": percentile(ordered, 90),
            "p99_ms": percentile(ordered, 99),
        }
        return {key: milliseconds(value) for key, value in found.items()}

    def interval_ms(self) -> list[float]:
        """Bounds of the 95 % confidence interval of the median; none of under six calls."""
        interval = median_interval(sorted(self.durations_ns))
        return [milliseconds(bound) for bound in interval] if interval else []

    def doubts(self) -> list[str]:
        """What in the durations themselves makes the median doubtful, in words."""
        ordered = sorted(self.durations_ns)
        median = statistics.median(ordered)
        found = []
        if not self.stable:
            interval = median_interval(ordered)
            width = f"{half_width(interval, median):.0%}" if interval else "not known"
            calls = len(ordered)
            found.append(
                f"not stable: after {calls} calls the interval of the median is ±{width}, not 2 %"
                if interval
                else f"not stable: the budget ended after {calls} calls"
            )
        if (spread := percentile(ordered, 90) / median) > _SPREAD:
            found.append(f"wide spread: p90 is {spread:.1f} times p50")
        half = len(ordered) // 2
        # Halves of fewer calls differ by chance.
        if half >= _FIRST_CHECK // 2:
            first = statistics.median(self.durations_ns[:half])
            second = statistics.median(self.durations_ns[half:])
            if abs(drift := second / first - 1) > _DRIFT:
                found.append(f"drift: the second half of the calls took {drift:+.0%}")
        return found

    def remarks(self) -> list[str]:
        """Which percentiles are no more than the slowest call: of so few calls none is higher."""
        calls = len(self.durations_ns)
        few = [f"p{percent}" for percent in (90, 99) if calls * (100 - percent) < 100]
        if not few:
            return []
        verb = "is" if len(few) == 1 else "are"
        return [f"few calls: {' and '.join(few)} of {calls} calls {verb} the slowest of them"]


def milliseconds(nanoseconds: float) -> float:
    return round(nanoseconds / _MILLISECOND_NS, 6)


def measure(calls: Sequence[Call], budget_s: float, clock: Clock = time.perf_counter_ns) -> Timing:
    """Call in rotation until the median is known within 2 %, or the budget ends.

    Warm-up ends when the medians of two successive windows agree within 2 %, or with a quarter of
    the budget. The measurement lasts a second at least, a quarter of the budget where that is
    less: what a machine does beside it comes in bursts. Garbage is not collected meanwhile.

    Args:
        calls: the same work on different inputs.
        budget_s: for warm-up and measurement together; three calls are measured in any case.
    """
    budget = int(budget_s * _SECOND_NS)
    with _no_collection():
        started = clock()
        warmup = _warm_up(calls, budget // 4, clock)
        durations: list[int] = []
        began = clock()
        at_least, until = began + min(_SECOND_NS, budget // 4), started + budget
        check = _FIRST_CHECK
        while True:
            call = calls[(warmup + len(durations)) % len(calls)]
            before = clock()
            call()
            now = clock()
            durations.append(now - before)
            late = now >= until and len(durations) >= MIN_CALLS
            if not late and (len(durations) < check or now < at_least):
                continue
            stable = is_known(durations)
            if stable or late:
                return Timing(warmup, durations, stable)
            # Not after every call, since each check sorts all durations.
            check = len(durations) + max(10, len(durations) // 5)


def _warm_up(calls: Sequence[Call], limit_ns: int, clock: Clock) -> int:
    """Call until two windows agree or the limit is reached; how many calls that took."""
    started = clock()
    made, previous = 0, None
    while True:
        window: list[int] = []
        opened = clock()
        while len(window) < _WINDOW_CALLS or clock() - opened < _WINDOW_NS:
            before = clock()
            calls[made % len(calls)]()
            after = clock()
            window.append(after - before)
            made += 1
            # Within a window too: its calls alone may take longer than the limit.
            if after - started >= limit_ns:
                return made
        median = statistics.median(window)
        if previous is not None and abs(median - previous) <= TOLERANCE * previous:
            return made
        previous = median


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection within: it would pause calls at random."""
    enabled = gc.isenabled()
    # Before it is off: what loading has left would stay in memory.
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        # Whoever called may have it off for a reason of its own.
        if enabled:
            gc.enable()


def is_known(durations: Sequence[int]) -> bool:
    """Whether the confidence interval of the median lies within 2 % of it."""
    ordered = sorted(durations)
    interval = median_interval(ordered)
    return interval is not None and half_width(interval, statistics.median(ordered)) <= TOLERANCE


def half_width(interval: tuple[int, int], median: float) -> float:
    """The further bound's distance from the median, as a share of it."""
    return max(interval[1] - median, median - interval[0]) / median


def median_interval(ordered: Sequence[Time]) -> tuple[Time, Time] | None:
    """The 95 % confidence interval of the median, from order statistics.

    It assumes no distribution: of n independent values the number below the median is binomial
    with p = 1/2, here by its normal approximation, rounded outwards: ranks
    floor((n - 1.96 √n) / 2) and its mirror image, counted from 1 (J.-Y. Le Boudec, Performance
    Evaluation of Computer and Communication Systems, 2010, theorem 2.1 and its corollary; used
    for latencies by T. Hoefler and R. Belli, Scientific Benchmarking of Parallel Computing
    Systems, SC 2015, section 3.1.3).

    Returns:
        The bounds; ``None`` for fewer than six values, which no pair of ranks covers at 95 %.
    """
    count = len(ordered)
    if count < 6:
        return None
    rank = max(1, math.floor((count - _Z * math.sqrt(count)) / 2))
    return ordered[rank - 1], ordered[count - rank]


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The nearest-rank percentile: a value that was measured, never one between two."""
    return ordered[math.ceil(percent * len(ordered) / 100) - 1]
