"""Constants of ``forward``, the names of dynamic axes, and parameters as inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.model.job import Job
from converter.model.records import JobResult
from converter.worker.pipeline import pipeline

pytestmark = pytest.mark.integration

CODE = """
import torch
from torch import nn

class Keyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
    def forward(self, x, *, factor=1.0, flip=False):
        y = self.linear(x) * factor
        return -y if flip else y

class Positional(Keyword):
    def forward(self, x, factor, flip):
        return super().forward(x, factor=factor, flip=flip)

def normalised():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    for tensor in (model[1].weight, model[1].bias, model[1].running_mean, model[1].running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)
    return model
"""


def convert(folder: Path, name: str, shape: list[int], **options: object) -> JobResult:
    file = folder / "code.py"
    file.write_text(CODE)
    staging = folder / "staging"
    staging.mkdir()
    values = {
        "name": name.lower(),
        "source": {"file": str(file), "name": name},
        "inputs": {"x": {"shape": shape}},
        "opset": 18,
        "simplifier": None,
        "trust": [str(folder)],
        "model_dir": str(folder),
        "staging_dir": str(staging),
    }
    job = Job.model_validate_json(json.dumps({**values, **options}))
    return pipeline.run(job, lambda stage: None)


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["Keyword", "Positional"])
def test_constants_are_bound_and_axes_keep_their_names(
    tmp_path: Path, name: str, exporter: str
) -> None:
    result = convert(
        tmp_path,
        name,
        [2, 8],
        exporters=[exporter],
        constants={"factor": 2.5, "flip": True},
        dynamic_axes={"x": {"0": "batch"}},
        verify={"budget": 0},
    )
    assert result.error is None
    assert result.onnx is not None
    assert [(value.name, value.shape) for value in result.onnx.inputs] == [("x", ["batch", 8])]
    assert result.verify.dynamic[0].sizes_tested == [1, 3]


def test_parameters_become_inputs_one_by_one(tmp_path: Path) -> None:
    options = {"export_params": False}
    result = convert(
        tmp_path, "normalised", [2, 3, 9, 9], exporters=["torchscript"], export=options
    )
    assert result.error is None
    assert result.onnx is not None
    names = [value.name for value in result.onnx.inputs]
    assert names[0] == "x"
    assert "1.running_var" in names
    assert result.onnx.parameters == 0
