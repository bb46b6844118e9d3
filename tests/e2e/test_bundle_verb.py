"""``python -m converter bundle``: folders of a real run, checked by the script that is in them."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import converter
from converter.cli import command_line
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

OWN = """
import os, signal
import torch
from torch import nn


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop = nn.Linear(8, 16), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.first(x).tanh())


class Swapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(8, 2)

    def forward(self, b: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if os.environ.get("DO") == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        z = self.line(a)
        return z + b, z > b
"""
MODELS = {
    "heavy": "{source: simple_cnn, export: {external_data: always}}",
    "fed": "{source: single_conv, export: {export_params: false}, variants: []}",
    "dropping": "{source: {file: own.py, name: Dropping}, inputs: {x: {shape: [3, 8]}},"
    " training: train, variants: []}",
    "swapped": "{source: {file: own.py, name: Swapped}, variants: [],"
    " inputs: {b: {shape: [1]}, a: {shape: [3, 8]}}, outputs: [sum, larger]}",
    "broken": "{source: {file: own.py, name: Swapped}, inputs: {b: {shape: [3, 7]},"
    " a: {shape: [3, 7]}}, variants: []}",
}
Bundle = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run; one of its models failed."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "own.py").write_text(OWN)
    done = subprocess.run(
        [
            sys.executable, "-m", "converter", "hydra.run.dir=runs/night", "exporter=torchscript",
            "benchmark=off", "variant=[fp16,int8]", "++variant.int8.optional=true",
            *(f"+models.{name}={text}" for name, text in MODELS.items()),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert "5 models: 4 ok, 1 failed" in done.stdout, done.stdout + done.stderr
    return folder


@pytest.fixture
def bundle(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bundle:
    """The verb, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVERTER_TRUST", str(finished))

    def run(*words: str) -> tuple[int, str, str]:
        code = command_line.main(["bundle", str(finished / "runs/night"), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def check(folder: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a folder's own check, without anything of the converter."""
    return subprocess.run(
        [sys.executable, str(folder / "check.py")],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )


def tensors(folder: Path, kind: str) -> dict[str, np.ndarray]:
    found = [onnx.load_tensor(str(path)) for path in sorted(folder.glob(f"{kind}_*.pb"))]
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in found}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_bundle_is_whole_and_its_check_passes_anywhere(bundle: Bundle, tmp_path: Path) -> None:
    code, out, err = bundle("heavy", "-o", "deep/to hand on [1]")
    assert (code, err) == (0, "")
    folder = tmp_path / "deep" / "to hand on [1]"
    assert files(folder) == [
        "README.md", "check.py", "model.onnx", "model.onnx.data",
        *(f"test_data_set_{n}/{kind}_0.pb" for n in (0, 1) for kind in ("input", "output")),
    ]  # fmt: skip
    assert all(f"{Path('deep/to hand on [1]') / name}\n" in out for name in files(folder))
    # No part of it was left elsewhere, and others may read it.
    assert files(tmp_path / "deep") == [f"to hand on [1]/{name}" for name in files(folder)]
    assert folder.stat().st_mode & 0o777 == 0o777 & ~os.umask(os.umask(0o22))
    folder = folder.rename(tmp_path / "moved")
    done = check(folder, Path("/"))
    assert done.returncode == 0, done.stderr
    assert len((folder / "check.py").read_text().splitlines()) == 5


def test_the_outputs_are_those_of_pytorch(
    bundle: Bundle, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    assert bundle("swapped")[0] == 0
    monkeypatch.syspath_prepend(finished)
    torch.manual_seed(0)
    model = importlib.import_module("own").Swapped().eval()
    samples = []
    for number in (0, 1):
        folder = tmp_path / "swapped-bundle" / f"test_data_set_{number}"
        inputs, outputs = tensors(folder, "input"), tensors(folder, "output")
        with torch.no_grad():
            z, larger = model(*(torch.tensor(inputs[name]) for name in ("b", "a")))
        np.testing.assert_allclose(outputs["sum"], z.numpy(), rtol=1e-6)
        assert np.array_equal(outputs["larger"], larger.numpy())
        samples.append(inputs["a"])
    assert not np.array_equal(*samples)


def test_a_damaged_model_is_found(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle("heavy")[0] == 0
    data = tmp_path / "heavy-bundle" / "model.onnx.data"
    whole = bytearray(data.read_bytes())
    data.write_bytes(bytes(len(whole)))
    done = check(tmp_path / "heavy-bundle", tmp_path)
    assert done.returncode == 1
    assert "Not equal to tolerance" in done.stderr
    assert "test_data_set_0: output_logits" in done.stderr
    data.write_bytes(whole)
    assert check(tmp_path / "heavy-bundle", tmp_path).returncode == 0


def test_a_file_of_another_type_or_shape_is_found(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle("swapped")[0] == 0
    folder = tmp_path / "swapped-bundle"
    tensor = onnx.load_tensor(str(folder / "test_data_set_1" / "output_1.pb"))
    assert tensor.data_type == onnx.TensorProto.BOOL
    other = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
    (folder / "test_data_set_1" / "output_1.pb").write_bytes(other.SerializeToString())
    done = check(folder, tmp_path)
    assert done.returncode == 1
    assert "dtype" in done.stderr


def test_data_is_in_the_order_of_the_graph_and_carries_its_names(
    bundle: Bundle, tmp_path: Path
) -> None:
    assert bundle("swapped")[0] == 0
    folder = tmp_path / "swapped-bundle"
    graph = onnx.load(folder / "model.onnx").graph
    for kind, values in (("input", graph.input), ("output", graph.output)):
        told = [
            onnx.load_tensor(str(folder / "test_data_set_0" / f"{kind}_{n}.pb")).name
            for n in range(len(values))
        ]
        assert told == [value.name for value in values]


def test_weights_that_are_inputs_are_among_the_data(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle("fed")[0] == 0
    inputs = tensors(tmp_path / "fed-bundle" / "test_data_set_0", "input")
    assert len(inputs) == 3, "an image, the weight and the bias"
    assert check(tmp_path / "fed-bundle", tmp_path).returncode == 0


def test_a_variant_has_a_bundle_of_its_own(bundle: Bundle, tmp_path: Path) -> None:
    code, out, _ = bundle("heavy/fp16")
    assert code == 0
    folder = tmp_path / "heavy.fp16-bundle"
    assert f"python {Path('heavy.fp16-bundle/check.py')}\n" in out
    assert (folder / "README.md").read_text().startswith("# heavy/fp16\n")
    held = onnx.load(folder / "model.onnx").graph.initializer
    assert {tensor.data_type for tensor in held} == {onnx.TensorProto.FLOAT16}
    assert check(folder, tmp_path).returncode == 0


def test_a_quantised_file_is_handed_on_with_what_it_loses(bundle: Bundle, tmp_path: Path) -> None:
    """Its line stands below each runtime that gets such a file wrong."""
    code, _, err = bundle("heavy/int8")
    assert code == 0, err
    folder = tmp_path / "heavy.int8-bundle"
    assert check(folder, tmp_path).returncode == 0
    assert "It is quantised, and was judged by its signal" in (folder / "README.md").read_text()
    given = tensors(folder / "test_data_set_0", "output")
    (name,) = given
    wrong = numpy_helper.from_array(given[name] * np.float32(1.5), name)
    (folder / "test_data_set_0/output_0.pb").write_bytes(wrong.SerializeToString())
    assert check(folder, tmp_path).returncode == 1


def test_the_readme_says_what_it_is_and_nothing_of_this_machine(
    bundle: Bundle, tmp_path: Path, finished: Path
) -> None:
    assert bundle("swapped")[0] == 0
    folder = tmp_path / "swapped-bundle"
    text = (folder / "README.md").read_text()
    assert text.startswith("# swapped\n\nAn ONNX model, and what PyTorch gives for 2 samples ")
    for line in (
        "- source: `file:own.py:Swapped`, in eval mode",
        "- opset: ai.onnx 17 (IR version 8)",
        "- input: `a`, float32, 3×8",
        "- output: `larger`, bool, 3×2",
        f"- made with: converter {converter.__version__}, torch ",
        "| `test_data_set_1` | `larger` | 0 | 0 | 0 |",
    ):
        assert line in text, line
    assert str(finished / "own.py") not in text
    sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert f"`{sha256}`" in text


# What is refused


def test_training_mode_with_dropout_has_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    code, out, err = bundle("dropping")
    assert (code, out) == (1, "")
    assert (
        "dropping: no bundle: NONDETERMINISTIC: dropping drops values at random (training: train): "
        "no check could repeat it\n    convert it with models.dropping.training: eval\n"
    ) in err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_is_not_handed_on(bundle: Bundle, tmp_path: Path, finished: Path) -> None:
    file = finished / "runs/night/models/swapped/swapped.onnx"
    sound = file.read_bytes()
    model = onnx.load(file)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(weight * 2, model.graph.initializer[0].name)
    )
    try:
        onnx.save_model(model, file)
        code, _, err = bundle("swapped")
    finally:
        file.write_bytes(sound)
    assert code == 1
    assert "swapped: no bundle: VERIFY_VALUE: case traced" in err
    assert list(tmp_path.iterdir()) == []


def test_trust_is_that_of_now(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONVERTER_TRUST")
    code, _, err = bundle("swapped")
    assert code == 1
    assert "swapped: no bundle: TARGET_DENIED: " in err
    assert "export CONVERTER_TRUST=" in err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_crashes_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DO", "crash")
    code, _, err = bundle("swapped")
    assert code == 1
    assert "swapped: no bundle: SIGNAL: killed by SIGSEGV" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("havy", "has no model 'havy'. Did you mean heavy"),
        ("broken", "broken has no published file in "),
        ("broken", "It is failed: FORWARD: "),
    ],
)
def test_what_cannot_be_bundled_is_exit_2(
    bundle: Bundle, tmp_path: Path, name: str, said: str
) -> None:
    code, out, err = bundle(name)
    assert (code, out) == (2, "")
    assert err.startswith("configuration: 1 problem\n  bundle: ")
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    code, _, err = bundle("heavy", "-o", "used")
    assert code == 2
    assert (
        "bundle: used is not empty. Name a new or an empty folder with -o DIR, or remove it." in err
    )
    code, _, err = bundle("heavy", "-o", "file")
    assert code == 2
    assert "bundle: file is in the way. Name a new or an empty folder with -o DIR." in err
    assert files(tmp_path) == ["file", "used/notes"]


def test_an_empty_folder_is_filled(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert bundle("swapped", "-o", "empty")[0] == 0
    assert check(tmp_path / "empty", tmp_path).returncode == 0
