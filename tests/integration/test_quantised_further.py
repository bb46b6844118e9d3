"""Quantised files: samples beyond the cases, outputs that are no floats, what is worked round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converter.model.errors import Code
from converter.model.records import JobResult
from converter.worker.onnxfile import quantised
from tests.integration.test_quantised import asked, made, saved, tensor

pytestmark = pytest.mark.integration

node = helper.make_node


def spoilt(folder: Path, *last: Any) -> Path:
    """Two matrices, of which the first has a number that leaves few levels to the others."""
    weight = np.random.default_rng(0).normal(0, 0.3, (32, 64)).astype(np.float32)
    weight[3, 5] = 150
    nodes = [
        node("MatMul", ["x", "w0"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("MatMul", ["r", "w1"], ["z"], "second"),
        *last,
    ]
    weights = [
        numpy_helper.from_array(weight, "w0"),
        tensor("w1", 64, 10, seed=1),
        numpy_helper.from_array(np.float32(0.2), "least"),
    ]
    kind = TensorProto.BOOL if last[0].op_type == "Greater" else TensorProto.INT64
    return saved(folder / "source.onnx", nodes, weights, [4, 32], kind=kind)


@pytest.mark.parametrize(
    "last",
    [
        node("ArgMax", ["z"], ["y"], "class", axis=-1, keepdims=0),
        node("Greater", ["z", "least"], ["y"], "mask"),
    ],
)
def test_outputs_that_are_no_floats_are_judged_by_their_agreement(
    tmp_path: Path, last: Any
) -> None:
    done = made(asked(tmp_path, spoilt(tmp_path, last), "int8_dynamic", fallback_tries=0))
    assert done.error is not None
    assert done.error.code is Code.ACCURACY
    assert "% of output y is what the original file gives, 90% requested (over 18 samples)" in (
        done.error.message
    )
    assert done.accuracy is not None
    assert done.accuracy.agreement is not None
    assert 0.1 < done.accuracy.agreement < 0.9
    assert done.accuracy.sqnr_db is None


def test_two_samples_do_not_speak_for_all(tmp_path: Path) -> None:
    """An exponential: most samples lie far below the range, which is that of the largest."""
    nodes = [
        node("Mul", ["x", "two"], ["a"], "times"),
        node("Exp", ["a"], ["b"], "exp"),
        node("MatMul", ["b", "w0"], ["c"], "first"),
        node("MatMul", ["c", "w1"], ["y"], "second"),
    ]
    weights = [
        numpy_helper.from_array(np.float32(2), "two"),
        tensor("w0", 4, 16),
        tensor("w1", 16, 4, seed=1),
    ]
    source = saved(tmp_path / "source.onnx", nodes, weights, [1, 4])
    done = made(asked(tmp_path, source, "int8", fallback_tries=0))
    assert done.error is not None
    assert done.error.code is Code.ACCURACY
    assert ", sample drawn " in done.error.message
    assert done.error.message.endswith("the worst of 18)")


def clipped(folder: Path, low: float, high: float) -> Path:
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "first", pads=[1, 1, 1, 1]),
        node("Clip", ["a", "low", "high"], ["b"], "clip"),
        node("Conv", ["b", "w1"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    weights = [
        tensor("w0", 8, 3, 3, 3), tensor("w1", 4, 8, 3, 3, seed=1),
        numpy_helper.from_array(np.float32(low), "low"),
        numpy_helper.from_array(np.float32(high), "high"),
    ]  # fmt: skip
    return saved(folder / "source.onnx", nodes, weights, [1, 3, 8, 8])


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("ends", [(0.0, 6.0), (0.3, 1.0), (-1.0, -0.2), (0.0, 0.5)])
def test_what_a_clip_cuts_off_need_not_be_in_the_range_before_it(
    tmp_path: Path, activations: str, ends: tuple[float, float]
) -> None:
    done = made(asked(tmp_path, clipped(tmp_path, *ends), "int8", activations=activations))
    assert done.error is None, done.error
    assert done.accuracy is not None
    assert done.accuracy.same_graph is True
    assert done.made is not None
    kept = "clip stays in float32: its bounds leave out zero" in done.made.notes
    assert kept is (ends[0] > 0 or ends[1] < 0)


def two_heads(folder: Path) -> Path:
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"], "relu"),
        node("Conv", ["b", "w1"], ["c"], "second", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["d"], "head"),
        node("Sigmoid", ["c"], ["e"], "other"),
        node("Add", ["d", "e"], ["y"], "sum"),
    ]
    weights = [tensor("w0", 8, 3, 3, 3), tensor("w1", 4, 8, 3, 3, seed=1)]
    return saved(folder / "source.onnx", nodes, weights, [1, 3, 8, 8])


def stacks(folder: Path) -> Path:
    nodes = [
        node("MatMul", ["x", "w0"], ["a"], "first"),
        node("Relu", ["a"], ["b"], "relu"),
        node("MatMul", ["b", "w1"], ["y"], "second"),
    ]
    weights = [tensor("w0", 3, 16, 32), tensor("w1", 32, 16, seed=1)]
    return saved(folder / "source.onnx", nodes, weights, [3, 8, 16])


def normalised(folder: Path) -> Path:
    nodes = [
        node("MatMul", ["x", "w0"], ["a"], "first"),
        node("LayerNormalization", ["a", "scale", "bias"], ["b"], "norm", axis=-2),
        node("MatMul", ["b", "w1"], ["y"], "second"),
    ]
    weights = [
        tensor("w0", 16, 32), tensor("w1", 32, 16, seed=1),
        tensor("scale", 8, 32, seed=2), tensor("bias", 8, 32, seed=3),
    ]  # fmt: skip
    return saved(folder / "source.onnx", nodes, weights, [2, 8, 16])


def scaled_bias(folder: Path) -> Path:
    nodes = [
        node("Gemm", ["x", "w0", "b"], ["a"], "first", beta=0.5),
        node("Relu", ["a"], ["r"], "relu"),
        node("Gemm", ["r", "w1"], ["y"], "second"),
    ]
    weights = [tensor("w0", 16, 32), tensor("b", 32, size=3.0), tensor("w1", 32, 64, seed=1)]
    return saved(folder / "source.onnx", nodes, weights, [4, 16])


@pytest.mark.parametrize(
    ("source", "plugin", "options"),
    [
        (two_heads, "int8", {}),
        (stacks, "int8", {}),
        (stacks, "int8_dynamic", {"per_channel": True}),
        (normalised, "int8", {}),
        (scaled_bias, "int8", {}),
    ],
)
def test_what_the_quantizer_gets_wrong_is_worked_round(
    tmp_path: Path, source: Callable[[Path], Path], plugin: str, options: dict[str, Any]
) -> None:
    done = made(asked(tmp_path, source(tmp_path), plugin, **options))
    if plugin == "int8_dynamic":  # the stack, three quarters of the weights, stays in float32
        assert done.error is not None
        assert done.error.code is Code.PRECISION_NOT_REACHED
        return
    assert done.error is None, done.error
    assert done.accuracy is not None
    assert done.accuracy.same_graph is True


def outlying(folder: Path) -> Path:
    weight = np.random.default_rng(0).normal(0, 0.3, (32, 32)).astype(np.float32)
    weight[3, 5] = 150
    nodes = [
        node("Gemm", ["x", "w0", "b0"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("Gemm", ["r", "w1", "b1"], ["y"], "second"),
    ]
    weights = [
        tensor("w0", 32, 32, seed=1), numpy_helper.from_array(weight, "w1"),
        tensor("b0", 32, seed=2), tensor("b1", 32, seed=3),
    ]  # fmt: skip
    return saved(folder / "source.onnx", nodes, weights, [4, 32])


def test_half_of_the_layers_may_go_back_with_their_biases(tmp_path: Path) -> None:
    done: JobResult = made(asked(tmp_path, outlying(tmp_path), "int8"))
    assert done.error is None, done.error
    assert done.made is not None
    assert done.made.float_nodes
    assert done.check.precision_weights is not None
    assert 0.4 < done.check.precision_weights < 0.5


def test_limits_of_activations() -> None:
    held = {
        name: numpy_helper.from_array(np.float32(value), name)
        for name, value in (("low", -1.0), ("high", 2.0))
    }
    infinity = float("inf")
    assert quantised.limits(node("Relu", ["x"], ["y"]), held) == (0.0, infinity)
    assert quantised.limits(node("Clip", ["x", "low", "high"], ["y"]), held) == (-1.0, 2.0)
    assert quantised.limits(node("Clip", ["x", "", "high"], ["y"]), held) == (-infinity, 2.0)
    assert quantised.limits(node("Clip", ["x"], ["y"], min=0.5), held) == (0.5, infinity)
    assert held["low"].data_type == TensorProto.FLOAT
