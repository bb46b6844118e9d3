"""What the documents show works as it stands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).resolve().parents[2]
OWN_ZOO = (REPOSITORY / "docs/howto/own-zoo.md").read_text(encoding="utf-8")
RUN = (REPOSITORY / "docs/run.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
Command = Callable[..., "subprocess.CompletedProcess[str]"]

BUILDER = """
from torch import nn


def build(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )
"""
CHECKPOINT = """
import sys, torch
sys.path.insert(0, ".")
from my_package.classifier import build
torch.manual_seed(0)
state = {f"module.{key}": value for key, value in build(12).state_dict().items()}
torch.save({"state_dict": state}, "weights/classifier.pth")
"""


def section(document: str, title: str) -> str:
    return document.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands_shown() -> list[list[str]]:
    """The arguments of the commands of "Overrides", without their comments."""
    (block,) = blocks(section(OWN_ZOO, "Overrides"), "sh")
    return [shlex.split(line, comments=True)[3:] for line in block.splitlines()]


def without_times(line: str) -> str:
    """A line of a run as it is every time: models end in another order, at another time."""
    line = re.sub(r"\[\d+/\d+\]", "[N/N]", re.sub(r"\S*outputs/\w+/[\d_-]+", "RUN", line))
    return re.sub(r"\d+\.\d s\b", "N s", line).rstrip()


def test_the_output_in_the_readme_is_real(converter_command: Command) -> None:
    found = re.search(
        r"<!-- output -->\n```\n\$ python -m converter (.*?)\n(.*?)```", README, re.DOTALL
    )
    assert found is not None
    done = converter_command(*shlex.split(found[1]))
    assert done.returncode == 1
    printed = {without_times(line) for line in (done.stdout + done.stderr).splitlines()}
    shown = [without_times(line) for line in found[2].splitlines() if line != "…"]
    assert [line for line in shown if line not in printed] == []


RUNS = [arguments for arguments in commands_shown() if arguments[0] not in ("list", "-m")]


@pytest.mark.parametrize("arguments", RUNS, ids=shlex.join)
def test_overrides_compose(converter_command: Command, arguments: list[str]) -> None:
    done = converter_command(*arguments, "--cfg", "job")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_registry_is_listed(converter_command: Command) -> None:
    done = converter_command(*commands_shown()[0])
    assert done.returncode == 0, done.stderr
    assert "torchvision/resnet18" in done.stdout


def test_the_sweep_runs_all_its_points(converter_command: Command, tmp_path: Path) -> None:
    (arguments,) = (arguments for arguments in commands_shown() if arguments[0] == "-m")
    done = converter_command(*arguments, "benchmark=off")
    assert done.returncode == 0, done.stdout + done.stderr
    manifests = {
        path.parent.name: path for path in tmp_path.glob("outputs/smoke/2*/opset=*/manifest.json")
    }
    assert manifests.keys() == {"opset=13", "opset=15", "opset=17"}
    for point, path in manifests.items():
        rows = json.loads(path.read_text())["models"]
        assert {row["status"] for row in rows} == {"ok"}
        assert f"opset={rows[0]['artifacts'][0]['onnx']['opset']}" == point
    (path,) = tmp_path.glob("outputs/smoke/2*/sweep.json")
    ranges = {
        model["name"]: (model["lowest_opset"], model["highest_opset"])
        for model in json.loads(path.read_text())["models"]
    }
    # simple_cnn pins its opset.
    assert ranges == {
        "single_conv": (13, 17),
        "single_conv_batch": (13, 17),
        "simple_cnn": (12, 12),
    }


def test_the_users_own_model_converts(converter_command: Command, tmp_path: Path) -> None:
    own = section(OWN_ZOO, "By hand")
    for text in blocks(own, "yaml"):
        found = re.search(r"^# (my_zoo/\S+)$", text, re.MULTILINE)
        assert found is not None
        path = tmp_path / found[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in ("my_package", "weights"):
        (tmp_path / folder).mkdir()
    (tmp_path / "my_package" / "classifier.py").write_text(BUILDER)
    subprocess.run([sys.executable, "-c", CHECKPOINT], cwd=tmp_path, check=True)
    export, run = blocks(own, "sh")[0].splitlines()
    trust = re.match(r"export CONVERTER_TRUST=(\S+)", export)
    assert trust is not None
    arguments = shlex.split(run)[3:]

    denied = converter_command(*arguments)
    assert denied.returncode == 1
    assert export.split(" #")[0].strip() in denied.stdout + denied.stderr

    done = converter_command(*arguments, "benchmark=off", CONVERTER_TRUST=trust[1])
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "outputs/mine/latest/manifest.json").read_text())
    assert [(row["name"], row["status"]) for row in manifest["models"]] == [("classifier", "ok")]

    show = blocks(section(RUN, "The manifest"), "sh")[0].replace("zoo/latest", "mine/latest")
    listed = subprocess.run(
        [sys.executable, *shlex.split(show)[1:]], cwd=tmp_path, capture_output=True, text=True
    )
    assert listed.stdout.split() == ["ok", "classifier", "onnx"]


@pytest.mark.slow
def test_the_first_command_converts_the_zoo(converter_command: Command, tmp_path: Path) -> None:
    done = converter_command("+experiment=zoo", timeout=590)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    manifest = json.loads((tmp_path / "outputs/zoo/latest/manifest.json").read_text())
    assert set(manifest["run"]["counts"]) <= {"ok", "xfail", "skipped"}
