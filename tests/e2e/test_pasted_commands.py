"""What a page tells to type works where it is pasted: in the folder where the run was started."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e

EXPERIMENT = """# @package _global_
defaults:
  - override /benchmark: 'off'
store: {use: false}
models:
  small: {source: single_conv}
  wrong: {source: single_conv, weights: {checkpoint: gone.pth}}
"""


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_command_of_a_page_works(tmp_path: Path) -> None:
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my conf/experiment/mine.yaml").write_text(EXPERIMENT)
    first = "python -m converter --config-dir 'my conf' +experiment=mine opset=18 hydra.run.dir=run"
    done = run(tmp_path, first)
    assert done.returncode == 1, done.stdout + done.stderr
    page = (tmp_path / "run/report.html").read_text()
    found = re.findall(r"python -m converter[^<`]*", html.unescape(page))
    told = {line.strip() for line in found}
    assert len(told) == 3, found
    for command in told:
        if " view " in command:  # until Ctrl-C
            done = run(tmp_path, f"timeout -s INT 5 {command} --no-browser")
            assert " shows run/models/small/small.onnx; " in done.stdout, done.stderr
            continue
        done = run(tmp_path, command)
        # As the model did: the configuration was found, and one model ran.
        assert done.returncode == int("wrong" in command), done.stdout + done.stderr
        assert "1 model: " in done.stdout
        assert " 18 " in done.stdout
