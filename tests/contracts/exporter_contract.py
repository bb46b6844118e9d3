"""What every exporter must do; a test class for each one inherits this."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.plan import opsets
from converter.plugins import exporters
from converter.worker.sources.loading import Loaded

# The least that the dynamo exporter has operators for; it converts down from there, where it can.
OPSET = 18
CPU = torch.device("cpu")
EXAMPLE = torch.linspace(-1, 1, 6).reshape(2, 3)
Exported = tuple[Loaded, Path]


class Net(nn.Module):
    """n×3 → n×4, and its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        weight = torch.linspace(-1, 1, 16)
        self.layer.weight = nn.Parameter(weight[:12].reshape(4, 3))
        self.layer.bias = nn.Parameter(weight[12:])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.layer(x))
        return y, y.mean(1)


def loaded(model: Any = None, kind: Any = "module") -> Loaded:
    return Loaded(model or Net().eval(), kind, CPU, None)


def make_job(name: str, folder: Path, opset: int = OPSET) -> Job:
    return Job(
        name="net",
        source={"registry": "none"},
        inputs={"x": {"shape": [2, 3]}},
        outputs=["y", "mean"],
        dynamic_axes={"x": {0: "batch"}},
        opset=opset,
        exporters=[name],
        model_dir=str(folder / "models"),
        staging_dir=str(folder),
    )


def state(subject: Loaded) -> list[bytes]:
    """What must be the same before and after."""
    if isinstance(subject.model, nn.Module):
        held = [tensor.numpy().tobytes() for tensor in subject.model.state_dict().values()]
        return [*held, str([module.training for module in subject.model.modules()]).encode()]
    return [subject.model.proto.SerializeToString(deterministic=True)]  # type: ignore[union-attr]


class ExporterContract:
    """Subclasses name the exporter, and give a source that it takes and those that it refuses."""

    name: ClassVar[str]

    def subject(self, folder: Path) -> Loaded:
        """``Net``, in the form that the exporter takes."""
        return loaded()

    def strangers(self) -> list[Loaded]:
        raise NotImplementedError

    def export(self, subject: Loaded, job: Job, destination: Path) -> None:
        example = EXAMPLE.clone()
        exporters.export(self.name, subject, job, (example,), destination)
        assert torch.equal(example, EXAMPLE)

    @pytest.fixture(scope="class")
    def exported(self, tmp_path_factory: pytest.TempPathFactory) -> Exported:
        """One export, looked at from all sides."""
        folder = tmp_path_factory.mktemp(self.name)
        subject = self.subject(folder)
        before, cwd, mode = state(subject), os.getcwd(), torch.is_grad_enabled()
        (folder / "out").mkdir()
        path = folder / "out" / "raw.onnx"
        self.export(subject, make_job(self.name, folder), path)
        assert state(subject) == before
        assert (os.getcwd(), torch.is_grad_enabled()) == (cwd, mode)
        return subject, path

    def test_the_file_is_valid_and_has_the_opset_asked_for(self, exported: Exported) -> None:
        onnx.checker.check_model(str(exported[1]), full_check=True)
        (default,) = [entry for entry in onnx.load(exported[1]).opset_import if not entry.domain]
        assert default.version == OPSET

    def test_names_and_symbols_are_as_declared(self, exported: Exported) -> None:
        graph = onnx.load(exported[1]).graph
        assert [value.name for value in graph.input] == ["x"]
        assert [value.name for value in graph.output] == ["y", "mean"]
        first = graph.input[0].type.tensor_type.shape.dim[0]
        assert first.dim_param

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_the_numbers_are_those_of_the_source(self, exported: Exported, batch: int) -> None:
        x = torch.linspace(-2, 2, 3 * batch).reshape(batch, 3)
        session = onnxruntime.InferenceSession(exported[1], providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": x.numpy()})
        for have, want in zip(found, Net()(x), strict=True):
            np.testing.assert_allclose(have, want.detach().numpy(), rtol=1e-5, atol=1e-6)

    def test_nothing_lies_elsewhere(self, exported: Exported) -> None:
        """External data, if any, is named after the file."""
        assert {path.name for path in exported[1].parent.iterdir()} <= {
            "raw.onnx", "raw.onnx.data",
        }  # fmt: skip

    def test_a_source_of_another_kind_is_refused_with_advice(self, tmp_path: Path) -> None:
        for stranger in self.strangers():
            with pytest.raises(StageError) as caught:
                self.export(stranger, make_job(self.name, tmp_path), tmp_path / "raw.onnx")
            assert caught.value.code is Code.EXPORT_UNSUPPORTED
            assert len(f"{caught.value.message}{caught.value.hint}".splitlines()) == 1
            assert not (tmp_path / "raw.onnx").exists()

    def test_its_opsets_are_known(self) -> None:
        low, high = opsets.span(self.name)
        assert low <= OPSET <= high
