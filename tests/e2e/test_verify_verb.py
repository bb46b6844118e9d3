"""``python -m converter verify``: real runs of tiny models, verified again and damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from converter.cli import command_line
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.e2e

OWN = """
import os, signal
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop = nn.Linear(8, 16), nn.Dropout(0.5)
        self.last = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if os.environ.get("DO") == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if os.environ.get("DO") == "vanish":
            os._exit(0)
        return self.last(self.drop(self.first(x).tanh()))


class Two(Own):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.last(self.first(x).tanh())
        return y + 1, y / 2
"""
MODELS = {
    "flatten_pool": "{source: flatten_pool, kwargs: {way: view}}",
    "unsimplified": "{source: flatten_pool, kwargs: {way: view}, simplify: false}",
    "own": "{source: {file: own.py, name: Own}, weights: {checkpoint: own.pth},"
    " inputs: {x: {shape: [3, 8]}}, outputs: [y], training: train}",
    "two": "{source: {file: own.py, name: Two}, inputs: {x: {shape: [3, 8]}},"
    " outputs: [sum, half]}",
    "broken": "{source: {file: own.py, name: Own}, inputs: {x: {shape: [3, 7]}}}",
}
HEAVY = ("torch", "onnx", "onnxruntime", "numpy")
Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and the files that it was made from."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "own.py").write_text(OWN)
    save = "import torch, own; torch.manual_seed(1); torch.save(own.Own().state_dict(), 'own.pth')"
    subprocess.run([sys.executable, "-c", save], cwd=folder, check=True)
    done = subprocess.run(
        [
            sys.executable, "-m", "converter", "+experiment=smoke", "hydra.run.dir=runs/night",
            "exporter=torchscript", "benchmark=off",
            *(f"+models.{name}={text}" for name, text in MODELS.items()),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    statuses = {
        row["name"]: row["status"]
        for row in json.loads((folder / "runs/night/manifest.json").read_text())["models"]
    }
    assert [name for name, status in statuses.items() if status != "ok"] == ["broken"], done.stdout
    return folder


@pytest.fixture
def verify(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Verify:
    """The verb on a copy of the run, started where the run was."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = command_line.main(["verify", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def trusted(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVERTER_TRUST", str(finished))


def published(name: str) -> Path:
    return Path("runs/night/models") / name / f"{name}.onnx"


def changed(name: str, change: Callable[[ModelProto], object]) -> str:
    """A changed copy of a published file."""
    model = onnx.load(published(name))
    change(model)
    onnx.save_model(model, "changed.onnx")
    return "changed.onnx"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# Right


@pytest.mark.parametrize("name", ["single_conv_batch", "simple_cnn"])
def test_a_published_file_is_right(verify: Verify, name: str) -> None:
    before = contents(Path("runs"))
    code, out, err = verify("runs/night", name)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(published(name))
    assert lines[2].split("  ")[0].split()[0] == "case"
    assert all(word in lines[2] for word in ("output", "max abs", "rel L2", "bound", "passed"))
    assert any(line.startswith("traced") and line.endswith("yes") for line in lines)
    assert lines[-1].startswith("right: ")
    assert all(len(line) <= 80 for line in lines)
    assert contents(Path("runs")) == before, "an archive is not written into"


def test_dynamic_axes_are_told(verify: Verify) -> None:
    _, out, _ = verify("runs/night", "single_conv_batch")
    assert "axis 0 of in (in_dim_0): dynamic, right at " in out
    assert "verified on\n  size of in_dim_0" in out


def test_a_file_saved_again_with_other_names_is_right(verify: Verify) -> None:
    def rename(model: ModelProto) -> None:
        model.producer_name = "another"
        inputs = {value.name for value in model.graph.input}
        for number, node in enumerate(model.graph.node):
            node.name = f"renamed {number}"
            node.input[:] = [name if name in inputs else f"v_{name}" for name in node.input]
            node.output[:] = [f"v_{name}" for name in node.output]
        for value in (*model.graph.initializer, *model.graph.output):
            value.name = f"v_{value.name}"
        del model.graph.value_info[:]

    code, out, _ = verify("runs/night", "simple_cnn", "--model", changed("simple_cnn", rename))
    assert code == 0, out
    assert "    note: the file calls its outputs v_output_logits, the source output_logits" in out


def test_the_unsimplified_export_is_right(verify: Verify) -> None:
    raw = published("unsimplified")
    assert len(onnx.load(raw).graph.node) > len(onnx.load(published("flatten_pool")).graph.node)
    code, out, _ = verify("runs/night", "flatten_pool", "--model", str(raw))
    assert code == 0, out


