"""Graphs without their weights and back, and the files that a model is written to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from converter.model.errors import Code, StageError
from converter.model.records import FileInfo
from converter.model.spec import ExportSpec
from converter.worker.onnxfile import checking, publishing, structure

pytestmark = pytest.mark.integration


def array(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture
def branching() -> ModelProto:
    """Weights over and under 1 KiB in the graph, and one in each branch of an If."""

    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("MatMul", ["h", f"{name}.w"], [name])
        return helper.make_graph(
            [node], name, [], [value(name, "n", 300)], [array(f"{name}.w", 300, 300)]
        )

    nodes = [
        helper.make_node("MatMul", ["x", "big"], ["m"]),
        helper.make_node("Add", ["m", "small"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b")),
    ]
    weights = [array("big", 3, 300), array("small", 1), helper.make_tensor("zero", 1, [], [0.0])]
    graph = helper.make_graph(nodes, "g", [value("x", "n", 3)], [value("y", "n", 300)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: ModelProto | Path) -> Any:
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((2, 3), np.float32)})[0]


def test_a_skeleton_has_the_structure_without_large_weights(branching: ModelProto) -> None:
    before = branching.SerializeToString()
    bare = structure.skeleton(branching)
    assert branching.SerializeToString() == before
    assert [tensor.name for tensor in bare.graph.initializer] == ["small", "zero"]
    assert [entry.name for entry in bare.graph.input] == ["x", "big"]
    assert structure.op_histogram(bare) == structure.op_histogram(branching)
    onnx.checker.check_model(bare, full_check=True)


def test_graft_undoes_skeleton(branching: ModelProto) -> None:
    expected = run(branching)
    back = structure.graft(branching, structure.skeleton(branching))
    assert [entry.name for entry in back.graph.input] == ["x"]
    np.testing.assert_array_equal(run(back), expected)


def test_a_skeleton_keeps_inputs_that_have_initializers(branching: ModelProto) -> None:
    branching.graph.input.append(value("big", 3, 300))
    bare = structure.skeleton(branching)
    assert [entry.name for entry in bare.graph.input] == ["x", "big"]
    back = structure.graft(branching, bare)
    assert [entry.name for entry in back.graph.input] == ["x", "big"]
    assert "big" in {tensor.name for tensor in back.graph.initializer}


def test_graft_refuses_a_weight_of_another_shape(branching: ModelProto) -> None:
    bare = structure.skeleton(branching)
    bare.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(ValueError, match="initializer big changed its shape"):
        structure.graft(branching, bare)


def test_graft_drops_weights_that_nothing_uses(branching: ModelProto) -> None:
    bare = structure.skeleton(branching)
    bare.graph.node[0].CopyFrom(helper.make_node("Identity", ["x"], ["m"]))
    del bare.graph.input[1]
    back = structure.graft(branching, bare)
    assert [tensor.name for tensor in back.graph.initializer] == ["small", "zero"]


def test_what_a_graph_shows(branching: ModelProto) -> None:
    assert structure.op_histogram(branching) == {
        "MatMul": 3, "Add": 1, "Greater": 1, "If": 1, "ReduceSum": 1,
    }  # fmt: skip
    (found,) = structure.graph_inputs(branching)
    assert (found.name, found.dtype, found.shape) == ("x", "float32", ["n", 3])
    assert structure.weight_bytes(branching) == 4 * (900 + 1 + 1 + 2 * 90000)
    assert {tensor.name for tensor in structure.tensors(branching)} >= {"big", "a.w", "b.w"}
    branching.graph.output[0].type.tensor_type.elem_type = 0
    assert structure.graph_outputs(branching)[0].dtype == "undefined"


def test_inputs_of_a_file_that_nobody_described(branching: ModelProto) -> None:
    assert structure.input_specs(branching)["x"].shape == [2, 3]
    branching.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    with pytest.raises(StageError, match="the size of width is open") as caught:
        structure.input_specs(branching)
    assert caught.value.hint == "state inputs: {x: {shape: […]}}"


# Files


def sealed(path: Path) -> list[FileInfo]:
    return publishing.seal(path, onnx.load(path, load_external_data=False))


@pytest.mark.parametrize("external", ["auto", "always", "never"])
def test_every_file_that_a_model_needs_is_recorded(
    branching: ModelProto, tmp_path: Path, external: Any
) -> None:
    """The weights of branches included: an unrecorded data file would stay behind."""
    expected = run(branching)
    path = tmp_path / "model.onnx"
    publishing.save(branching, path, ExportSpec(external_data=external))
    parts = sealed(path)
    assert [part.path for part in parts] == sorted(p.name for p in tmp_path.iterdir())
    assert len(parts) == 1 + (external == "always")
    np.testing.assert_array_equal(run(path), expected)


def test_only_branches_have_large_weights(branching: ModelProto, tmp_path: Path) -> None:
    branching.graph.initializer[0].CopyFrom(array("big", 3, 1))
    branching.graph.node[1].input[1] = "wide"
    branching.graph.initializer.append(helper.make_tensor("wide", 1, [300], [0.5] * 300))
    branching.graph.initializer[-1].dims[0] = 300
    publishing.save(branching, tmp_path / "model.onnx", ExportSpec(external_data="always"))
    names = [part.path for part in sealed(tmp_path / "model.onnx")]
    assert names == ["model.onnx", "model.onnx.data"]


def test_no_data_file_of_an_earlier_attempt_stays(branching: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    publishing.save(copy.deepcopy(branching), path, ExportSpec(external_data="always"))
    publishing.save(branching, path, ExportSpec())
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_that_one_file_cannot_hold(
    branching: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_INLINE_BYTES", 1000)
    path = tmp_path / "model.onnx"
    with pytest.raises(StageError, match="one file holds 2 GiB") as caught:
        publishing.save(branching, path, ExportSpec(external_data="never"))
    assert (caught.value.code, caught.value.hint) == (Code.IO, "set export.external_data: auto")
    publishing.save(branching, path, ExportSpec())
    assert len(sealed(path)) == 2


def test_a_folder_that_is_not_there(branching: ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "model.onnx"
    with pytest.raises(StageError, match=f"cannot write {path}: No such file") as caught:
        publishing.save(branching, path, ExportSpec())
    assert caught.value.code is Code.IO


@pytest.mark.parametrize("content", [b"<html>", None])
def test_an_export_that_is_no_onnx(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "raw.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StageError, match=r"raw\.onnx cannot be read") as caught:
        checking.load(path)
    assert caught.value.code is Code.CHECKER
