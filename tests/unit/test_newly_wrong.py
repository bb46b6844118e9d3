"""What has become wrong is looked into at the end of a run, within its budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.config import standard
from converter.model.changes import Change, Comparison
from converter.model.errors import ConfigError, Problem
from converter.model.records import FileInfo, JobResult
from converter.runner import debugging
from converter.runner.debugging import Debugged

WRONG = "VERIFY_VALUE: y is 1, PyTorch gives 2"


def comparison(*changes: Change) -> Comparison:
    return Comparison(baseline_run_id="before", verdict="regression", changes=list(changes))


def newly(model: str, detail: str = WRONG, **changes: Any) -> Change:
    return Change(
        model=model, kind="newly_failing", severity="regression", detail=detail, **changes
    )


class Debugger:
    """Finds something in each model, and says what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.limits: dict[str, Any] = {}
        self.said: list[str] = []
        monkeypatch.setattr(debugging, "debug", self)

    def __call__(self, run: Path, name: str, folder: Path, **limits: Any) -> Debugged:
        self.asked.append(name)
        self.limits = limits
        if name == "gone":
            raise ConfigError(Problem("debug", "run has no model 'gone'."))
        part = FileInfo(path="report.md", bytes=1, sha256="0" * 64)
        result = JobResult(name=name, status="ok", stages={}, files=[part])
        return Debugged(result, "Relu gives another result\n    %y = Relu(%x)", [])

    def run(self, *changes: Change, budget: float = 60.0, stopped: bool = False) -> list[str]:
        spec = standard.spec(compare={"debug_budget_s": budget}, executor={"sandbox": "off"})
        found = debugging.newly_wrong(
            comparison(*changes), Path("/run"), spec, lambda: stopped, self.said.append
        )
        return [change.detail for change in found.changes]


@pytest.fixture
def debugger(monkeypatch: pytest.MonkeyPatch) -> Debugger:
    return Debugger(monkeypatch)


def test_what_was_found_stands_behind_the_change(debugger: Debugger) -> None:
    (detail,) = debugger.run(newly("a"))
    assert detail == f"{WRONG}; Relu gives another result: models/a/debug/report.md"
    assert debugger.limits["sandbox"] == "off"
    assert 0 < debugger.limits["timeout_s"] <= 60


def test_other_failures_and_variants_are_not_looked_into(debugger: Debugger) -> None:
    others = [
        newly("a", "EXPORT: no such operator"),
        newly("b", artifact="fp16"),
        Change(model="c", kind="error", detail=WRONG),
    ]
    assert debugger.run(*others) == [change.detail for change in others]
    assert debugger.asked == []


@pytest.mark.parametrize(("budget", "stopped"), [(0.0, False), (60.0, True)])
def test_without_time_nothing_is_looked_into(
    debugger: Debugger, budget: float, stopped: bool
) -> None:
    assert debugger.run(newly("a"), budget=budget, stopped=stopped) == [WRONG]
    assert debugger.asked == []


def test_what_cannot_be_looked_into_is_logged_and_no_more(debugger: Debugger) -> None:
    first, second = debugger.run(newly("gone"), newly("a"))
    assert first == WRONG
    assert second.startswith(f"{WRONG}; Relu")
    assert debugger.said == ["debug of gone: debug: run has no model 'gone'."]
