"""What only whole commands show: weights in a folder, and model files that set torch's flags."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

pytestmark = pytest.mark.e2e
Command = Callable[..., "subprocess.CompletedProcess[str]"]

BUILD = '''
"""A builder that reads a folder, as every from_pretrained does."""
import torch


def build(folder):
    model = torch.nn.Linear(4, 3)
    model.load_state_dict(torch.load(f"{folder}/weights.bin", weights_only=True))
    return model
'''
FOLDER = (
    "{source: {file: build.py, name: build}, kwargs: {folder: hf}, inputs: {x: {shape: [2, 4]}}}"
)
FROZEN_FLAGS = """
import torch

torch.backends.disable_global_flags()  # as importing torch.testing._internal.common_utils does


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)
"""


def converted(command: Command, folder: Path, model: str) -> tuple[dict[str, Any], Path]:
    """The artifact of one model, and its run directory."""
    done = command(f"+models.m={model}", "benchmark=off", CONVERTER_TRUST=str(folder))
    run = sorted((folder / "outputs/adhoc").glob("2*"))[-1]
    (model,) = json.loads((run / "manifest.json").read_text())["models"]
    (row,) = model["artifacts"]
    assert done.returncode == (0 if row["status"] == "ok" else 1), done.stdout + done.stderr
    return row, run


def test_9_new_weights_in_a_folder_are_built_again(
    tmp_path: Path, converter_command: Command
) -> None:
    (tmp_path / "build.py").write_text(BUILD)
    (tmp_path / "hf").mkdir()
    x = np.ones((2, 4), np.float32)
    for seed in (0, 1):
        torch.manual_seed(seed)
        linear = torch.nn.Linear(4, 3)
        torch.save(linear.state_dict(), tmp_path / "hf/weights.bin")
        row, run = converted(converter_command, tmp_path, FOLDER)
        assert row["status"] == "ok", row["error"]
        assert not row["cached"]
        session = onnxruntime.InferenceSession(
            run / row["files"][0]["path"], providers=["CPUExecutionProvider"]
        )
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(y, linear(torch.from_numpy(x)).detach().numpy(), rtol=1e-4)


def test_9_an_unchanged_folder_is_taken_from_the_store(
    tmp_path: Path, converter_command: Command
) -> None:
    (tmp_path / "build.py").write_text(BUILD)
    (tmp_path / "hf").mkdir()
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "hf/weights.bin")
    assert not converted(converter_command, tmp_path, FOLDER)[0]["cached"]
    assert converted(converter_command, tmp_path, FOLDER)[0]["cached"]


def test_a_model_file_that_freezes_torchs_flags(tmp_path: Path, converter_command: Command) -> None:
    """Importing torch's test helpers does; the worker sets such flags too."""
    (tmp_path / "frozen.py").write_text(FROZEN_FLAGS)
    model = "{source: {file: frozen.py, name: Model}, inputs: {x: {shape: [1, 3, 8, 8]}}}"
    row, _ = converted(converter_command, tmp_path, model)
    assert row["status"] == "ok", row["error"]
