"""The time that is left: from what the same models took before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from test_progress import manifest_of, ok_row

from converter.config import standard
from converter.display.estimate import Estimate, Took, clock, took
from converter.layout import runfiles
from converter.model.manifest import ArtifactRow
from converter.model.records import StageRecord
from converter.plugins.executors.inline import InlineExecutor
from converter.runner.context import RunContext
from converter.runner.remembered import Remembered


def row(name: str, seconds: float, latency: float | None = None, **changes: object) -> ArtifactRow:
    benchmark = StageRecord(status="not_requested")
    if latency is not None:
        benchmark = StageRecord(status="ok", seconds=latency)
    stages = {"export": StageRecord(status="ok", seconds=seconds), "benchmark": benchmark}
    return ok_row(name).model_copy(update={"stages": stages, **changes})


BEFORE = {"a": Took(10.0, 5.0), "b": Took(30.0, 5.0), "c": Took(20.0, 5.0)}


def test_what_is_left_is_shared_by_the_workers() -> None:
    estimate = Estimate("abc", BEFORE, workers=lambda: 2)
    assert estimate.remaining({}) == "00:30"
    assert estimate.remaining({}, begun=False) == "00:30+"  # torch is still to be loaded
    estimate.row(row("a", 10.0))
    assert estimate.remaining({"b": 25.0}) == "00:20"  # the longest of them, not the half of 25 s
    estimate.row(row("b", 30.0))
    estimate.row(row("c", 20.0))
    assert estimate.remaining({}) == "00:00"


def test_a_cluster_that_grows_is_done_earlier() -> None:
    workers = 0
    estimate = Estimate("abc", BEFORE, workers=lambda: workers)
    assert estimate.remaining({}) == "?"  # no job has come to a node
    workers = 1
    assert estimate.remaining({}) == "01:00"
    workers = 2
    assert estimate.remaining({}) == "00:30"


def test_the_estimate_is_of_the_workers_of_the_executor(context: RunContext) -> None:
    class Wide(InlineExecutor):
        def workers(self) -> int:
            return 2

    remember(context, row("a", 40.0), row("b", 40.0))
    assert Remembered(context, "ab").estimate(InlineExecutor()).remaining({}) == "01:20"
    assert Remembered(context, "ab").estimate(Wide()).remaining({}) == "00:40"


def test_what_was_never_seen_counts_as_the_mean_of_those_done() -> None:
    estimate = Estimate(["a", "new"], BEFORE)
    assert estimate.remaining({}) == "00:20"  # of before: nothing else of this run is known
    estimate.row(row("a", 7.0))
    assert estimate.remaining({}) == "00:07"


def test_without_a_past_the_first_model_makes_the_estimate() -> None:
    estimate = Estimate(["a", "b"])
    assert estimate.remaining({}) == "?"
    estimate.row(row("a", 90.0))
    assert estimate.remaining({"b": 10.0}) == "01:20"


def test_what_comes_from_the_store_took_no_time() -> None:
    estimate = Estimate(["a", "b"])
    estimate.row(row("a", 90.0, cached=True))
    assert estimate.remaining({}) == "?"


def test_latencies_come_on_top_one_after_the_other() -> None:
    estimate = Estimate("abc", BEFORE, workers=lambda: 4, latency=True)
    assert estimate.remaining({}) == "00:45"
    awaits = {"benchmark": StageRecord(status="not_run")}
    for name in "abc":
        done = row(name, 10.0)
        estimate.row(done.model_copy(update={"stages": {**done.stages, **awaits}}))
    estimate.measuring()
    assert estimate.remaining({"a": 2.0}) == "00:13"
    estimate.measured(row("a", 10.0, latency=5.0))
    assert estimate.remaining({}) == "00:10"


def test_latencies_of_which_nothing_is_known_are_said_to_come() -> None:
    estimate = Estimate(["a"], {"a": Took(10.0)}, latency=True)
    assert estimate.remaining({}) == "00:10+"
    estimate.measuring()
    assert estimate.remaining({}) == "?"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "00:00"), (80, "01:20"), (3723, "1:02:03"), (59.7, "01:00")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_row_that_never_ran_says_nothing_of_its_time() -> None:
    assert took(row("a", 1.5, latency=2.0)) == Took(1.5, 2.0)
    assert took(ok_row("a").model_copy(update={"stages": {"load": StageRecord()}})) is None


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    spec = standard.spec(executor=standard.executor(workers=1), benchmark={"providers": []})
    return RunContext(tmp_path / "zoo/now", "zoo", [], "", "", spec=spec, home=tmp_path / "zoo")


def remember(context: RunContext, *rows: ArtifactRow) -> None:
    """Leave a complete run of the experiment."""
    assert context.home is not None
    before = context.home / "before"
    before.mkdir(parents=True)
    found = manifest_of(*rows)
    done = found.model_copy(update={"run": found.run.model_copy(update={"complete": True})})
    runfiles.write(done, before)


def test_the_last_complete_run_is_remembered(context: RunContext) -> None:
    remember(context, row("a", 61.0), row("gone", 5.0))
    assert Remembered(context, ["a"]).estimate(InlineExecutor()).remaining({}) == "01:01"
    # A model that is new counts as the mean of those that are left of it.
    assert Remembered(context, ["a", "new"]).estimate(InlineExecutor()).remaining({}) == "02:02"


def test_a_manifest_that_cannot_be_read_is_no_memory(context: RunContext) -> None:
    assert context.home is not None
    (context.home / "before").mkdir(parents=True)
    text = '{"run": {"complete": true, "started_at": "2026"}}'
    (context.home / "before" / runfiles.MANIFEST).write_text(text)
    assert Remembered(context, ["a"]).estimate(InlineExecutor()).remaining({}) == "?"


def test_an_empty_store_remembers_nothing(context: RunContext, tmp_path: Path) -> None:
    asked = dataclasses.replace(context, store=tmp_path / "store")
    assert Remembered(asked, ["a"]).estimate(InlineExecutor()).remaining({}) == "?"
