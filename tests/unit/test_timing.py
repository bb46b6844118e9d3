"""Warm-up, stopping rule and statistics of a measurement, on a clock that only calls move."""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterable

import pytest

from converter.worker.benchmark import timing
from converter.worker.benchmark.timing import Timing

MS = 1_000_000


class Work:
    """Calls that take the given times, in nanoseconds, on a clock of their own."""

    def __init__(self, durations: Iterable[int]) -> None:
        self._durations = iter(durations)
        self.now = 0
        self.calls = 0

    def clock(self) -> int:
        return self.now

    def __call__(self) -> None:
        self.now += next(self._durations)
        self.calls += 1


def measured(durations: Iterable[int], budget_s: float) -> tuple[Timing, Work]:
    work = Work(durations)
    return timing.measure([work], budget_s, work.clock), work


def noise(seed: int, centre: int, spread: float) -> Iterable[int]:
    generator = random.Random(seed)
    while True:
        yield max(1, int(generator.gauss(centre, spread * centre)))


def coverage(count: int) -> float:
    """The exact probability that the interval of so many values holds the median."""
    ranks = timing.median_interval(range(1, count + 1))
    assert ranks is not None
    low, high = ranks
    return sum(math.comb(count, below) for below in range(low, high)) / 2**count


@pytest.mark.parametrize("count", [*range(6, 80), 100, 200, 500, 1000])
def test_the_interval_covers_the_median_at_95_percent(count: int) -> None:
    assert coverage(count) >= 0.95 - 0.002  # of the normal approximation
    if count > 50:
        assert coverage(count) < 0.985


def test_the_interval_of_few_values_is_not_known() -> None:
    assert timing.median_interval([1, 2, 3, 4, 5]) is None
    assert timing.median_interval([1, 2, 3, 4, 5, 6]) == (1, 6)
    assert Timing(0, [MS] * 5, False).interval_ms() == []


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    generator = random.Random(0)
    held = 0
    for _ in range(1000):
        ordered = sorted(int(1e6 * generator.expovariate(1)) for _ in range(60))
        low, high = timing.median_interval(ordered) or (0, 0)
        held += low <= 1e6 * math.log(2) <= high
    assert held >= 930


def test_percentiles_are_values_that_were_measured() -> None:
    ordered = list(range(1, 101))
    assert [timing.percentile(ordered, percent) for percent in (1, 50, 90, 99, 100)] == [
        1, 50, 90, 99, 100,
    ]  # fmt: skip
    assert timing.percentile([7], 99) == 7


def test_the_figures_are_those_of_the_statistics_module() -> None:
    durations = [3 * MS, 1 * MS, 2 * MS, 10 * MS]
    assert Timing(0, durations, True).milliseconds() == {
        "mean_ms": 4.0,
        "std_ms": pytest.approx(statistics.stdev([3, 1, 2, 10]), abs=1e-6),
        "min_ms": 1.0,
        "p50_ms": 2.5,
        "p90_ms": 10.0,
        "p99_ms": 10.0,
    }
    assert Timing(0, [MS], False).milliseconds()["std_ms"] == 0.0


def test_it_stops_once_the_median_is_known() -> None:
    found, work = measured(noise(1, 5 * MS, 0.05), 60)
    assert found.stable
    assert 1e9 <= sum(found.durations_ns) < 2e9
    assert work.calls == found.warmup + len(found.durations_ns)
    low, high = found.interval_ms()
    assert high - low <= 0.04 * found.milliseconds()["p50_ms"]
    assert found.doubts() == []


def test_noise_is_measured_until_the_budget_ends() -> None:
    found, work = measured(itertools.cycle([MS, 30 * MS, 3 * MS, 17 * MS]), 2)
    assert not found.stable
    assert 2e9 <= work.now < 2.1e9
    notes = found.doubts()
    assert notes[0].startswith("not stable: after ")
    assert notes[0].endswith("%, not 2 %")
    assert any(note.startswith("wide spread: p90 is ") for note in notes)


def test_a_slow_call_is_made_three_times_whatever_the_budget() -> None:
    found, work = measured(itertools.repeat(4_000 * MS), 1)
    assert (found.warmup, len(found.durations_ns), found.stable) == (1, 3, False)
    assert found.doubts() == ["not stable: the budget ended after 3 calls"]
    assert work.calls == 4


def test_warm_up_lasts_until_two_windows_agree() -> None:
    slow_start = [100 * MS, 60 * MS, 40 * MS, 30 * MS, 20 * MS, 15 * MS, 12 * MS, 11 * MS]
    found, _ = measured(itertools.chain(slow_start, itertools.repeat(10 * MS)), 60)
    assert found.warmup > len(slow_start)
    assert set(found.durations_ns) == {10 * MS}


def test_warm_up_takes_a_quarter_of_the_budget_at_most() -> None:
    ever_faster = (int(1e9 * 0.97**index) + MS for index in itertools.count())
    work = Work(ever_faster)
    assert timing._warm_up([work], 2_000 * MS, work.clock) == work.calls
    assert 2_000 * MS <= work.now < 3_000 * MS


def test_a_drift_is_told() -> None:
    found = Timing(0, [MS] * 40 + [2 * MS] * 40, True)
    assert "drift: the second half of the calls took +100%" in found.doubts()


@pytest.mark.parametrize(
    ("calls", "remarks"),
    [
        (9, ["few calls: p90 and p99 of 9 calls are the slowest of them"]),
        (10, ["few calls: p99 of 10 calls is the slowest of them"]),
        (99, ["few calls: p99 of 99 calls is the slowest of them"]),
        (100, []),
    ],
)
def test_a_percentile_that_is_only_the_slowest_call_is_told(calls: int, remarks: list[str]) -> None:
    found = Timing(0, [MS * (1000 + index) for index in range(calls)], True)
    assert found.remarks() == remarks
    figures, slowest = found.milliseconds(), 999.0 + calls
    assert [figures[key] == slowest for key in ("p90_ms", "p99_ms")] == [calls < 10, calls < 100]
    assert not any("few calls" in doubt for doubt in found.doubts())


def test_inputs_are_used_in_rotation() -> None:
    made: list[int] = []
    work = Work(itertools.repeat(MS))

    def call(number: int) -> Callable[[], None]:
        def run() -> None:
            made.append(number)
            work()

        return run

    timing.measure([call(0), call(1), call(2)], 2, work.clock)
    assert made == [index % 3 for index in range(len(made))]


def test_nothing_is_collected_meanwhile() -> None:
    states: list[bool] = []
    work = Work(itertools.repeat(MS))

    def call() -> None:
        states.append(gc.isenabled())
        work()

    timing.measure([call], 0.1, work.clock)
    assert set(states) == {False}
    assert gc.isenabled()
