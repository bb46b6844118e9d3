"""The graph of a quantised file is that of its float32 file, whatever 8 bits lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from converter.model.errors import Code
from converter.plugins.variants import int8
from converter.worker.verify import unquantised
from tests.integration.test_quantised import (
    asked,
    convolutions,
    made,
    made_by,
    matrices,
    saved,
    tensor,
)

pytestmark = pytest.mark.integration

Change = Callable[[ModelProto], None]


def clipped(folder: Path) -> Path:
    """What quantisers drop: a Relu, and Clips of two kinds, the last one before the output."""
    node = helper.make_node
    limits = [("low", -0.5), ("high", 0.5), ("six", 6.0), ("zero", 0.0)]
    nodes = [
        node("Constant", [], [name], value=numpy_helper.from_array(np.float32(value)))
        for name, value in limits
    ]
    nodes += [
        node("Conv", ["x", "w0"], ["a"], "first", pads=[1, 1, 1, 1]),
        node("Clip", ["a", "zero", "six"], ["b"], "relu6"),
        node("Conv", ["b", "w1"], ["c"], "second", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["d"], "relu"),
        node("Conv", ["d", "w2"], ["e"], "third", pads=[1, 1, 1, 1]),
        node("Clip", ["e", "low", "high"], ["y"], "hardtanh"),
    ]
    weights = [tensor(f"w{n}", 4, 3 if n == 0 else 4, 3, 3, seed=n) for n in range(3)]
    return saved(folder / "source.onnx", nodes, weights, [1, 3, 8, 8])


def shared(folder: Path) -> Path:
    """One bias with two scales: the quantiser makes two of it."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"], "first", pads=[1, 1, 1, 1]),
        node("Relu", ["h"], ["r"], "relu"),
        node("Conv", ["r", "w", "b"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    return saved(
        folder / "source.onnx", nodes, [tensor("w", 3, 3, 3, 3), tensor("b", 3)], [1, 3, 8, 8]
    )


def recurrent(folder: Path) -> Path:
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["h", "", ""], "lstm", hidden_size=32),
        helper.make_node("Squeeze", ["h", "axis"], ["y"], "squeeze"),
    ]
    weights = [
        tensor("w", 1, 128, 16), tensor("r", 1, 128, 32, seed=1), tensor("b", 1, 256, seed=2),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]  # fmt: skip
    return saved(folder / "source.onnx", nodes, weights, [5, 2, 16])


def looked_up(folder: Path) -> Path:
    """Rows of a table, times a matrix."""
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["ids"], "ids", to=TensorProto.INT64),
        node("Abs", ["ids"], ["whole"], "whole"),
        node("Gather", ["table", "whole"], ["rows"], "gather"),
        node("MatMul", ["rows", "w"], ["y"], "product"),
    ]
    weights = [tensor("table", 50, 32), tensor("w", 32, 32, seed=1)]
    return saved(folder / "source.onnx", nodes, weights, [4])


@pytest.mark.parametrize(
    ("source", "plugin", "options"),
    [
        (convolutions, "int8", {}),
        (convolutions, "int8", {"activations": "int8"}),
        (convolutions, "int8_dynamic", {"op_types": ["Conv"]}),
        (clipped, "int8", {}),
        (clipped, "int8", {"calibration": "percentile", "percentile": 99.9}),
        (shared, "int8", {}),
        (matrices, "int8", {}),
        (matrices, "int8_dynamic", {}),
        (matrices, "int8_dynamic", {"per_channel": True}),
        (matrices, "int4", {}),
        (recurrent, "int8_dynamic", {}),
        (looked_up, "int8_dynamic", {}),
    ],
)
def test_a_sound_file_has_the_graph_of_its_parent(
    tmp_path: Path, source: Callable[[Path], Path], plugin: str, options: dict[str, Any]
) -> None:
    done = made(asked(tmp_path, source(tmp_path), plugin, **options))
    assert done.error is None, done.error
    assert done.accuracy is not None
    assert done.accuracy.same_graph is True


def bypassed(op_type: str) -> Change:
    """Whoever reads the result of that operator reads what it is given."""

    def change(model: ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == op_type)
        for other in model.graph.node:
            for place, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[place] = node.input[0]

    return change


def scaled(model: ModelProto) -> None:
    """A factor behind the first convolution, which leaves most of the signal."""
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    output = node.output[0]
    node.output[0] = "before"
    factor = numpy_helper.from_array(np.float32(1.03), "factor")
    place = list(model.graph.node).index(node) + 1
    model.graph.initializer.append(factor)
    model.graph.node.insert(place, helper.make_node("Mul", ["before", "factor"], [output]))


def padded_otherwise(model: ModelProto) -> None:
    """Reflected in place of zeros: the borders alone are others."""
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    model.graph.initializer.append(pads)
    place = list(model.graph.node).index(node)
    pad = helper.make_node("Pad", [node.input[0], "pads"], ["wider"], mode="reflect")
    node.input[0] = "wider"
    for attribute in node.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [0, 0, 0, 0]
    model.graph.node.insert(place, pad)


@pytest.mark.parametrize("change", [bypassed("Relu"), scaled, padded_otherwise])
def test_an_operator_too_few_or_too_many_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    def changed(parent: Path, target: Path, options: Any, given: Any) -> None:
        # With activations in int8 the quantiser keeps the Relu.
        int8.derive(parent, target, int8.Options(activations="int8", reduce_range=True), given)
        model = onnx.load(target)
        change(model)
        onnx.save(model, target)

    job = asked(tmp_path, convolutions(tmp_path), "int8").model_copy(update={"options": {}})
    done = made_by(monkeypatch, job, changed)
    assert done.error is not None
    assert done.error.code is Code.VERIFY_VALUE
    assert done.error.message.startswith(
        "without its integers the file gives another output y than the float32 file (relative L2 "
    )
    assert done.error.hint.startswith("quantising added, left out or changed an operator")
    assert done.accuracy is not None
    assert done.accuracy.same_graph is False


def test_a_relu_that_the_range_does_not_replace(tmp_path: Path) -> None:
    """The quantiser drops it where integers begin at zero: with another zero point it is gone."""
    job = asked(tmp_path, convolutions(tmp_path), "int8")
    done = made(job)
    file = Path(job.staging_dir) / done.files[0].path
    model = onnx.load(file)
    assert "Relu" not in {node.op_type for node in model.graph.node}
    for item in model.graph.initializer:
        if item.name == "r_zero_point":
            item.CopyFrom(numpy_helper.from_array(np.array(100, np.uint8), item.name))
    onnx.save(model, file)
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    said = unquantised.difference(file, Path(job.parent_file), [feeds])
    assert said
    assert said.startswith("without its integers the file gives another output y")


def test_integers_of_another_form_are_not_judged(tmp_path: Path) -> None:
    """A weight that no name ties to the parent, and operators that nothing here writes."""
    job = asked(tmp_path, convolutions(tmp_path), "int8")
    done = made(job)
    file, parent = Path(job.staging_dir) / done.files[0].path, Path(job.parent_file)
    feeds = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    model = onnx.load(file)
    for item in model.graph.initializer:
        if item.name == "w0_quantized":
            item.name = "renamed"
    for node in model.graph.node:
        node.input[:] = ["renamed" if name == "w0_quantized" else name for name in node.input]
    onnx.save(model, file)
    assert unquantised.difference(file, parent, [feeds]) is None
    model = onnx.load(parent)
    model.graph.node[0].op_type, model.graph.node[0].domain = "QAttention", "com.microsoft"
    onnx.save(model, file)
    assert unquantised.difference(file, parent, [feeds]) is None