def test_external_data_is_read(verify: Verify) -> None:
    Path("other").mkdir()
    onnx.save_model(
        onnx.load(published("simple_cnn")), "other/m.onnx", save_as_external_data=True,
        location="m.data", size_threshold=0,
    )  # fmt: skip
    assert verify("runs/night", "simple_cnn", "--model", "other/m.onnx")[0] == 0
    data = bytearray(Path("other/m.data").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    Path("other/m.data").write_bytes(data)
    assert verify("runs/night", "simple_cnn", "--model", "other/m.onnx")[0] == 1


@pytest.mark.usefixtures("trusted")
def test_training_mode_is_verified_and_leaves_no_copy(verify: Verify) -> None:
    before = contents(Path("runs"))
    code, out, _ = verify("runs/night", "own")
    assert code == 0, out
    assert "active dropout is random" in out
    assert contents(Path("runs")) == before


def test_json(verify: Verify) -> None:
    code, out, _ = verify("runs/night", "simple_cnn", "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found) == ["name", "artifact", "file", "verdict", "error", "verify"]
    assert (found["verdict"], found["error"]) == ("right", None)
    assert found["verify"]["cases"][0]["outputs"][0]["passed"]


# Wrong


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.01])
def test_a_damaged_weight_is_wrong(verify: Verify, factor: float) -> None:
    def damage(model: ModelProto) -> None:
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = numpy_helper.to_array(weight) * np.float32(factor)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    file = changed("simple_cnn", damage)
    code, out, _ = verify("runs/night", "simple_cnn", "--model", file)
    assert code == 1
    assert "\nwrong: VERIFY_VALUE: case traced (" in out
    assert any(line.endswith(" NO") for line in out.splitlines())
    code, out, _ = verify("runs/night", "simple_cnn", "--model", file, "--json")
    found = json.loads(out)
    assert (code, found["verdict"], found["error"]["code"]) == (1, "wrong", "VERIFY_VALUE")


def test_a_frozen_batch_is_wrong(verify: Verify) -> None:
    code, out, _ = verify(
        "runs/night", "single_conv_batch", "--model", str(published("single_conv"))
    )
    assert code == 1
    assert "wrong: DIM_SPECIALISED: " in out


