"""The GitHub Action: its script, run as a runner does, on a zoo with one model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

ACTION: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
STEPS: dict[str, dict[str, Any]] = {step.get("name", ""): step for step in ACTION["runs"]["steps"]}


def convert(folder: Path, **inputs: str) -> tuple[int, dict[str, str], str, str]:
    """Its exit code, outputs, the page of the job, and what it printed."""
    given = {name: spec["default"] for name, spec in ACTION["inputs"].items()} | inputs
    step = STEPS["Convert"]
    environment = {
        name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }
    bin_folder = folder / "temp/converter/bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    python = bin_folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    files = {"GITHUB_OUTPUT": folder / "output", "GITHUB_STEP_SUMMARY": folder / "page"}
    for path in files.values():
        path.write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={
            **os.environ,
            **environment,
            **{name: str(path) for name, path in files.items()},
            "RUNNER_TEMP": str(folder / "temp"),
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return done.returncode, outputs, files["GITHUB_STEP_SUMMARY"].read_text(), done.stderr


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    (tmp_path / "my zoo/experiment").mkdir(parents=True)
    (tmp_path / "my zoo/experiment/mine.yaml").write_text(
        "# @package _global_\nmodels:\n  one: {source: single_conv}\n"
    )
    return tmp_path


def test_it_converts_shows_the_summary_and_names_the_run(zoo: Path) -> None:
    code, outputs, page, _ = convert(
        zoo,
        experiment="mine",
        **{"config-dir": "my zoo"},
        overrides="benchmark=off 'select=[one, o*]'",
    )
    assert code == 0
    assert outputs["exit-code"] == "0"
    run = Path(outputs["directory"])
    assert (run / "models/one/one.onnx").is_file()
    assert page == (run / "summary.md").read_text()


def test_it_fails_with_the_code_of_the_run(zoo: Path) -> None:
    code, outputs, page, err = convert(zoo, baseline="nowhere", overrides="opset=$(touch${IFS}x)")
    assert code == 2
    assert outputs["exit-code"] == "2"
    assert page == ""
    assert "nowhere" in err
    assert "$(touch" in err
    assert not (zoo / "x").exists()


def test_every_input_is_used_and_every_output_is_written() -> None:
    text = (REPOSITORY / "action.yml").read_text(encoding="utf-8")
    for name in ACTION["inputs"]:
        assert f"${{{{ inputs.{name} }}}}" in text
    for name in ACTION["outputs"]:
        assert f'echo "{name}=' in STEPS["Convert"]["run"]
        assert ACTION["outputs"][name]["value"] == f"${{{{ steps.convert.outputs.{name} }}}}"
    # A shell must not read what a user gives: it comes by the environment.
    assert not any("${{" in step.get("run", "") for step in STEPS.values())
