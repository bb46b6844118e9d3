"""Quantised variants: what they are made of, what judges them, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from converter.model.errors import Code
from converter.model.job import Derived
from converter.model.records import JobResult
from converter.model.spec import AccuracySpec
from converter.plugins import variants
from converter.plugins.variants import _fallback, _positions, _quantised, int4, int8, int8_dynamic
from converter.worker.compare import figures
from converter.worker.onnxfile import multiplications, quantised
from converter.worker.pipeline import derive
from converter.worker.reference import kept
from converter.worker.verify import accuracy, quantised_weights, unquantised
from tests.integration.test_derive import Plugin, copied, followed

pytestmark = pytest.mark.integration

MAKERS = {"int8": int8, "int8_dynamic": int8_dynamic, "int4": int4}
Damage = Callable[[NDArray[Any]], NDArray[Any]]


def tensor(name: str, *shape: int, seed: int = 0, size: float = 0.3) -> TensorProto:
    values = np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def saved(path: Path, nodes: list[Any], weights: list[TensorProto], shape: list[int],
          opset: int = 17, kind: int = TensorProto.FLOAT) -> Path:  # fmt: skip
    """A file with one input and one output."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, None)], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, path)
    return path


def convolutions(folder: Path, opset: int = 17) -> Path:
    """Two convolutions; 1×3×8×8 → 1×4×8×8."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["h"], "first", pads=[1, 1, 1, 1]),
        node("Relu", ["h"], ["r"], "relu"),
        node("Conv", ["r", "w1"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    weights = [tensor("w0", 8, 3, 3, 3), tensor("b0", 8, seed=1), tensor("w1", 4, 8, 3, 3, seed=2)]
    return saved(folder / "source.onnx", nodes, weights, [1, 3, 8, 8], opset)


def matrices(folder: Path) -> Path:
    """Two matrices, one of them transposed in a Gemm; 4×64 → 4×16."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w0"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("Gemm", ["r", "w1", "b1"], ["y"], "second", transB=1),
    ]
    weights = [tensor("w0", 64, 64), tensor("w1", 16, 64, seed=1), tensor("b1", 16, seed=2)]
    return saved(folder / "source.onnx", nodes, weights, [4, 64])


def asked(
    folder: Path, source: Path, plugin: str, more: dict[str, Any] | None = None, **options: Any
) -> Derived:
    """The job that makes a variant of a file; its weights count as trained, as any ONNX file's."""
    maker: Any = MAKERS[plugin]
    # Of a processor with VNNI, whatever runs the test.
    machine = {} if plugin == "int4" else {"reduce_range": True}
    given = maker.Options(**{**machine, **options}).model_dump()
    wanted = {"source": {"onnx": str(source)}, "inputs": {}, "opset": None, **(more or {})}
    job = followed(folder, maker.PRECISION, options=given, **wanted)
    return job.model_copy(update={"plugin": plugin})


def made(job: Derived) -> JobResult:
    return derive.run(job, lambda news: None)


def made_by(monkeypatch: pytest.MonkeyPatch, job: Derived, derive: Any) -> JobResult:
    """What comes of the job where the plugin int8 writes that."""
    plugin = Plugin(copied, "int8")
    monkeypatch.setattr(plugin, "derive", derive)
    monkeypatch.setattr(variants, "load", lambda name: plugin)
    return made(job)


