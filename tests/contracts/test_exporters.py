"""Every exporter in the folder keeps the contract."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from exporter_contract import EXAMPLE, OPSET, ExporterContract, Net, loaded

from converter.plugins import loader
from converter.worker.sources.loading import Loaded
from converter.worker.sources.onnx_source import OnnxFile

pytestmark = [
    pytest.mark.integration,
    # The exporters' own; in a job the stage recorder collects them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def program() -> Loaded:
    return loaded(torch.export.export(Net().eval(), (EXAMPLE,)), "exported_program")


def script() -> Loaded:
    return loaded(torch.jit.script(Net().eval()), "script_module")


def onnx_file(path: Path) -> Loaded:
    batch = {0: "batch"}
    torch.onnx.export(
        Net().eval(), (EXAMPLE,), str(path), dynamo=False, opset_version=OPSET,
        input_names=["x"], output_names=["y", "mean"],
        dynamic_axes={"x": batch, "y": batch, "mean": batch},
    )  # fmt: skip
    return loaded(OnnxFile(path, onnx.load(path)), "onnx")


class TestTorchscript(ExporterContract):
    name = "torchscript"

    def strangers(self) -> list[Loaded]:
        return [program()]


class TestDynamo(ExporterContract):
    name = "dynamo"

    def strangers(self) -> list[Loaded]:
        return [script()]


class TestOriginal(ExporterContract):
    name = "original"

    def subject(self, folder: Path) -> Loaded:
        return onnx_file(folder / "net.onnx")

    def strangers(self) -> list[Loaded]:
        return [loaded(), script()]


def test_every_exporter_is_under_contract() -> None:
    tested = {case.name for case in ExporterContract.__subclasses__()}
    assert tested == set(loader.names("exporters"))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_an_onnx_source_is_refused(exporter: str, tmp_path: Path) -> None:
    case = {"torchscript": TestTorchscript, "dynamo": TestDynamo}[exporter]()
    source = onnx_file(tmp_path / "net.onnx")
    case.strangers = lambda: [source]  # type: ignore[method-assign]
    case.test_a_source_of_another_kind_is_refused_with_advice(tmp_path)