@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "text", "cut"])
def test_what_is_no_model_is_wrong(verify: Verify, content: bytes | None) -> None:
    whole = published("simple_cnn").read_bytes()
    Path("bad.onnx").write_bytes(whole[: len(whole) // 2] if content is None else content)
    code, out, _ = verify("runs/night", "simple_cnn", "--model", "bad.onnx")
    assert code == 1
    assert "\nwrong: CHECKER: " in out
    assert "bad.onnx is damaged or not ONNX: " in out


def test_other_input_names_are_told(verify: Verify) -> None:
    code, out, _ = verify("runs/night", "single_conv", "--model", str(published("simple_cnn")))
    assert code == 1
    assert (
        "wrong: INPUT_DROPPED: the file has no input in and needs input_image, which the source "
        "lacks\n    inputs are matched by name: the source has in\n"
    ) in out


@pytest.mark.usefixtures("trusted")
def test_outputs_whose_names_have_changed_places_are_wrong(verify: Verify) -> None:
    def exchange(model: ModelProto) -> None:
        other = {"sum": "half", "half": "sum"}
        for value in (*model.graph.node, *model.graph.output):
            if isinstance(value, onnx.NodeProto):
                value.output[:] = [other.get(name, name) for name in value.output]
                value.input[:] = [other.get(name, name) for name in value.input]
            else:
                value.name = other[value.name]

    code, out, _ = verify("runs/night", "two", "--model", changed("two", exchange))
    assert code == 1
    assert (
        "wrong: OUTPUT_STRUCTURE: the file calls its outputs half, sum, the source sum, half: "
        "whoever asks for sum gets another output\n"
    ) in out
    assert verify("runs/night", "two")[0] == 0


def test_what_the_checker_refuses_is_wrong(verify: Verify) -> None:
    def damage(model: ModelProto) -> None:
        model.graph.initializer.add(name="unused", data_type=1, dims=[-5, 10**18, 10**18])

    code, out, _ = verify("runs/night", "simple_cnn", "--model", changed("simple_cnn", damage))
    assert code == 1
    assert "\nwrong: CHECKER: the ONNX checker refuses the file: " in out


@pytest.mark.parametrize("where", ["input", "initializer"])
def test_a_type_that_onnx_does_not_know_gets_words(verify: Verify, where: str) -> None:
    def damage(model: ModelProto) -> None:
        if where == "input":
            model.graph.input[0].type.tensor_type.elem_type = 77
        else:
            model.graph.initializer[0].data_type = 77

    code, out, _ = verify("runs/night", "simple_cnn", "--model", changed("simple_cnn", damage))
    assert code == 1
    told = "changed.onnx is damaged: it holds a tensor of an unknown type, 77"
    assert f"wrong: CHECKER: {told}" in out.replace(f"{Path.cwd()}/", "")


# Not verified


def test_trust_is_that_of_now_and_not_of_the_record(verify: Verify, finished: Path) -> None:
    recorded = json.loads(Path("runs/night/models/own/job.json").read_text())
    assert recorded["trust"] == [str(finished)]
    code, out, _ = verify("runs/night", "own")
    assert code == 1
    assert "not verified: TARGET_DENIED: " in out
    assert f"export CONVERTER_TRUST={finished}" in out


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("what", "code"), [("crash", "SIGNAL: killed by SIGSEGV"), ("vanish", "NO_RESULT: ")]
)
def test_a_model_that_crashes_costs_its_worker_only(
    verify: Verify, monkeypatch: pytest.MonkeyPatch, what: str, code: str
) -> None:
    monkeypatch.setenv("DO", what)
    status, out, _ = verify("runs/night", "own")
    assert status == 1
    assert f"not verified: {code}" in out
    assert "in stage reference" in out


@pytest.mark.usefixtures("trusted")
def test_weights_and_versions_that_have_changed_are_told(verify: Verify) -> None:
    job = Path("runs/night/models/own/job.json")
    other = Path("other.pth")
    save = (
        "import torch, own; torch.manual_seed(2); torch.save(own.Own().state_dict(), 'other.pth')"
    )
    subprocess.run([sys.executable, "-c", save], check=True)
    recorded = json.loads(job.read_text())
    recorded["weights"]["checkpoint"] = str(other.absolute())
    job.write_text(json.dumps(recorded))
    manifest = Path("runs/night/manifest.json")
    run = json.loads(manifest.read_text())
    run["environment"]["packages"]["onnxruntime"] = "1.0.0"
    manifest.write_text(json.dumps(run))
    code, out, err = verify("runs/night", "own")
    assert code == 1
    assert "wrong: VERIFY_VALUE: " in out
    assert err.startswith("note: the source's weights are not those of the run\n")
    assert "note: onnxruntime 1.0.0 then, " in err


@pytest.mark.usefixtures("trusted")
def test_other_weights_are_told_of_a_right_file_too(verify: Verify) -> None:
    path = Path("runs/night/models/own/result.json")
    result = json.loads(path.read_text())
    result["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(result))
    code, _, err = verify("runs/night", "own")
    assert (code, err) == (0, "note: the source's weights are not those of the run\n")


# Usage


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/nihgt", "own"], "there is no run directory runs/nihgt. Did you mean night?"),
        (["runs/night", "simpel_cnn"], "runs/night has no model 'simpel_cnn'. Did you mean simple"),
        (["runs/night", "../own"], "runs/night has no model '../own'. "),
        (["runs/night", "broken"], "broken has no published file in runs/night. Name one with"),
        (["runs", "own"], "runs holds no models of a run. It is a sweep, take one of its points:"),
        (["runs/night/.hydra", "own"], "runs/night/.hydra holds no models of a run."),
        (
            ["runs/night", "own", "--model", "runs/night/models/own/onw.onnx"],
            "runs/night/models/own/onw.onnx does not exist. Did you mean own.onnx?",
        ),
        (["runs/night", "own", "--model", "runs"], "runs is no file."),
    ],
)
def test_what_is_not_there_is_exit_2(verify: Verify, words: list[str], message: str) -> None:
    code, out, err = verify(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"configuration: 1 problem\n  verify: {message}")


def test_a_job_of_another_version_is_exit_2(verify: Verify) -> None:
    path = Path("runs/night/models/own/job.json")
    path.write_text('{"name": "own"}')
    code, _, err = verify("runs/night", "own")
    assert code == 2
    assert f"{path} cannot be read: " in err


def test_a_job_of_another_model_is_exit_2(verify: Verify) -> None:
    path = Path("runs/night/models/own/job.json")
    shutil.copy("runs/night/models/simple_cnn/job.json", path)
    code, out, err = verify("runs/night", "own")
    assert (code, out) == (2, "")
    assert f"verify: {path} is the record of 'simple_cnn', not of 'own'. Its folder was" in err


def test_the_process_exits_as_it_says_and_imports_nothing_heavy(
    finished: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from converter.cli.command_line import main; code = main(sys.argv[1:]); "
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules]); sys.exit(code)"
    )
    for words, status in (
        ([], 0),
        (["--model", str(finished / "runs/night/models/single_conv/single_conv.onnx")], 1),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "verify", "runs/night", "simple_cnn", *words],
            cwd=finished,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "heavy: []"