@pytest.fixture
def graph_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a file is in integers of a form that cannot be computed in floats."""
    monkeypatch.setattr(unquantised, "difference", lambda *_: None)


def file_of(job: Derived, done: JobResult) -> ModelProto:
    return onnx.load(Path(job.staging_dir) / done.files[0].path)


def test_int8_says_what_was_reached_on_which_samples(tmp_path: Path) -> None:
    job = asked(tmp_path, convolutions(tmp_path), "int8")
    done = made(job)
    assert done.error is None, done.error
    assert (done.check.precision_weights, done.check.precision_macs) == (1.0, 1.0)
    assert done.accuracy is not None
    assert done.accuracy.gate == "applied"
    assert done.accuracy.sqnr_db is not None
    assert done.accuracy.sqnr_db > 20
    assert (done.accuracy.weights_compared, done.accuracy.weights) == (3, 3)
    assert done.made is not None
    assert done.made.calibration is not None
    assert (done.made.calibration.kind, done.made.calibration.samples) == ("drawn", 8)
    assert "calibrated on 8 drawn inputs, not on data" in (done.verify.reason or "")
    operators = {node.op_type for node in file_of(job, done).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_calibrations(tmp_path: Path, method: str) -> None:
    done = made(asked(tmp_path, convolutions(tmp_path), "int8", calibration=method))
    assert done.error is None, done.error
    assert done.made is not None
    assert done.made.calibration is not None
    assert done.made.calibration.method == method


def test_an_opset_that_is_too_low_is_raised_and_said(tmp_path: Path) -> None:
    job = asked(tmp_path, convolutions(tmp_path, opset=11), "int8")
    done = made(job)
    assert done.error is None, done.error
    assert done.onnx is not None
    assert done.onnx.opset == 13
    assert done.made is not None
    assert "raised from 11 to 13" in done.made.notes[0]


@pytest.mark.parametrize("plugin", ["int8_dynamic", "int4"])
def test_matrices_of_transformers(tmp_path: Path, plugin: str) -> None:
    done = made(asked(tmp_path, matrices(tmp_path), plugin).model_copy(
        update={"accuracy": AccuracySpec(sqnr_db=10, cosine=0.9)}
    ))  # fmt: skip
    assert done.error is None, done.error
    assert (done.check.precision_weights, done.check.precision_macs) > (0.9, 0.9)
    assert done.accuracy is not None
    assert (done.accuracy.weights_compared, done.accuracy.weights) == (3, 3)


def test_a_node_that_is_blocked_stays_in_float(tmp_path: Path) -> None:
    job = asked(tmp_path, convolutions(tmp_path), "int8", node_block_list=["first"])
    done = made(job)
    assert done.error is None, done.error
    assert done.check.precision_macs is not None
    assert 0.2 < done.check.precision_macs < 1
    assert "w0" in {each.name for each in file_of(job, done).graph.initializer}


def test_a_blocked_node_that_is_not_there(tmp_path: Path) -> None:
    done = made(asked(tmp_path, convolutions(tmp_path), "int8", node_block_list=["third"]))
    assert done.error is not None
    assert "the model has no node third" in done.error.message


def test_nothing_to_quantise(tmp_path: Path) -> None:
    source = saved(
        tmp_path / "source.onnx",
        [helper.make_node("Mul", ["x", "w"], ["y"], "scale")], [tensor("w", 4)], [2, 4],
    )  # fmt: skip
    done = made(asked(tmp_path, source, "int8"))
    assert done.error is not None
    assert done.error.code is Code.PRECISION_NOT_REACHED
    assert "nothing to quantise: the model computes with Mul" in done.error.message


@pytest.mark.parametrize(
    ("plugin", "options", "said"),
    [
        ("int8_dynamic", {}, "computes with Conv; int8 quantises Conv"),
        ("int8_dynamic", {"op_types": ["LSTM"]}, "LSTM would be, and the model computes with Conv"),
        ("int8", {"op_types": ["MatMul"]}, "MatMul would be, and the model computes with Conv"),
        ("int4", {"gemm": False}, "MatMul would be, and the model computes with Conv"),
    ],
)
def test_why_there_is_nothing_to_quantise(
    tmp_path: Path, plugin: str, options: dict[str, Any], said: str
) -> None:
    done = made(asked(tmp_path, convolutions(tmp_path), plugin, **options))
    assert done.error is not None
    assert done.error.code is Code.PRECISION_NOT_REACHED
    assert said in done.error.message
    assert "bodies" not in done.error.message


def test_a_transposed_convolution_in_groups(tmp_path: Path) -> None:
    """ONNX Runtime's quantizer cannot give its bias scales per channel."""
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "up", group=2, strides=[2, 2])
    weights = [tensor("w", 6, 5, 3, 3), tensor("b", 10, seed=1)]
    source = saved(tmp_path / "source.onnx", [node], weights, [2, 6, 7, 7])
    done = made(asked(tmp_path, source, "int8"))
    assert done.error is None, done.error
    assert done.made is not None
    assert "one scale for all channels of w" in done.made.notes[0]


def test_what_the_quantizer_raises_is_a_sentence() -> None:
    said = r"quantizer fails on this model: 'w'; .* \(op_block_list"
    with pytest.raises(ValueError, match=said), _quantised.explained("op_block_list"):
        raise KeyError("w")


