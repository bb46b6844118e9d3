"""``convert``, ``init`` and the API, with real models and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml

pytestmark = pytest.mark.e2e

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x).relu()

class Random(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)
"""


def python(*words: str, cwd: Path, code: int = 0, **variables: str) -> str:
    """What a command prints, on both streams."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def test_one_model_and_the_yaml_that_does_the_same(folder: Path) -> None:
    words = ["nets.py:Net", "--input", "x=1x3x8x8", "--dynamic", "x:0=batch", "--variant", "fp16"]
    said = python("-m", "converter", "convert", *words, "-o", "net.onnx", "opset=18", cwd=folder)
    assert "verified: net.onnx" in said
    assert "verified: net.fp16.onnx" in said
    model = onnx.load(folder / "net.onnx")
    assert model.opset_import[0].version == 18
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    # What it printed does the same.
    experiment = folder / "zoo" / "experiment" / "net.yaml"
    experiment.parent.mkdir(parents=True)
    text = said[said.index("# @package _global_") :]
    experiment.write_text(text)
    assert yaml.safe_load(text)["models"]["net"]["source"] == {"file": "nets.py", "name": "Net"}
    again = python(
        *("-m", "converter", "--config-dir", "zoo", "+experiment=net", "opset=18"),
        cwd=folder,
        CONVERTER_TRUST=".",
    )
    assert "1 model: 1 ok; 2 artifacts: 2 ok; 2 from the store" in again


def test_a_file_that_is_not_right_is_not_written(folder: Path) -> None:
    (folder / "net.onnx").write_text("of before")
    words = ["nets.py:Random", "--input", "x=1x3x8x8", "-o", "net.onnx"]
    said = python("-m", "converter", "convert", *words, cwd=folder, code=1)
    assert "NONDETERMINISTIC" in said
    assert "net.onnx was not written" in said
    assert (folder / "net.onnx").read_text() == "of before"


def test_a_zoo_of_ones_own_runs_as_it_is(tmp_path: Path) -> None:
    python("-m", "converter", "init", "zoo", cwd=tmp_path)
    said = python(
        *("-m", "converter", "--config-dir", ".", "+experiment=mine", "benchmark=off"),
        cwd=tmp_path / "zoo",
        CONVERTER_TRUST=".",
    )
    assert "2 models: 2 ok" in said


API = """
import sys
import torch, converter
from nets import Net, Random

made = converter.convert(Net(), torch.randn(1, 3, 8, 8), dynamic={"x": {0: "batch"}},
                         output="live.onnx", variants=["fp16"])
assert {n: str(p) for n, p in made.files.items()} == {"onnx": "live.onnx", "fp16": "live.fp16.onnx"}
assert made.verify.status == "passed" and "given" in [case.label for case in made.verify.cases]
labels = [case.label for case in made.verify.cases]
assert any("batch" in label for label in labels), labels
try:
    converter.convert(Random(), (1, 3, 8, 8), output="live.onnx")
except converter.ConversionFailed as error:
    print(error)
run = converter.run("+models.a={source: single_conv}", "benchmark=off", quiet=True)
assert run.exit_code == 0 and run.manifest.models[0].status == "ok"
print(converter.verify(run.directory, "a").status)
print(len(converter.load_manifest(run.directory / "manifest.json").models), "model")
"""


UNCHANGED = """
import os, random, threading, warnings
import numpy as np, torch, converter
from nets import Net

def state():
    return (torch.get_num_threads(), torch.random.get_rng_state().tolist(), random.getstate(),
            np.random.get_state()[1].tolist(), torch.backends.cudnn.allow_tf32, dict(os.environ),
            list(warnings.filters), os.getcwd())

torch.set_num_threads(2)
net = Net().train()
net.conv.bias.requires_grad_(False)
before, weights = state(), {name: value.clone() for name, value in net.state_dict().items()}
made = converter.convert(net, (1, 3, 8, 8))
assert state() == before
assert net.training and not net.conv.bias.requires_grad
assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())

found = []
thread = threading.Thread(target=lambda: found.append(converter.convert(net, [(1, 3, 8, 8)])))
thread.start()
thread.join()
print(found[0].verify.status)
"""


def test_a_module_and_its_process_are_left_as_they_were(folder: Path) -> None:
    (folder / "use.py").write_text(UNCHANGED)
    assert python("use.py", cwd=folder).endswith("passed\n")


def test_the_api(folder: Path) -> None:
    (folder / "use.py").write_text(API)
    said = python("use.py", cwd=folder)
    assert "live: NONDETERMINISTIC: PyTorch gives another " in said
    assert said.endswith("ok\n1 model\n")
    assert onnx.load(folder / "live.onnx").graph.input[0].name == "x"


TESTS = """
from converter.testing import assert_converts
from nets import Net, Random

def test_converts():
    assert assert_converts(Net(), [(1, 3, 8, 8)]).verify.status == "passed"

def test_does_not():
    assert_converts(Random(), [(1, 3, 8, 8)])

def test_zoo(converter_zoo):
    run = converter_zoo("+models.a={source: single_conv}", "benchmark=off")
    assert run.manifest.models[0].status == "ok"
"""


def test_in_somebodys_pytest(folder: Path) -> None:
    (folder / "test_theirs.py").write_text(TESTS)
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, code=1)
    assert "ConversionFailed: Random: NONDETERMINISTIC" in said
    assert "1 failed, 2 passed" in said
