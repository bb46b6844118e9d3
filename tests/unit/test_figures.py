"""Latency between runs: what a stored file's figures are worth tonight."""

from __future__ import annotations

from pathlib import Path

import pytest
from nights import environment

from converter.batch import BenchmarkSpec
from converter.job import JobResult, Latency, StageRecord
from converter.run.figures import Figures
from converter.store.entries import Entry, Stored

MEASURED = Latency(provider="cpu", status="measured", p50_ms=1.5)
DONE = StageRecord(status="ok", seconds=2.0)
BUILT = JobResult(name="m", status="ok", stages={"benchmark": StageRecord()})


def figures(policy: str = "always", *, runtime: str = "1.31.1", providers: str = "cpu") -> Figures:
    spec = {"providers": providers.split(), "on_cached": policy}
    machine = environment(packages={"onnxruntime": runtime})
    return Figures(BenchmarkSpec.model_validate(spec), machine)


def stored(by: Figures | None) -> Stored:
    """An entry, measured by a run or by none."""
    entry = Entry(name="m", source="s", created_at="", trust=[], parts={}, result_sha256="0" * 64)
    measured = BUILT.model_copy(update={"latency": [MEASURED], "stages": {"benchmark": DONE}})
    return Stored("k", Path("folder"), entry, BUILT, by.record(measured) if by else None)


@pytest.mark.parametrize(
    ("tonight", "by", "again"),
    [
        (figures("always"), figures(), True),
        (figures("always"), None, True),
        (figures("stale"), figures(), False),
        (figures("stale"), figures(runtime="1.30.0"), True),
        (figures("stale"), figures(providers="cpu cuda"), True),
        (figures("stale"), None, True),
        (figures("never"), figures(runtime="1.30.0"), False),
    ],
)
def test_when_a_stored_file_is_timed_again(
    tonight: Figures, by: Figures | None, again: bool
) -> None:
    result = tonight.of_stored(stored(by))
    assert result.latency == ([] if again else [MEASURED])
    assert result.stages["benchmark"] == (StageRecord() if again else DONE)


def test_never_timed_says_so_instead_of_passing() -> None:
    result = figures("never").of_stored(stored(None))
    (latency,) = result.latency
    assert (latency.provider, latency.status) == ("cpu", "not_requested")
    assert latency.reason == "benchmark.on_cached is never, and the store has no figures"
    assert result.stages["benchmark"].status == "not_requested"


def test_a_run_without_a_benchmark_takes_no_figures_over() -> None:
    result = figures("never", providers="").of_stored(stored(figures()))
    assert result.latency == []
    assert result.stages["benchmark"].status == "not_requested"
