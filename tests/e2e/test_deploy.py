"""A real run on a runtime that gets a file wrong: the cell, the exit code, and what to hand on."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

# ONNX Runtime, but for the files of one operator, which it scales.
RUNTIME = '''
from converter.model.base import Frozen
from converter.plugins.runnable import Runnable

NAME, TITLE, DEVICE, FALLBACKS = "Scaling", "scaling", "cpu", ()
FORMATS, PACKAGES = ("onnx",), ("scaling",)
LACKS = {"float16": "it scales float32 alone"}
INSTALL = LOAD_HINT = "install scaling"


class Options(Frozen):
    """None."""


def prepare():
    pass


def available():
    return ""


class Scaled(Runnable):
    provider, binds = NAME, False

    def __init__(self, file):
        import onnx
        import onnxruntime

        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self._factor = 1.01 if len(onnx.load(file).graph.node) > 1 else 1
        self.active = [NAME]
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]
        self.types = {one.name: one.type for one in self._session.get_inputs()}

    def run(self, feeds):
        return [array * array.dtype.type(self._factor) for array in self._session.run(None, feeds)]


def open(file, *, threads, options, interface):
    return Scaled(str(file))
'''


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A folder with the runtime, installed as a distribution of its own."""
    (tmp_path / "scaling_runtime.py").write_text(RUNTIME)
    about = tmp_path / "scaling-3.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: scaling\nVersion: 3.2\n")
    (about / "entry_points.txt").write_text("[converter.providers]\nscaling = scaling_runtime\n")
    return tmp_path


def run(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(where), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, "-m", "converter", *words],
        cwd=where, env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_file_that_one_runtime_gets_wrong(where: Path) -> None:
    done = run(
        where, "+experiment=smoke", "select=[single_conv,simple_cnn]", "benchmark=off",
        "variant=[fp16]", "verify.providers=[scaling]", "hydra.run.dir=done",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    lines = list(csv.DictReader((where / "done" / "matrix.csv").read_text().splitlines()))
    came = {(line["model"], line["artifact"], line["runtime"]): line["status"] for line in lines}
    assert came == {
        ("single_conv", "onnx", "onnxruntime"): "ok",
        ("single_conv", "onnx", "scaling"): "ok",
        ("single_conv", "fp16", "onnxruntime"): "ok",
        # Two casts and a convolution.
        ("single_conv", "fp16", "scaling"): "failed",
        ("simple_cnn", "onnx", "onnxruntime"): "ok",
        ("simple_cnn", "onnx", "scaling"): "failed",
        ("simple_cnn", "fp16", "onnxruntime"): "ok",
        ("simple_cnn", "fp16", "scaling"): "failed",
    }
    told = json.loads((where / "done" / "manifest.json").read_text())
    assert [info["name"] for info in told["runtimes"]] == ["onnxruntime", "scaling"]
    assert "For the maintainers of scaling 3.2: python -m converter bundle" in done.stdout
    # The file is in the run, since it is right on the standard runtime.
    handed = run(where, "bundle", "done", "simple_cnn", "-o", "handed")
    assert handed.returncode == 0, handed.stdout + handed.stderr
    assert (where / "handed" / "test_data_set_0" / "output_0.pb").is_file()
    readme = (where / "handed" / "README.md").read_text()
    assert "**wrong on scaling 3.2**: VERIFY_VALUE: case traced" in readme


def test_a_runtime_that_is_not_installed_is_one_sentence_before_the_run(where: Path) -> None:
    # Its plugin is there, in a distribution of another name.
    about = (where / "scaling-3.2.dist-info").rename(where / "other-3.2.dist-info")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 3.2\n")
    told = run(where, "plan", "+experiment=smoke", "verify.providers=[scaling]")
    assert "note: scaling: scaling is not installed: install scaling" in told.stdout
