"""Nights in a row over a person's own models, one of which gets worse; and the verb ``compare``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

MODELS = """
import torch

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*({layers}))
        self.last = torch.nn.Linear(64, {classes})

    def forward(self, x):
        {first}
        return self.last(self.layers(x))

class Other(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(64, 3)

    def forward(self, x):
        return self.last(x).tanh()
"""
LAYER = "torch.nn.Linear(64, 64) for _ in range({})"


class Zoo:
    """Two models in a file that is rewritten from night to night."""

    def __init__(self, folder: Path, command: Any) -> None:
        self.folder = folder
        self._command = command

    def write(self, *, layers: int = 1, classes: int = 4, first: str = "pass") -> None:
        text = MODELS.format(layers=LAYER.format(layers), classes=classes, first=first)
        (self.folder / "models.py").write_text(text)

    def night(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, manifest and output."""
        inputs = "inputs: {x: {shape: [32, 64]}}"
        entries = [
            f"+models.{kind.lower()}={{source: {{file: models.py, name: {kind}}}, {inputs}}}"
            for kind in ("Small", "Other")
        ]
        done = self.run(*entries, "baseline=latest", "benchmark=off", *words)
        home = self.folder / "outputs" / "adhoc"
        newest = max(path for path in home.iterdir() if path.is_dir() and not path.is_symlink())
        made = json.loads((newest / "manifest.json").read_text())
        return done[0], {**made, "directory": newest}, done[1]

    def run(self, *words: str) -> tuple[int, str]:
        trust = f"{self.folder}:{sys.executable}"
        done = self._command(*words, CONVERTER_TRUST=trust)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def zoo(tmp_path: Path, converter_command: Any) -> Zoo:
    return Zoo(tmp_path, converter_command)


def published(zoo: Zoo) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((zoo.folder / "good/index.json").read_text())
    return index["models"]


def test_from_a_first_night_to_a_bad_one(zoo: Zoo) -> None:
    script = "import sys; open('told', 'a').write(' '.join(sys.argv[1:]) + ' ')"
    call = f"on_regression=[{json.dumps(sys.executable)},-c,{json.dumps(script)},worse]"
    words = ("publish_to=good", "exclusive=true", call)

    zoo.write()
    code, first, output = zoo.night(*words)
    assert code == 0, output
    assert first["comparison"]["verdict"] == "no_baseline"
    good = published(zoo)
    assert set(good) == {"small", "other"}

    zoo.write(classes=5)
    code, second, output = zoo.night(*words)
    assert code == 4, output
    assert second["run"]["baseline"] == f"../{first['directory'].name}"
    worse = [c for c in second["comparison"]["changes"] if c["severity"] == "regression"]
    assert [(c["model"], c["kind"]) for c in worse] == [("small", "outputs")]
    assert "worse: small (models.py changed): outputs " in output
    assert (zoo.folder / "told").read_text() == f"worse {second['directory']} "
    assert 'name="compared with' in (second["directory"] / "junit.xml").read_text()

    better = published(zoo)
    zoo.write(classes=5, first="raise ValueError('the new layer is not ready')")
    code, third, output = zoo.night(*words)
    assert code == 1, output
    rows = {row["name"]: row for row in third["models"]}
    assert rows["small"]["failing_since"] == third["run"]["started_at"]
    assert [c["models"] for c in third["comparison"]["causes"]] == [["small"]]
    assert published(zoo)["small"]["sha256"] == better["small"]["sha256"] != good["small"]["sha256"]
    assert published(zoo)["small"]["failing_since"] == third["run"]["started_at"]
    assert (zoo.folder / "good" / published(zoo)["small"]["path"]).is_file()


def claim(run: Path, milliseconds: float) -> None:
    """Write a latency of ``small`` into a manifest, as a night would have measured it."""
    made = json.loads((run / "manifest.json").read_text())
    (row,) = [row for row in made["models"] if row["name"] == "small"]
    row["artifacts"][0]["latency"] = [
        {
            "provider": "cpu",
            "status": "measured",
            "shapes": {"x": [32, 64]},
            "threads": 1,
            "stable": True,
            "p50_ms": milliseconds,
            "ci95_ms": [milliseconds * 0.99, milliseconds * 1.01],
        }
    ]
    (run / "manifest.json").write_text(json.dumps(made))


def test_a_slower_model_is_timed_again_beside_the_baselines_file(zoo: Zoo) -> None:
    zoo.write(layers=1)
    first = zoo.night()[1]["directory"]
    zoo.write(layers=12)
    second = zoo.night("baseline=null")[1]["directory"]
    zoo.write(layers=1, first="x = x + 0.5")
    third = zoo.night("baseline=null")[1]["directory"]
    for run, milliseconds in ((first, 1.0), (second, 3.0), (third, 2.0)):
        claim(run, milliseconds)

    code, output = zoo.run("compare", str(first), str(second), "--size", "100", "--json")
    assert code == 4, output
    found = json.loads(output)
    (change,) = [c for c in found["changes"] if c["kind"] == "latency"]
    assert change["severity"] == "regression"
    assert "+200% on cpu (x=32x64); timed again side by side: " in change["detail"]

    words = ("--size", "100", "--latency", "0.8")  # an addition more is not that much slower
    code, output = zoo.run("compare", str(first), str(third), *words)
    assert code == 0, output
    said = "latency 1 → 2 (+100% on cpu (x=32x64); timed again side by"
    assert f"changed: small (models.py changed): {said}" in output
    assert "the file is not to blame" in output

    (first / "models/small/small.onnx").unlink()
    code, output = zoo.run("compare", str(first), str(third), "--size", "100")
    assert code == 4, output
    assert "not timed again: " in output
    assert "small.onnx is gone or is not the file of that run" in output


def test_what_is_no_run_is_a_sentence(zoo: Zoo) -> None:
    (zoo.folder / "empty").mkdir()
    code, output = zoo.run("compare", "nope", "empty")
    assert (code, "Traceback" in output) == (2, False)
    assert f"compare: there is no {zoo.folder}/nope. Name a run directory or a manif" in output
    code, output = zoo.run("compare", "empty", "empty", "--size=-1")
    assert code == 2
    assert "argument --size: found -1; expected a number of 0 or more" in output
    code, output = zoo.run("+model=single_conv", "baseline=nope")
    assert code == 2
    assert f"baseline: there is no {zoo.folder}/nope." in output
    assert not (zoo.folder / "outputs").exists()