def resized(folder: Path) -> Path:
    """What a resize to a size that follows from the input is exported to: indices from floats."""
    node = helper.make_node
    constants = [
        numpy_helper.from_array(np.asarray(value, kind), name)
        for name, value, kind in [
            ("two", 2, np.int64), ("zero", 0, np.int64), ("one", 1, np.int64),
            ("half", 0.5, np.float32),
        ]
    ]  # fmt: skip
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c"], "first", pads=[1, 1]),
        node("Shape", ["c"], ["shape"], "shape"),
        node("Gather", ["shape", "two"], ["size"], "size"),
        node("Add", ["size", "size"], ["more"], "more"),
        node("Range", ["zero", "more", "one"], ["places"], "range"),
        node("Cast", ["places"], ["position"], "cast", to=TensorProto.FLOAT),
        node("Mul", ["position", "half"], ["coordinate"], "scale"),
        node("Floor", ["coordinate"], ["whole"], "floor"),
        node("Cast", ["whole"], ["index"], "index", to=TensorProto.INT64),
        node("Gather", ["c", "index"], ["g"], "pick", axis=2),
        node("Mul", ["g", "g"], ["s"], "square"),
        node("Mul", ["s", "coordinate"], ["p"], "by_place"),
        node("Conv", ["s", "w1"], ["y"], "second"),
        node("Conv", ["p", "w1"], ["z"], "third"),
    ]
    weights = [tensor("w0", 8, 2, 3), tensor("b0", 8, seed=1), tensor("w1", 4, 8, 1, seed=2)]
    return saved(folder / "source.onnx", nodes, [*weights, *constants], [1, 2, 200])


def test_indices_and_positions_are_not_quantised(tmp_path: Path) -> None:
    """Off by half a step of 400 places in 256 levels, ``Floor`` reads another one."""
    path = resized(tmp_path)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    assert set(_positions.nodes(model)) >= {"cast", "scale", "floor", "by_place"}
    assert not {"first", "second", "third", "square"} & set(_positions.nodes(model))
    job = asked(tmp_path, path, "int8", fallback_tries=0)
    done = made(job)
    assert done.error is None, done.error
    quantised_ = {
        node.input[0] for node in file_of(job, done).graph.node if node.op_type == "QuantizeLinear"
    }
    assert {"x", "s"} <= quantised_
    assert not {"position", "coordinate", "whole"} & quantised_


def test_what_follows_a_layer_goes_to_float_without_it(tmp_path: Path) -> None:
    """Where a layer holds too many of the weights to be left in float itself."""
    groups = {"first": ["first", "relu"], "second": ["second"]}
    found = _fallback._affordable(["first", "second"], groups, matrices(tmp_path))
    assert found == [["relu"]]
    found = _fallback._affordable(["second", "first"], groups, matrices(tmp_path))
    assert found == [["second"], ["relu"]]


def test_recurrent_layers_have_no_static_form(tmp_path: Path) -> None:
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["h"], "lstm", hidden_size=16)
    nodes = [lstm, helper.make_node("MatMul", ["h", "m"], ["y"], "head")]
    weights = [tensor("w", 1, 64, 8), tensor("r", 1, 64, 16), tensor("m", 16, 4)]
    done = made(asked(tmp_path, saved(tmp_path / "source.onnx", nodes, weights, [5, 2, 8]), "int8"))
    assert done.error is not None
    assert done.error.code is Code.PRECISION_NOT_REACHED
    assert "96% of the weights are those of LSTM" in done.error.message
    assert "int8_dynamic quantises LSTM" in done.error.message


def test_bytes_of_a_picture_are_activations(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["f"], "cast", to=TensorProto.FLOAT),
        node("Mul", ["f", "f"], ["m"], "normalise"),
        node("Conv", ["m", "w"], ["y"], "conv"),
    ]
    model = onnx.load(saved(tmp_path / "m.onnx", nodes, [tensor("w", 4, 3, 1, 1)], [1, 3, 4, 4]))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.ClearField("value_info")
    model = onnx.shape_inference.infer_shapes(model)
    assert _positions.nodes(model) == []
    # Whole numbers are told apart in float32, and what a layer makes of them is an activation.
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    assert _positions.nodes(model) == ["normalise"]


