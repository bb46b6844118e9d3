"""Three real nights of an experiment, the last of which breaks a model; the verb ``history``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

NETS = """
import torch

class Good(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)

class Bad(Good):
    def forward(self, x):
        {line}
        return self.conv(x) * 2
"""
EXPERIMENT = """# @package _global_
models:
  good: {source: {file: nets.py, name: Good}, inputs: {x: {shape: [1, 3, 8, 8]}}}
  bad: {source: {file: nets.py, name: Bad}, inputs: {x: {shape: [1, 3, 8, 8]}}}
keep: 2
baseline: latest
"""


def test_three_nights(tmp_path: Path, converter_command: Any) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(EXPERIMENT)

    def night(number: int, line: str = "pass") -> tuple[int, str]:
        (tmp_path / "nets.py").write_text(NETS.format(line=line))
        words = ("--config-dir", ".", "+experiment=mine", "benchmark=off")
        # A name of its own: two runs may begin in the same second.
        place = f"hydra.run.dir=outputs/mine/night{number}"
        done = converter_command(*words, place, CONVERTER_TRUST=str(tmp_path))
        return done.returncode, done.stdout + done.stderr

    def history(*words: str) -> str:
        done = converter_command("history", "mine", *words)
        assert done.returncode == 0, done.stderr
        text: str = done.stdout
        return text

    for number in (1, 2):
        code, output = night(number)
        assert code == 0, output
    code, output = night(3, "raise ValueError('not ready')")
    assert code == 1, output
    assert "history" not in output  # nothing went wrong with it

    home = tmp_path / "outputs" / "mine"
    # `keep` has removed the first night, its figures stay.
    assert sorted(path.name for path in home.glob("night*")) == ["night2", "night3"]
    found = json.loads(history("--json"))
    assert [each["directory"] for each in found["nights"]] == ["night1", "night2", "night3"]
    assert [each["exit_code"] for each in found["nights"]] == [0, 0, 1]
    models = {each["model"]: each for each in found["models"]}
    assert [cell["status"] for cell in models["bad"]["nights"]] == ["ok", "ok", "failed"]
    good = models["good"]["nights"]
    assert good[0]["bytes"] == good[2]["bytes"] > 0
    assert (good[0]["cached"], good[1]["cached"]) == (False, True)
    (event,) = models["bad"]["events"]
    assert event["run"] == found["nights"][2]["id"]
    assert "nets.py changed" in event["because"]

    text = history()
    assert f"\n    changed then: {event['because']}\n" in text
    assert "..F" in text
    page = (home / "history.html").read_text()
    assert "1 of 2 models failed unexpectedly, 1 newly in the last night." in page
    assert '<a href="night3/report.html">' in page
    assert "night1/report.html" not in page

    # A run of one model, and one without an experiment, is no night.
    words = ("--config-dir", ".", "+experiment=mine", "benchmark=off", "select=[good]")
    assert converter_command(*words, CONVERTER_TRUST=str(tmp_path)).returncode == 0
    assert len(json.loads(history("--json"))["nights"]) == 3

    # It is made again of what the disk still has: that run was one of the two that stay.
    (home / "history.sqlite").write_bytes(b"damaged")
    assert history().startswith("mine: 1 night, ")
