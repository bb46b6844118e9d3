"""What every simplifier must do; a test class for each one inherits this."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import ModelProto, TensorProto, helper

from converter.plugins import simplifiers
from converter.worker.onnxfile import simplification, structure

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


REPOSITORY = Path(__file__).resolve().parents[2]


def foldable() -> ModelProto:
    """n×3 → n×3: two constants that can be added beforehand, and an Identity in the way."""
    nodes = [
        helper.make_node("Add", ["one", "two"], ["three"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Mul", ["same", "three"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 3])],
        [value("y", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor(n, TensorProto.FLOAT, [1], [v]) for n, v in (("one", 1), ("two", 2))],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: ModelProto, x: Any) -> Any:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


class SimplifierContract:
    """Subclasses name the simplifier."""

    name: ClassVar[str]

    @pytest.fixture(autouse=True)
    def leaves_no_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        (tmp_path / "cwd").mkdir()
        monkeypatch.chdir(tmp_path / "cwd")
        yield
        assert list((tmp_path / "cwd").iterdir()) == []

    def simplify(self) -> ModelProto:
        plugin = simplifiers.load(self.name)
        found = plugin.simplify(foldable(), plugin.Options())
        assert isinstance(found, ModelProto)
        return found

    def test_its_options_are_keys_of_its_preset(self) -> None:
        preset = REPOSITORY / "configs" / "simplifier" / f"{self.name}.yaml"
        stated = yaml.safe_load(preset.read_text(encoding="utf-8"))
        assert stated.pop("name") == self.name
        options = simplifiers.load(self.name).Options
        assert options.model_validate(stated) == options()
        assert set(stated) == set(options.model_fields)

    def test_there_is_less_to_do(self) -> None:
        assert structure.op_histogram(self.simplify()) == {"Mul": 1, "Relu": 1}

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_the_numbers_are_the_same(self, batch: int) -> None:
        x = np.resize(X, (batch, 3))
        np.testing.assert_allclose(run(self.simplify(), x), np.maximum(3 * x, 0), rtol=1e-6)

    def test_the_interface_stays(self) -> None:
        before, after = foldable(), self.simplify()
        assert structure.graph_inputs(after) == structure.graph_inputs(before)
        assert structure.graph_outputs(after) == structure.graph_outputs(before)
        assert structure.opsets(after)["ai.onnx"] == 17
        onnx.checker.check_model(after, full_check=True)

    def test_the_same_model_twice_gives_the_same_bytes(self) -> None:
        assert self.simplify().SerializeToString() == self.simplify().SerializeToString()

    def test_its_result_ships(self, tmp_path: Path) -> None:
        found = simplification.simplify(foldable(), self.name, {}, {"batch"}, tmp_path)
        assert found.model is not None
        record = found.record
        assert (record.applied, record.nodes_before, record.nodes_after) == (True, 4, 2)