def test_int8_that_quantises_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(tmp_path, convolutions(tmp_path), "int8").model_copy(update={"options": {}})
    monkeypatch.setattr(variants, "load", lambda name: Plugin(copied, "int8"))
    done = made(job)
    assert done.error is not None
    assert done.error.code is Code.PRECISION_NOT_REACHED
    assert "no weight is int8" in done.error.message


def outlying(folder: Path, number: float = 1000.0) -> Path:
    """Three matrices, of which the second has a number that leaves no levels to the others."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w0"], ["h0"], "first"),
        node("MatMul", ["h0", "w1"], ["h1"], "second"),
        node("MatMul", ["h1", "w2"], ["y"], "third"),
    ]
    spoilt = tensor("w1", 64, 64, seed=1)
    values = numpy_helper.to_array(spoilt).copy()
    # Of a row that is zero before it: the number matters to nobody but the scale.
    values[0, 0] = number
    first = numpy_helper.to_array(tensor("w0", 64, 64)).copy()
    first[:, 0] = 0.0
    weights = [
        numpy_helper.from_array(first, "w0"),
        numpy_helper.from_array(values, "w1"),
        tensor("w2", 64, 64, seed=2),
    ]
    return saved(folder / "source.onnx", nodes, weights, [4, 64])


def test_the_layer_that_spoils_the_file_goes_back_to_float(tmp_path: Path) -> None:
    job = asked(tmp_path, outlying(tmp_path), "int8_dynamic")
    done = made(job)
    assert done.error is None, done.error
    assert done.made is not None
    assert done.made.float_nodes == ["second"]
    first, last = done.made.curve[0], done.made.curve[-1]
    assert (first.float_nodes, last.float_nodes) == (0, 1)
    assert first.error is not None
    assert last.error is None


def test_the_layer_that_costs_the_score_goes_back_to_float(tmp_path: Path) -> None:
    source = outlying(tmp_path, 20.0)
    session, draw = onnxruntime.InferenceSession(source), np.random.default_rng(3)
    (tmp_path / "samples").mkdir()
    for number in range(4):
        x = draw.normal(size=(4, 64)).astype(np.float32)
        (label,) = session.run(None, {"x": x})
        np.savez(tmp_path / "samples" / f"{number}.npz", x=x, label=label)
    more = {
        "data": {"path": str(tmp_path / "samples")},
        "metric": {"_target_": "meanings.near", "within": 0.05, "max_drop": 0.05},
        "trust": ["meanings"],
    }
    done = made(asked(tmp_path, source, "int8_dynamic", more=more))
    assert done.error is None, done.error
    assert done.made is not None
    assert done.made.float_nodes == ["second"]
    assert done.made.curve[0].error is not None
    assert "near is 1 in PyTorch and 0." in done.made.curve[0].error
    assert done.made.curve[-1].error is None
    assert done.verify.metric is not None
    assert done.verify.metric.passed
    assert done.accuracy is not None
    assert done.accuracy.reason == "the metric decides"


def test_without_tries_it_fails_with_the_figure(tmp_path: Path) -> None:
    done = made(asked(tmp_path, outlying(tmp_path), "int8_dynamic", fallback_tries=0))
    assert done.error is not None
    assert done.error.code is Code.ACCURACY
    assert "15 requested" in done.error.message
    assert done.accuracy is not None
    assert done.accuracy.sqnr_db is not None
    assert done.accuracy.sqnr_db < 15


def test_random_weights_are_shown_not_judged(tmp_path: Path) -> None:
    job = followed(
        tmp_path, "int8", options=int8.Options(reduce_range=True).model_dump(),
        weights="conditioned",
    )  # fmt: skip
    wanted = AccuracySpec(sqnr_db=150.0)
    done = made(job.model_copy(update={"plugin": "int8", "accuracy": wanted}))
    assert done.error is None, done.error
    assert done.accuracy is not None
    assert (done.accuracy.gate, done.accuracy.asked) == ("shown", wanted)
    assert "random weights" in (done.accuracy.reason or "")
    assert [axis.passed for axis in done.verify.dynamic] == [True]


@pytest.mark.usefixtures("graph_unknown")
def test_another_graph_is_none_that_random_weights_excuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def negated(parent: Path, target: Path, options: Any, given: Any) -> None:
        int8.derive(parent, target, int8.Options(reduce_range=True), given)
        model = onnx.load(target)
        (output,) = model.graph.output
        maker = next(node for node in model.graph.node if output.name in node.output)
        maker.output[:] = ["before"]
        model.graph.node.append(helper.make_node("Neg", ["before"], [output.name]))
        onnx.save(model, target)

    job = followed(tmp_path, "int8", weights="conditioned")
    done = made_by(monkeypatch, job, negated)
    assert done.error is not None
    assert done.error.code is Code.ACCURACY
    assert "the graph may be another one" in done.error.hint


DAMAGES: dict[str, Damage] = {
    "negated": lambda values: -values,
    "zeroed": np.zeros_like,
    "x 1.5": lambda values: np.clip(np.rint(values * 1.5), -127, 127).astype(values.dtype),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_weight_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # With random weights no threshold applies, and nothing else would notice.
    job = followed(tmp_path, "int8")

    def damaged(parent: Path, target: Path, options: Any, given: Any) -> None:
        int8.derive(parent, target, int8.Options(reduce_range=True), given)
        model = onnx.load(target)
        weight = next(item for item in quantised.weights(model) if item.kind == TensorProto.INT8)
        held = next(item for item in model.graph.initializer if item.name == weight.name)
        values = DAMAGES[kind](numpy_helper.to_array(held))
        held.CopyFrom(numpy_helper.from_array(values, held.name))
        onnx.save(model, target)

    done = made_by(monkeypatch, job, damaged)
    assert done.error is not None
    assert done.error.code is Code.VERIFY_VALUE
    assert "which is more than one step of" in done.error.message


def quantise(folder: Path) -> tuple[Path, ModelProto]:
    source = convolutions(folder)
    job = asked(folder, source, "int8")
    done = made(job)
    return Path(job.parent_file), file_of(job, done)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scale: scale * 0, "is zero or not finite"),
        (lambda scale: scale * 1.5, "which is more than one step of"),
    ],
)
def test_a_damaged_scale(tmp_path: Path, change: Damage, said: str) -> None:
    parent, model = quantise(tmp_path)
    held = next(item for item in model.graph.initializer if item.name == "w0_scale")
    values = change(numpy_helper.to_array(held)).astype(np.float32)
    held.CopyFrom(numpy_helper.from_array(values, held.name))
    onnx.save(model, tmp_path / "damaged.onnx")
    assert said in quantised_weights.compare(parent, tmp_path / "damaged.onnx").wrong


def test_a_damaged_zero_point_of_an_activation(tmp_path: Path) -> None:
    parent, model = quantise(tmp_path)
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    onnx.save(model, tmp_path / "sound.onnx")
    assert quantised_weights.cut_off(parent, tmp_path / "sound.onnx", feeds) == ""
    held = next(item for item in model.graph.initializer if item.name == "r_zero_point")
    held.CopyFrom(numpy_helper.from_array(np.asarray(255, np.uint8), held.name))
    onnx.save(model, tmp_path / "damaged.onnx")
    found = quantised_weights.cut_off(parent, tmp_path / "damaged.onnx", feeds)
    assert "tensor 'r' is quantised in a range that holds" in found


def test_steps_that_are_too_coarse_are_called_so(tmp_path: Path) -> None:
    parent, model = quantise(tmp_path)
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    held = next(item for item in model.graph.initializer if item.name == "r_scale")
    held.CopyFrom(numpy_helper.from_array(np.full((), 1000, np.float32), held.name))
    onnx.save(model, tmp_path / "coarse.onnx")
    found = quantised_weights.cut_off(parent, tmp_path / "coarse.onnx", feeds)
    assert "tensor 'r' is quantised in steps of 1e+03" in found
    assert "too coarse" in found


def test_a_pair_with_two_scales(tmp_path: Path) -> None:
    parent, model = quantise(tmp_path)
    node = next(
        item for item in model.graph.node
        if item.op_type == "DequantizeLinear" and item.input[1] == "r_scale"
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.float32(9), "other"))
    node.input[1] = "other"
    onnx.save(model, tmp_path / "damaged.onnx")
    found = quantised_weights.compare(parent, tmp_path / "damaged.onnx").wrong
    assert "tensor 'r' is quantised with another scale" in found


def renamed(model: ModelProto, name: str, change: Damage) -> None:
    """Damage an initializer, and call it something else."""
    held = next(item for item in model.graph.initializer if item.name == name)
    values = change(numpy_helper.to_array(held).copy())
    held.CopyFrom(numpy_helper.from_array(values, f"other_{name}"))
    for node in model.graph.node:
        node.input[:] = [held.name if each == name else each for each in node.input]


def largest_negated(values: NDArray[Any]) -> NDArray[Any]:
    place = np.unravel_index(np.argmax(np.abs(values.astype(float))), values.shape)
    values[place] = -values[place]
    return values


@pytest.mark.parametrize("plugin", MAKERS)
@pytest.mark.parametrize("damaged", [False, True])
def test_a_weight_is_known_under_another_name(tmp_path: Path, plugin: str, damaged: bool) -> None:
    job = asked(tmp_path, matrices(tmp_path), plugin).model_copy(
        update={"accuracy": AccuracySpec(sqnr_db=1, cosine=0.1)}
    )
    model = file_of(job, made(job))
    # A scale of blocks negates what is in them; the integers themselves are packed.
    nodes = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    if plugin == "int4":
        renamed(model, nodes[0].input[2], largest_negated if damaged else np.array)
        renamed(model, nodes[0].input[1], np.array)
    else:
        renamed(model, "w0_quantized", largest_negated if damaged else np.array)
        # Behind an integer operator the scale is found by the weight's name.
        if plugin == "int8_dynamic":
            renamed(model, "w0_scale", np.array)
    onnx.save(model, tmp_path / "renamed.onnx")
    found = quantised_weights.compare(Path(job.parent_file), tmp_path / "renamed.onnx")
    if damaged:
        assert "stands for none of the float32 file, and none stands for its 'w0'" in found.wrong
    else:
        assert (found.wrong, found.weights, found.unknown) == ("", 3, ())


@pytest.mark.usefixtures("graph_unknown")
def test_a_factor_behind_an_output_is_no_quantisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaled(parent: Path, target: Path, options: Any, given: Any) -> None:
        int8.derive(parent, target, int8.Options(reduce_range=True), given)
        model = onnx.load(target)
        (output,) = model.graph.output
        maker = next(node for node in model.graph.node if output.name in node.output)
        maker.output[:] = ["before"]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.12), "factor"))
        model.graph.node.append(helper.make_node("Mul", ["before", "factor"], [output.name]))
        onnx.save(model, target)

    job = asked(tmp_path, convolutions(tmp_path), "int8").model_copy(update={"options": {}})
    done = made_by(monkeypatch, job, scaled)
    assert done.error is not None
    assert done.error.code is Code.VERIFY_VALUE
    assert re.fullmatch(r"output y is 1\.1\d times PyTorch's", done.error.message)


def test_noise_and_steps_are_no_factor() -> None:
    draw = np.random.default_rng(0)
    want = draw.normal(0.5, 1, 1000)
    assert figures.factor([want], [1.12 * want + draw.normal(0, 0.03, 1000)]) == pytest.approx(
        1.12, abs=0.01
    )
    assert figures.factor([want], [want + draw.normal(0, 0.3, 1000)]) is None
    assert figures.factor([want], [np.clip(want, -1, 1)]) is None
    # Probabilities that are less than a step apart.
    flat = np.full(300, 1 / 300) + draw.normal(0, 1e-5, 300)
    assert figures.factor([flat], [np.full(300, 1 / 256)]) is None
    assert figures.factor([want[:3]], [2 * want[:3]]) is None


def test_damage_tests_damage_integers(tmp_path: Path) -> None:
    job = followed(
        tmp_path, "int8", options=int8.Options(reduce_range=True).model_dump(),
        verify={"mutations": 3},
    )  # fmt: skip
    done = made(job.model_copy(update={"plugin": "int8"}))
    assert done.error is None, done.error
    assert done.verify.mutation is not None
    assert (done.verify.mutation.applied, done.verify.mutation.noticed) == (3, 3)


def test_figures_are_those_of_the_worst_output() -> None:
    want = [[np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([10.0])]]
    got = [[np.array([[3.0, 1.0], [2.0, 1.0]]), np.array([10.0])]]
    found = figures.of_outputs(["scores", "size"], want, got)
    # Energy 15 over noise 2.
    assert found.sqnr_db == pytest.approx(8.7506, abs=1e-3)
    assert (found.top1, found.output) == (0.5, "scores")
    assert found.cosine == pytest.approx(14 / 15)


def test_what_has_another_shape_has_no_figure() -> None:
    assert figures.of_outputs(["a"], [[np.ones((2, 3))]], [[np.ones((1, 3))]]).sqnr_db is None
    assert (
        figures.of_outputs(["a"], [[np.ones(3, np.int64)]], [[np.ones(3, np.int64)]]).top1 is None
    )


def test_multiplications_are_counted_where_they_happen(tmp_path: Path) -> None:
    parent = onnx.load(matrices(tmp_path))
    shapes = {"x": [4, 64]}
    assert multiplications.share(parent, "int8", shapes) == 0.0
    assert multiplications.share(parent, "float16", shapes) == 0.0
    idle = onnx.load(saved(tmp_path / "b.onnx", [helper.make_node("Relu", ["x"], ["y"])], [], [2]))
    assert multiplications.share(idle, "int8", {"x": [2]}) is None


def recurrent(folder: Path) -> Path:
    """An LSTM in both directions and a table; 5×2 ids → 5×2×2×16."""
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "x"], ["e"], "embed"),
        node(
            "LSTM", ["e", "w", "r", "b"], ["h"], "lstm", hidden_size=16, direction="bidirectional"
        ),
        node("Transpose", ["h"], ["y"], "order", perm=[0, 2, 1, 3]),
    ]
    weights = [
        tensor("table", 50, 24, size=1.0), tensor("w", 2, 64, 24, seed=1),
        tensor("r", 2, 64, 16, seed=2), tensor("b", 2, 128, seed=3),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [5, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 2, 2, 16])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "source.onnx")
    return folder / "source.onnx"


@pytest.mark.parametrize("per_channel", [False, True])
def test_recurrent_layers(tmp_path: Path, per_channel: bool) -> None:
    job = asked(tmp_path, recurrent(tmp_path), "int8_dynamic", per_channel=per_channel)
    done = made(job)
    assert done.error is None, done.error
    assert (done.check.precision_macs, done.accuracy is not None) == (1.0, True)
    assert done.accuracy is not None
    # The table, both matrices and the bias.
    assert (done.accuracy.weights_compared, done.accuracy.weights) == (4, 4)
    assert "DynamicQuantizeLSTM" in {node.op_type for node in file_of(job, done).graph.node}


def test_another_runtime_is_judged_by_what_it_computes(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    job = asked(tmp_path, convolutions(tmp_path), "int8")
    done = made(job)
    file = Path(job.staging_dir) / done.files[0].path
    found = kept.read(Path(job.references), job)
    own, other = (
        accuracy.judge(file, None, found.references, found.job, {}, provider)
        for provider in (None, "openvino")
    )
    assert other[1] is None
    # By the same simulation, that of ONNX Runtime; the kernels are others.
    assert own[0].simulation_db == other[0].simulation_db
    assert abs((other[0].sqnr_db or 0) - (own[0].sqnr_db or 0)) < 2


def tailed(folder: Path) -> Path:
    """A column a thousand times as large as the others; 4×16 → 4×8."""
    node = helper.make_node
    nodes = [
        node("Gemm", ["x", "w0", "b0"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("Gemm", ["r", "w1"], ["y"], "second"),
    ]
    last = numpy_helper.to_array(tensor("w1", 32, 8, seed=2)).copy()
    last[:, 0] *= 1000
    weights = [
        tensor("w0", 16, 32), tensor("b0", 32, seed=1), numpy_helper.from_array(last, "w1")
    ]  # fmt: skip
    return saved(folder / "source.onnx", nodes, weights, [16, 16])


def test_small_columns_beside_a_large_one_are_no_noise(tmp_path: Path) -> None:
    done = made(asked(tmp_path, tailed(tmp_path), "int8", fallback_tries=0))
    assert done.error is not None
    assert done.error.code is Code.ACCURACY
    assert "of axis 1 of output y" in done.error.message
    assert "in sample" in done.error.message
    assert "op_block_list: [Concat]" in done.error.hint
    assert done.accuracy is not None
    # The whole says nothing of it.
    assert (done.accuracy.sqnr_db or 0) > 15
    assert (done.accuracy.slice_db or 0) < 3


def test_the_layer_that_loses_a_part_goes_back_to_float(tmp_path: Path) -> None:
    done = made(asked(tmp_path, tailed(tmp_path), "int8"))
    assert done.error is None, done.error
    assert done.made is not None
    assert done.made.float_nodes == ["second"]
    assert done.accuracy is not None
    assert (done.accuracy.slice_db or 0) > 15


@pytest.mark.usefixtures("graph_unknown")
def test_a_lost_part_is_none_that_random_weights_excuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flattened(parent: Path, target: Path, options: Any, given: Any) -> None:
        """The first channel at its mean of zero: little of the whole."""
        int8.derive(parent, target, int8.Options(reduce_range=True), given)
        model = onnx.load(target)
        (output,) = model.graph.output
        maker = next(node for node in model.graph.node if output.name in node.output)
        maker.output[:] = ["before"]
        channels = output.type.tensor_type.shape.dim[1].dim_value
        keep = np.ones((channels, 1, 1), np.float32)
        keep[0] = 0
        model.graph.initializer.append(numpy_helper.from_array(keep, "keep"))
        model.graph.node.append(helper.make_node("Mul", ["before", "keep"], [output.name]))
        onnx.save(model, target)

    job = followed(tmp_path, "int8", weights="conditioned")
    done = made_by(monkeypatch, job, flattened)
    assert done.error is not None
    assert done.error.code is Code.ACCURACY
    assert "slice 0 of axis 1" in done.error.message
    assert "is constant in the file and moves in PyTorch" in done.error.message


def test_a_loud_sample_hides_no_quiet_one() -> None:
    rng = np.random.default_rng(0)
    quiet = [rng.normal(size=(4, 16)) for _ in range(3)]
    want = [[values] for values in (*quiet, 1000 * rng.normal(size=(4, 16)))]
    got = [[np.zeros_like(values)] for values in quiet] + [want[-1]]
    assert (figures.of_outputs(["y"], want, got).sqnr_db or 0) > 50
    found = figures.by_sample(["y"], want, got)
    assert found.sqnr_db == -0.0
    assert found.sample in (0, 1, 2)


def test_what_is_silent_or_small_says_nothing() -> None:
    rng = np.random.default_rng(0)
    loud = rng.normal(size=(40, 3))
    # A dead channel, and one that rounding alone moves.
    loud[:, 1], loud[:, 2] = 0.0, 1e-8 * loud[:, 2]
    got = loud + 1e-3 * rng.normal(size=loud.shape)
    found = figures.by_sample(["y"], [[loud], [0 * loud]], [[got], [got - loud]])
    assert (found.sqnr_db or 0) > 50
    assert found.part is not None
    assert found.part.ratio > 50
    few = figures.by_sample(["y"], [[loud[:4]]], [[0 * loud[:4]]])
    assert few.part is None


def test_a_constant_with_the_right_mean_is_lost() -> None:
    want = 1 + 0.01 * np.random.default_rng(0).normal(size=(40, 2))
    got = want.copy()
    got[:, 1] = 1.0
    found = figures.by_sample(["y"], [[want]], [[got]])
    assert (found.sqnr_db or 0) > 40
    assert found.part is not None
    assert (found.part.ratio, found.part.axis, found.part.index) == (0.0, 1, 1)
    assert found.part.frozen


def test_cases_beyond_the_calibrated_range_are_not_called_right(tmp_path: Path) -> None:
    job = asked(tmp_path, convolutions(tmp_path), "int8")
    done = made(job)
    assert done.error is None, done.error
    # 15 dB.
    far = [
        output.rel_l2
        for case in done.verify.cases
        for output in case.outputs
        if output.rel_l2 is not None and output.rel_l2 > 0.18
    ]
    assert far == []
    assert done.verify.domain is not None
    (domain,) = done.verify.domain.inputs
    assert "large" not in domain.patterns
    assert domain.high is not None
    assert domain.high < 10
    assert any(
        text.startswith("large: beyond the range that it was calibrated on")
        for text in done.verify.domain.dropped
    )
    assert {"traced", "second"} <= {case.label for case in done.verify.cases}
