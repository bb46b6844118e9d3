"""``python -m converter replay``: jobs of a real run again, in the foreground and in a debugger."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Command

pytestmark = pytest.mark.e2e

OWN = """
import sys
from torch import nn


class Own(nn.Module):
    def forward(self, x):
        secret = 41
        print("hello from the model")
        return x @ x.reshape(7, 5, 1)[secret - 41]


class Leaves(nn.Module):
    def forward(self, x):
        sys.exit(0)
"""
INPUTS = "inputs: {x: {shape: [5, 7]}}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of three models."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "own.py").write_text(OWN)
    expected = "expect: {status: failed, code: FORWARD, reason: it never worked}"
    subprocess.run(
        [
            sys.executable, "-m", "converter", "hydra.run.dir=run", "exporter=torchscript",
            "benchmark=off",
            "+models.good={source: single_conv}",
            f"+models.bad={{source: {{file: own.py, name: Own}}, {INPUTS}}}",
            f"+models.known={{source: {{file: own.py, name: Own}}, {INPUTS}, {expected}}}",
            f"+models.leaves={{source: {{file: own.py, name: Leaves}}, {INPUTS}}}",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": str(folder)},
        capture_output=True,
        check=False,
    )  # fmt: skip
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_good_job_is_exit_0_and_the_run_is_only_read(
    finished: Path, converter_command: Command, tmp_path: Path
) -> None:
    before = contents(finished / "run")
    done = converter_command("replay", str(finished / "run"), "good", "--keep", "kept")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("good: ok (")
    assert [line for line in done.stderr.splitlines() if line.startswith("== ")] == [
        f"== {stage}"
        for stage in ("load", "reference", "export", "check", "simplify", "verify", "publish")
    ]
    assert contents(finished / "run") == before
    assert contents(tmp_path / "kept") == {"good.onnx": before["models/good/good.onnx"]}

    again = converter_command("replay", str(finished / "run"), "good", "--keep", "kept")
    assert again.returncode == 2
    assert "--keep: kept is in use. Name a new or an empty folder." in again.stderr


def test_a_bad_job_is_exit_1_with_its_whole_log(finished: Path, converter_command: Command) -> None:
    run = str(finished / "run")
    done = converter_command("replay", run, "bad", CONVERTER_TRUST=str(finished))
    assert done.returncode == 1
    assert done.stdout.startswith("hello from the model\nbad: failed: FORWARD: RuntimeError: ")
    assert "return x @ x.reshape(7, 5, 1)[secret - 41]" in done.stderr
    known = converter_command("replay", run, "known", CONVERTER_TRUST=str(finished))
    assert known.returncode == 0
    assert "known: xfail: FORWARD: " in known.stdout


def test_trust_is_that_of_now(finished: Path, converter_command: Command) -> None:
    done = converter_command("replay", str(finished / "run"), "bad")
    assert done.returncode == 1
    assert "bad: failed: TARGET_DENIED: " in done.stdout
    assert "export CONVERTER_TRUST=" in done.stdout
    assert "    in the run: failed: FORWARD: " in done.stdout


def test_the_debugger_opens_in_the_frame_that_raised(finished: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "converter", "replay", "run", "bad", "--pdb"],
        cwd=finished,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": str(finished)},
        input="p secret + 1\nq\n",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "(Pdb) 42\n" in done.stdout
    assert "own.py(10)forward()" in done.stdout
    assert "== 'q' goes on" in done.stderr


def test_a_model_that_ends_the_process_has_its_row(
    finished: Path, converter_command: Command
) -> None:
    run = str(finished / "run")
    done = converter_command("replay", run, "leaves", CONVERTER_TRUST=str(finished))
    assert done.returncode == 1
    assert "leaves: crashed: NO_RESULT: raised SystemExit(0) in stage reference" in done.stdout


def test_what_is_not_there_is_exit_2(finished: Path, converter_command: Command) -> None:
    done = converter_command("replay", str(finished / "run"), "godo")
    assert done.returncode == 2
    assert "  replay: " in done.stderr
    assert "has no model 'godo'. Did you mean good?" in done.stderr
