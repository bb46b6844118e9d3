"""When and where jobs ran, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from converter.model import manifest
from converter.model.manifest import ArtifactRow
from converter.model.records import NodeInfo, Spent
from converter.plugins.reports import _timeline
from tests.unit.nights import row as some_row


def ran(name: str, start: str, seconds: float, node: str = "", **changes: Any) -> ArtifactRow:
    where = (
        NodeInfo(id=node, name=node, address="", cpu="", cores=1, gpus=["a", "b"]) if node else None
    )
    spent = Spent(started_at=f"2026-01-01T00:00:{start}Z", seconds=seconds, cpu_seconds=seconds / 2)
    return some_row(name).model_copy(update={"node": where, "spent": spent, **changes})


def test_jobs_that_ran_side_by_side_have_a_line_each() -> None:
    rows = [
        ran("a", "00.000", 10, "n2"),
        ran("b", "01.000", 4, "n1"),
        ran("c", "02.000", 5, "n2"),
        ran("d", "08.500", 2, "n2", status="failed"),
        some_row("stored"),
    ]
    caption, data, layout = _timeline.drawn(rows)
    assert caption.startswith("4 jobs on 2 nodes: 21.0 s, and 10.5 s of CPU")
    assert layout["yaxis"]["ticktext"] == ["n1", "n2", "n2"]
    good, bad = data
    assert (good["name"], good["y"], good["base"]) == ("ok", [1, 0, 2], [0, 1, 2])
    # Behind c, which has ended by then.
    assert (bad["name"], bad["y"], bad["base"], bad["x"]) == ("not ok", [2], [8.5], [2])


def test_without_a_job_there_is_no_line() -> None:
    assert _timeline.drawn([some_row("a")]) == (
        "No job was run in a process of its own.", [], {},
    )  # fmt: skip


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
