"""When and where jobs ran, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from converter.model import manifest
from converter.model.manifest import ArtifactRow
from converter.model.records import NodeInfo, Spent, Try
from converter.plugins.reports import _timeline
from tests.unit.nights import row as some_row


def ran(name: str, start: str, seconds: float, node: str = "", **changes: Any) -> ArtifactRow:
    where = (
        NodeInfo(id=node, name=node, address="", cpu="", cores=1, gpus=["a", "b"]) if node else None
    )
    took = spent(start, seconds, cpu=seconds / 2)
    return some_row(name).model_copy(update={"node": where, "spent": took, **changes})


def spent(start: str, seconds: float, cpu: float | None = 0.5) -> Spent:
    return Spent(started_at=f"2026-01-01T00:00:{start}Z", seconds=seconds, cpu_seconds=cpu)


def test_jobs_that_ran_side_by_side_have_a_line_each() -> None:
    rows = [
        ran("a", "00.000", 10, "n2"),
        ran("b", "01.000", 4, "n1"),
        ran("c", "02.000", 5, "n2"),
        ran("d", "08.500", 2, "n2", status="failed"),
        some_row("stored"),
    ]
    caption, data, layout = _timeline.drawn(rows)
    assert caption == "4 processes on 2 nodes: 21.0 s, and 10.5 s of CPU."
    assert layout["yaxis"]["ticktext"] == ["n1", "n2", "n2"]
    good, bad = data
    assert (good["name"], good["y"], good["base"]) == ("ok", [1, 0, 2], [0, 1, 2])
    # Behind c, which has ended by then.
    assert (bad["name"], bad["y"], bad["base"], bad["x"]) == ("not ok", [2], [8.5], [2])


def test_lost_tries_and_latencies_have_bars_of_their_own() -> None:
    lost = Try(attempt=1, node="n1", reason="n1 was lost", spent=spent("00.000", 3, cpu=None))
    timed = Try(provider="cpu", attempt=1, node="n1", spent=spent("09.000", 1))
    row = ran("a", "04.000", 5, "n2", other_tries=[lost, timed])
    caption, data, _ = _timeline.drawn([row])
    assert caption == "3 processes on 2 nodes: 9.00 s, and 3.00 s of CPU."
    assert [(one["name"], one["base"]) for one in data] == [
        ("ok", [4]), ("given up", [0]), ("latency", [9]),
    ]  # fmt: skip
    assert data[1]["text"] == ["a<br>n1<br>3.0 s, an unknown time of CPU"]


def test_without_a_job_there_is_no_line() -> None:
    assert _timeline.drawn([some_row("a")]) == (
        "No job was run in a process of its own.", [], {},
    )  # fmt: skip


def test_cost_counts_every_try_and_latencies() -> None:
    lost = Try(attempt=1, node="n1", gpus=2, reason="lost", spent=spent("00.000", 3600, cpu=None))
    never = Try(attempt=2, reason="other versions")
    timed = Try(provider="cpu", attempt=1, node="n1", spent=spent("09.000", 360, cpu=720))
    cost = manifest.cost_of([ran("a", "00.000", 1800, other_tries=[lost, never, timed])])
    assert (cost.cpu_hours, cost.gpu_hours) == (pytest.approx(0.45), pytest.approx(2.0))
    assert cost.job_hours == {"": 0.5, "n1": 1.1}


def test_cost_is_that_of_jobs_which_this_run_has_run() -> None:
    on_gpu = ran("b", "00.000", 3600, "n1")
    request = on_gpu.request.model_copy(update={"device": "cuda"})
    rows = [
        ran("a", "00.000", 1800),
        on_gpu.model_copy(update={"request": request}),
        some_row("stored"),
    ]
    cost = manifest.cost_of(rows)
    assert (cost.cpu_hours, cost.gpu_hours) == (pytest.approx(0.75), pytest.approx(2.0))
    assert cost.job_hours == {"": 0.5, "n1": 1.0}
