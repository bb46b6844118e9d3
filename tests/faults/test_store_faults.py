"""The store with real models: the same bytes twice, damage, and sources edited during a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.faults, pytest.mark.e2e]

OWN = """
import os, time
import torch
from helper import SIZE

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, SIZE)

    def forward(self, x):
        while os.path.exists("wait"):
            open("waiting", "w").close()
            time.sleep(0.01)
        return self.linear(x)
"""
ENTRY = (
    "+models.own={source: {file: own.py, name: Own}, inputs: {x: {shape: [2, 64]}},"
    " weights: {checkpoint: own.pth}, export: {external_data: always}}"
)
OTHER = "+models.other={source: single_conv}"
OPTIONS = ["exporter=torchscript", "executor.workers=1", "benchmark=off"]
OPTIONS += ["executor.writable=[.]"]  # the model says that it waits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("SIZE = 16\n")
    save(tmp_path, 1)
    return tmp_path


def save(folder: Path, seed: int) -> None:
    code = (
        f"import torch, own; torch.manual_seed({seed}); torch.save(own.Own().state_dict(), 'new')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    (folder / "new").replace(folder / "own.pth")


def start(folder: Path, name: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "converter", *OPTIONS, f"hydra.run.dir={name}", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, name: str, *words: str, code: int = 0) -> dict[str, Any]:
    """The artifacts of a run that ends with ``code``, by model."""
    with start(folder, name, *words) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    return rows(folder / name)


def rows(directory: Path) -> dict[str, Any]:
    found = json.loads((directory / "manifest.json").read_text())["models"]
    return {model["name"]: model["artifacts"][0] for model in found}


def test_the_same_job_has_the_same_key_and_bytes_and_damage_is_repaired(folder: Path) -> None:
    first = run(folder, "first", ENTRY, OTHER)
    again = run(folder, "again", ENTRY, OTHER, "store.path=another store")
    for name, row in first.items():
        assert row["job_key"] == again[name]["job_key"]
        assert (row["files"], row["onnx"]) == (again[name]["files"], again[name]["onnx"])
        assert (row["cached"], again[name]["cached"]) == (False, False)
    entry = folder / "outputs/.store" / first["own"]["job_key"]
    (entry / "own.onnx.data").chmod(0o644)
    (entry / "own.onnx.data").write_bytes(b"\0" * (entry / "own.onnx.data").stat().st_size)
    repaired = run(folder, "repaired", ENTRY, OTHER)
    assert repaired["own"]["cache_miss_reason"].startswith("the stored entry is damaged")
    for key in ("files", "onnx"):
        assert repaired["own"][key] == first["own"][key]
    assert repaired["other"]["cached"]
    assert len(list((folder / "outputs/.store").glob(".damaged-*"))) == 1


def test_only_what_was_touched_is_built_again(folder: Path) -> None:
    run(folder, "first", ENTRY, OTHER)
    for path in ("own.py", "helper.py", "own.pth"):
        os.utime(folder / path, (1, 1))
    assert all(row["cached"] for row in run(folder, "later", ENTRY, OTHER).values())
    save(folder, 2)
    (folder / "helper.py").write_text("SIZE = 16  # as before\n")
    found = run(folder, "edited", ENTRY, OTHER)
    assert found["own"]["cache_miss_reason"] == "weights.checkpoint changed; helper.py changed"
    assert found["other"]["cached"]


@pytest.mark.parametrize("edited", ["helper.py", "own.pth"])
def test_a_source_that_is_edited_while_it_is_used_is_told(folder: Path, edited: str) -> None:
    (folder / "wait").touch()
    with start(folder, "run", ENTRY, OTHER) as process:
        end = time.monotonic() + 60
        while not (folder / "waiting").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        with (folder / edited).open("ab") as file:
            file.write(b"\n# edited\n")
        (folder / "wait").unlink()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    found = rows(folder / "run")
    assert (found["own"]["status"], found["own"]["error"]["code"]) == ("failed", "INPUT_CHANGED")
    assert str(folder / edited) in found["own"]["error"]["message"]
    assert "Run again when the file is at rest." in output
    assert not list((folder / "run/models/own").glob("*.onnx*"))
    assert found["other"]["status"] == "ok"
    assert len(list((folder / "outputs/.store").iterdir())) == 1


READER = """
import os, time
import torch

def build(folder):
    model = torch.nn.Linear(64, 16)
    model.load_state_dict(torch.load(f"{folder}/weights.bin"))
    open("waiting", "w").close()
    while os.path.exists("wait"):
        time.sleep(0.01)
    return model

def fixed():
    return build("hf")
"""
READS = (
    "+models.named={source: {file: reader.py, name: build}, kwargs: {folder: hf},"
    " inputs: {x: {shape: [2, 64]}}}"
)
HIDES = "+models.hidden={source: {file: reader.py, name: fixed}, inputs: {x: {shape: [2, 64]}}}"


def save_folder(folder: Path, seed: int) -> None:
    (folder / "hf").mkdir(exist_ok=True)
    code = (
        f"import torch; torch.manual_seed({seed}); "
        "torch.save(torch.nn.Linear(64, 16).state_dict(), 'hf/weights.bin')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_new_weights_in_a_folder_are_built_again_and_hidden_ones_never_stored(
    folder: Path,
) -> None:
    (folder / "reader.py").write_text(READER)
    save_folder(folder, 1)
    first = run(folder, "first", READS, HIDES)
    assert [row["files_read"] for row in first.values()] == [["hf/weights.bin"]] * 2
    assert first["named"]["not_stored"] is None
    assert first["hidden"]["not_stored"].startswith("hf/weights.bin was read and not part of")
    again = run(folder, "again", READS, HIDES)
    assert [again[name]["cached"] for name in ("named", "hidden")] == [True, False]
    save_folder(folder, 2)
    last = run(folder, "last", READS, HIDES)
    assert last["named"]["cache_miss_reason"] == "kwargs.folder/weights.bin changed"
    for name, row in last.items():
        assert row["files"][0]["sha256"] != first[name]["files"][0]["sha256"]


def test_a_file_that_is_new_in_a_folder_fails_no_row(folder: Path) -> None:
    (folder / "reader.py").write_text(READER)
    save_folder(folder, 1)
    (folder / "wait").touch()
    with start(folder, "run", READS) as process:
        end = time.monotonic() + 60
        while not (folder / "waiting").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        (folder / "hf/other.bin").touch()
        (folder / "other.py").touch()
        (folder / "wait").unlink()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    row = rows(folder / "run")["named"]
    assert (row["status"], row["not_stored"]) == ("ok", None)
