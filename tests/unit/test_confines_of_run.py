"""A job of a run that is done again has the limits and the sandbox of that run."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from converter.config import standard
from converter.model.errors import RunError
from converter.model.job import Job
from converter.runner import debugging, rechecking

STATED = {"timeout_s": 20.0, "grace_s": 1.0, "memory_mb": 512, "sandbox": "off"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with the configuration that it was started with."""
    executor = {**standard.plain()["executor"], **STATED, "writable": ["cache"]}
    runtime = {"cwd": str(tmp_path), "choices": {}}
    hydra = {"overrides": {"task": []}, "runtime": runtime, "sweep": {"subdir": ""}}
    folder = tmp_path / "night" / ".hydra"
    folder.mkdir(parents=True)
    saved = {"config": {**standard.plain(), "executor": executor}, "hydra": {"hydra": hydra}}
    for name, content in saved.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder.parent


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What executors were made with; none runs anything."""
    found: list[Any] = []

    def create(spec: Any) -> None:
        found.append(spec)
        raise OSError("no job is run")

    for module in (debugging, rechecking):
        monkeypatch.setattr(module.executors, "create", create)
    return found


def stated(spec: Any) -> dict[str, Any]:
    return {key: getattr(spec, key) for key in (*STATED, "writable")}


def test_a_file_is_verified_within_the_limits_of_its_run(run: Path, created: list[Any]) -> None:
    with pytest.raises(OSError, match="no job"):
        rechecking._done(run, cast(Job, None), Path("m.onnx"), run)
    assert stated(created[0]) == {**STATED, "writable": [str(run.parent / "cache")]}


def test_debug_has_the_time_of_its_run_twice(
    run: Path, created: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = SimpleNamespace(source=SimpleNamespace(kind="file"))
    monkeypatch.setattr(debugging, "recorded_job", lambda *named: job)
    monkeypatch.setattr(debugging, "_asked", lambda *named: None)
    writable = [str(run.parent / "cache")]
    for limits in ({}, {"timeout_s": 7.0}):
        with pytest.raises(RunError, match="no job"):
            debugging.debug(run, "m", run.parent / "found", **limits)
        expected = {**STATED, "timeout_s": 40.0, **limits, "writable": writable}
        assert stated(created[-1]) == expected


def test_a_run_whose_configuration_is_gone_has_the_standard_ones(
    run: Path, created: list[Any]
) -> None:
    shutil.rmtree(run / ".hydra")
    with pytest.raises(OSError, match="no job"):
        rechecking._done(run, cast(Job, None), Path("m.onnx"), run)
    assert created[0].timeout_s == standard.executor().timeout_s
