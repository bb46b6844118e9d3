"""Weights stay in their file from the exporter to the final one, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import unknown_fields  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from converter.model.errors import StageError
from converter.model.spec import ExportSpec
from converter.plugins.exporters import _apart
from converter.worker.onnxfile import checking, outside, publishing, structure, writing


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 16, 3)
        self.norm = torch.nn.BatchNorm2d(16)
        self.head = torch.nn.Linear(16, 40)
        self.table = torch.nn.Parameter(torch.randn(40, 40, dtype=torch.float16))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.norm(self.convolution(image)).relu().mean((2, 3))
        result: torch.Tensor = self.head(found) @ self.table.float()
        return result


def export(path: Path, **options: Any) -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 8, 8)
    with torch.no_grad():
        torch.onnx.export(
            Net().eval(), (image,), str(path), dynamo=False, opset_version=17, **options
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep_initializers_as_inputs": True},
        {"do_constant_folding": False},
        {"export_params": False},
        {"input_names": ["image"], "dynamic_axes": {"image": {0: "n", 2: "h", 3: "w"}}},
        {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False},
    ],
)
def test_the_file_is_the_one_that_torch_writes_to_the_byte(
    options: dict[str, Any], tmp_path: Path
) -> None:
    export(tmp_path / "own.onnx", **options)
    with _apart.weights(tmp_path / "raw.onnx"):
        export(tmp_path / "raw.onnx", **options)
    model = checking.load(tmp_path / "raw.onnx", weights=False)
    held = options.get("export_params", True)
    assert any(map(uses_external_data, model.graph.initializer)) is held
    writing.write(model, tmp_path / "one.onnx", tmp_path)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "own.onnx").read_bytes()
    assert not any(map(uses_external_data, model.graph.initializer)), "it says what the file says"


def apart(folder: Path, *, location: str = "w.data") -> ModelProto:
    """A model with a large weight in another file, and all else that a model may have."""
    weight = numpy_helper.from_array(np.arange(600, dtype=np.float32).reshape(20, 30), "weight")
    small = numpy_helper.from_array(np.array([2.0], np.float32), "small")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["h"]),
         helper.make_node("Mul", ["h", "small"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 30])],
        [small, weight],
        doc_string="words",
    )  # fmt: skip
    model = helper.make_model(graph, producer_name="me", doc_string="of the model")
    model.metadata_props.add(key="key", value="value")
    # Fields that this onnx does not know: of the graph and of the weight.
    model.graph.MergeFromString(b"\xfa\x3f\x02hi")
    model.graph.initializer[1].MergeFromString(b"\xfa\x3f\x02ho")
    (folder / "whole.onnx").write_bytes(model.SerializeToString())
    (folder / "w.data").write_bytes(b"    " + model.graph.initializer[1].raw_data)
    outside.refer(model.graph.initializer[1], location, 4, 2400)
    return model


def test_fields_that_nobody_knows_are_kept(tmp_path: Path) -> None:
    model = apart(tmp_path)
    writing.write(model, tmp_path / "one.onnx", tmp_path)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    read = onnx.load(tmp_path / "one.onnx")
    assert len(unknown_fields.UnknownFieldSet(read.graph.initializer[1])) == 1


def test_external_data_hold_the_same_values(tmp_path: Path) -> None:
    model = apart(tmp_path)
    publishing.save(model, tmp_path / "m.onnx", ExportSpec(external_data="always"), {}, tmp_path)
    bare = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert [uses_external_data(tensor) for tensor in bare.graph.initializer] == [False, True]
    whole = onnx.load(tmp_path / "whole.onnx")
    for got, want in zip(
        onnx.load(tmp_path / "m.onnx").graph.initializer, whole.graph.initializer, strict=True
    ):
        assert np.array_equal(numpy_helper.to_array(got), numpy_helper.to_array(want))
    assert (tmp_path / "m.onnx.data").stat().st_size == 2400


def test_small_values_are_read_and_large_ones_are_not(tmp_path: Path) -> None:
    model = apart(tmp_path)
    held = model.graph.initializer[0]
    (tmp_path / "s.data").write_bytes(held.raw_data)
    outside.refer(held, "s.data", 0, 4)
    onnx.save_model(model, tmp_path / "raw.onnx")
    read = checking.load(tmp_path / "raw.onnx", weights=False)
    assert [uses_external_data(tensor) for tensor in read.graph.initializer] == [False, True]
    assert numpy_helper.to_array(read.graph.initializer[0]).tolist() == [2.0]
    assert structure.weight_bytes(read) == 2404


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "w.data").unlink(), "w.data does not exist"),
        (lambda f: (f / "w.data").write_bytes(b"short"), "is shorter than the model says"),
        (lambda f: ((f / "w.data").unlink(), (f / "w.data").mkdir()), "w.data is no file"),
        (
            lambda f: ((f / "w.data").rename(f / "o"), (f / "w.data").symlink_to(f / "o")),
            "lies outside of the model's folder",
        ),
    ],
)
def test_values_that_are_not_there_are_told(damage: Any, said: str, tmp_path: Path) -> None:
    onnx.save_model(apart(tmp_path), tmp_path / "raw.onnx")
    damage(tmp_path)
    with pytest.raises(StageError, match=said) as caught:
        checking.load(tmp_path / "raw.onnx", weights=False)
    assert (caught.value.code, "weight" in caught.value.message) == ("CHECKER", True)


@pytest.mark.parametrize("location", ["../w.data", "deep/../../w.data"])
def test_no_file_of_another_folder_is_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    model = apart(folder, location=location)
    (tmp_path / "w.data").write_bytes((folder / "w.data").read_bytes())
    onnx.save_model(model, folder / "raw.onnx")
    with pytest.raises(StageError, match="lies outside of the model's folder"):
        checking.load(folder / "raw.onnx", weights=False)
