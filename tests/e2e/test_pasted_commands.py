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
  - override /exporter: torchscript
store: {use: false}
publish_to: zoo
models:
  small: {source: single_conv}
  lost: {source: single_conv, weights: {checkpoint: gone.pth}}
  frozen: {source: {file: nets.py, name: Frozen}, inputs: {x: {shape: [2, 3]}}}
"""
NETS = """import torch

class Frozen(torch.nn.Module):
    def forward(self, x):
        return x * float(x.mean())
"""


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {"PYTHONPATH": str(REPOSITORY), "PATH": path, "CONVERTER_TRUST": str(folder)}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, **kept},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def told_by(page: Path) -> set[str]:
    found = re.findall(r"python -m converter[^<`\"]*", html.unescape(page.read_text()))
    return {line.strip() for line in found}


def test_every_command_of_a_page_works(tmp_path: Path) -> None:
    (tmp_path / "my conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my conf/experiment/mine.yaml").write_text(EXPERIMENT)
    (tmp_path / "nets.py").write_text(NETS)
    first = "python -m converter --config-dir 'my conf' +experiment=mine opset=18 hydra.run.dir=run"
    done = run(tmp_path, first)
    assert done.returncode == 1, done.stdout + done.stderr
    told = told_by(tmp_path / "run/report.html")
    verbs = sorted(command.split()[3] for command in told)
    assert verbs == ["--config-dir"] * 3 + ["debug", "view", "view"], told
    for command in told:
        if " view " in command:  # until Ctrl-C
            done = run(tmp_path, f"timeout -s INT 5 {command} --no-browser")
            assert " shows run/models/" in done.stdout, done.stderr
            continue
        done = run(tmp_path, command)
        if " debug " in command:
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Mul" in done.stdout
        else:
            # As the model did: the configuration was found, and one model ran.
            assert done.returncode == int("small" not in command), done.stdout + done.stderr
            assert "1 model: " in done.stdout
            assert " 18 " in done.stdout
    (view,) = told_by(tmp_path / "zoo/index.html")
    done = run(tmp_path / "zoo", f"timeout -s INT 5 {view} --no-browser")
    assert " shows small/" in done.stdout, done.stdout + done.stderr
