"""The files that put a night on a schedule parse, and call what exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import registry
from converter.cli import command_line
from converter.config import validation
from converter.model.batch import BatchSpec
from tests.unit.conftest import Composer

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
SERVICE = DEPLOY / "converter-nightly.service"
TIMER = DEPLOY / "converter-nightly.timer"
GUIDE = (REPOSITORY / "docs" / "nightly.md").read_text(encoding="utf-8")


def workflow() -> dict[Any, Any]:
    data = yaml.safe_load((DEPLOY / "github-actions-nightly.yml").read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def steps() -> list[dict[str, Any]]:
    (job,) = workflow()["jobs"].values()
    return list(job["steps"])


def cron_line() -> tuple[list[str], str]:
    """The five fields, and the command."""
    lines = (DEPLOY / "crontab").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line and not line.startswith("#"))
    *fields, command = line.split(None, 5)
    return fields, command


def unit(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def commands() -> list[list[str]]:
    """The arguments of every ``python -m converter`` in the files and in the guide."""
    texts = [
        *(step["run"] for step in steps() if "run" in step),
        unit(SERVICE)["ExecStart"],
        unit(SERVICE)["ExecStopPost"],
        cron_line()[1],
        *re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL),
    ]
    lines = [line for text in texts for line in text.splitlines() if "-m converter" in line]
    found = [re.split(r" (?:>|\|\|)", line.split("-m converter", 1)[1])[0] for line in lines]
    return [shlex.split(words, comments=True) for words in found]


def composed_spec(composed: Composer, words: list[str]) -> BatchSpec:
    for word in words:
        if word.startswith("baseline=outputs/"):
            Path(word.partition("=")[2]).mkdir(parents=True)
    points = composed(*(word.replace("$RUN", "outputs/nightly/1-1") for word in words))
    (spec,) = (validation.parse(point.config) for point in points)
    return spec


def test_the_night_is_what_the_guide_says(composed: Composer) -> None:
    spec = composed_spec(composed, ["+experiment=nightly"])
    assert spec.include == ["torchvision/*"]
    assert {"conv_bn_relu", "srcnn"} <= spec.models.keys()
    assert spec.baseline == "latest"
    assert [target.path for target in spec.publish_to] == ["outputs/published"]
    assert (spec.keep, spec.exclusive, spec.benchmark.providers) == (14, True, ["cpu"])


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_every_command_calls_what_exists(composed: Composer, words: list[str]) -> None:
    if "=" not in words[0]:
        assert words[0] in command_line.commands()
        return
    spec = composed_spec(composed, words)
    for pattern in spec.exclude:
        assert registry.names(pattern), pattern


def test_every_kind_of_schedule_runs_the_night() -> None:
    nights = [words for words in commands() if words[0] == "+experiment=nightly"]
    assert len(nights) >= 3


def test_the_steps_of_the_workflow() -> None:
    by_name = {step.get("name", step.get("uses")): step for step in steps()}
    assert workflow()[True] == {  # YAML reads the key `on` as true
        "schedule": [{"cron": "17 2 * * *"}],
        "workflow_dispatch": None,
    }
    # The exit code of the run is that of its step: nothing may follow it in a pipe, or excuse it.
    convert = by_name["Convert"]
    assert not re.search(r"\||;|&", convert["run"])
    assert "continue-on-error" not in convert
    names = list(by_name)
    for name in ("Show the summary", "Keep the report", "Tidy the store", *names[-1:]):
        assert names.index(name) > names.index("Convert")
        assert by_name[name]["if"] == "always()"
    for name in ("Restore the store and the baseline", "Save the store and the baseline"):
        assert by_name[name]["with"]["path"] == "outputs"
    (job,) = workflow()["jobs"].values()
    # Below the folder of its experiment: `latest` moves to it, and is tomorrow's baseline.
    assert job["env"]["RUN"].startswith("outputs/nightly/")


def test_the_units_are_what_systemd_reads(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    python = tmp_path / "converter" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    done = subprocess.run(
        [analyze, "verify", "--user", str(TIMER), str(SERVICE)],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_fit_together() -> None:
    assert TIMER.stem == SERVICE.stem  # the service that a timer starts is the one of its name
    assert unit(TIMER)["WantedBy"] == "timers.target"
    assert unit(SERVICE)["ExecStart"].startswith(unit(SERVICE)["WorkingDirectory"] + "/.venv/")
    assert unit(SERVICE)["Type"] == "oneshot"
    assert unit(SERVICE)["KillMode"] == "mixed"


def test_the_line_of_cron(tmp_path: Path) -> None:
    fields, command = cron_line()
    for field, most in zip(fields, (59, 23, 31, 12, 7), strict=True):
        assert field == "*" or int(field) <= most
    assert "%" not in command, "cron reads it as the end of the line"
    # With a converter that fails, it prints the exit code and the end of the log.
    python = tmp_path / "converter" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    for code, printed in ((4, "exit code 4\n-m converter +experiment=nightly\n"), (0, "")):
        python.write_text(f'#!/bin/sh\necho "$*"\nexit {code}\n')
        python.chmod(0o755)
        done = subprocess.run(
            ["sh", "-c", command], env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == (printed, "")
