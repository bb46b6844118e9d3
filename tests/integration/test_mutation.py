"""Damage on purpose: a comparison that lets a wrong file pass fails the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jobs import BATCH, IMAGE
from onnx import ModelProto, TensorProto, helper, numpy_helper

from converter.model.errors import Code
from converter.worker.verify import mutation

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
LOOSE = {"rtol": 1e-2, "atol": 1e-2}
FAINT: dict[str, Any] = {
    "source": {"_target_": "blind.Residual"},
    "trust": ["blind"],
    "outputs": ["out"],
}


def dead_bias() -> ModelProto:
    """y = x * w + b, where b is zero: every damage to it is none."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [2, 3])],
        [value("y", TensorProto.FLOAT, [2, 3])],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w"),
            numpy_helper.from_array(np.zeros(3, np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def counts(done: Any) -> tuple[int, int, int]:
    record = done.result.verify.mutation
    return record.applied, record.noticed, record.equivalent


def test_without_the_request_nothing_is_damaged(convert: Convert) -> None:
    assert convert("Net").result.verify.mutation is None
    assert convert("Net", verify={"mutations": 0}).result.verify.mutation is None


@pytest.mark.parametrize("simplifier", [None, "onnxsim"])
def test_a_strict_run_of_conv_bn_relu_passes_and_records(
    convert: Convert, simplifier: str | None
) -> None:
    inputs = {"input": {"shape": [2, 3, 16, 16]}}
    wanted = {"inputs": inputs, "outputs": ["output"], "simplifier": simplifier}
    done = convert({"registry": "conv_bn_relu"}, **wanted, verify={"mutations": 8})
    assert (done.code, done.result.verify.status) == (None, "passed")
    assert counts(done) == (8, 8, 0)
    assert done.files == convert({"registry": "conv_bn_relu"}, **wanted).files


def test_a_comparison_that_notices_nothing_fails_the_row(convert: Convert) -> None:
    done = convert(**FAINT, verify={**LOOSE, "mutations": 8})
    error = done.result.error
    assert (error.stage, error.code) == ("verify", Code.VERIFY_VACUOUS)
    told = (
        "the comparison does not notice damage to first.weight (zeroed), which changes output out"
    )
    assert error.message.startswith(told)
    assert " of its scale; first.bias (negated), " in error.message
    assert error.hint == "tighten verify.rtol and verify.atol, or leave them to be derived"
    assert (done.result.verify.status, done.result.verify.reason) == ("vacuous", error.message)
    assert counts(done) == (8, 0, 0)
    assert (done.result.files, done.result.onnx) == ([], None)


def test_loose_tolerances_pass_where_nothing_is_damaged(convert: Convert) -> None:
    assert convert(**FAINT, verify=LOOSE).code is None


def test_damage_that_changes_nothing_is_counted_not_failed(
    convert: Convert, tmp_path: Path
) -> None:
    onnx.save_model(dead_bias(), tmp_path / "dead.onnx")
    done = convert({"onnx": str(tmp_path / "dead.onnx")}, opset=None, verify={"mutations": 8})
    assert done.code is None
    assert counts(done) == (6, 3, 3)


def test_damage_that_only_rounding_shows_is_counted_not_failed(convert: Convert) -> None:
    """A BatchNorm in training mode takes away the bias before it, whatever that is."""
    done = convert("Dropping", training="train", verify={"mutations": 18})
    assert done.code is None
    applied, noticed, equivalent = counts(done)
    assert (applied, noticed + equivalent) == (18, 18)
    assert equivalent >= 3


def test_a_file_without_weights_says_so(convert: Convert) -> None:
    inputs = {"x": {"shape": [2, 3]}, "y": {"shape": [2, 3]}}
    record = convert("Two", inputs=inputs, verify={"mutations": 8}).result.verify.mutation
    assert record.applied == 0
    assert record.reason == "the file has no floating-point initializer to damage"


@pytest.mark.parametrize(
    "changes",
    [
        {"dynamic_axes": BATCH},
        {"training": "train"},
        {"export": {"external_data": "always"}},
        {"exporters": ["dynamo"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_damage_is_noticed_however_the_file_is_made(
    convert: Convert, changes: dict[str, Any]
) -> None:
    done = convert("Conv", inputs=IMAGE, verify={"mutations": 4}, **changes)
    assert done.code is None
    applied, noticed, equivalent = counts(done)
    assert (applied, noticed + equivalent) == (4, 4)
    assert noticed >= 3
    assert not [name for name in done.files if "damaged" in name]


def test_initializers_are_spread_over_the_depth() -> None:
    nodes = [helper.make_node("Add", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(9)]
    held = [numpy_helper.from_array(np.ones(1, np.float32), f"w{i}") for i in reversed(range(9))]
    held += [numpy_helper.from_array(np.ones(1, np.int64), "shape")]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], held))
    assert mutation.initializers(model, 3) == ["w0", "w4", "w8"]
    assert mutation.initializers(model, 1) == ["w0"]
    assert len(mutation.initializers(model, 100)) == 9
