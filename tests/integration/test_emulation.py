"""A file of 16-bit floats, computed as a device would: against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, parser
from onnx.reference import ReferenceEvaluator

from converter.worker.inputs.reduced import BFLOAT16, FLOAT16
from converter.worker.verify import emulation

pytestmark = pytest.mark.integration


def model_of(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def run(model: onnx.ModelProto, **feeds: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_every_number_is_rounded_as_numpy_rounds_it(opset: int) -> None:
    draw = np.random.default_rng(0)
    values = draw.standard_normal(4000) * 10.0 ** draw.uniform(-9, 6, 4000)
    ends = [
        0.0,
        -0.0,
        65504,
        65519,
        65521,
        -1e5,
        np.inf,
        -np.inf,
        2.0**-14,
        2.0**-24,
        2.0**-26,
        1e30,
    ]
    x = np.concatenate([values, ends]).astype(np.float32)
    model = model_of(
        f"g (float[{len(x)}] x) => (float[{len(x)}] y) {{ h = Cast<to=10>(x) y = Cast<to=1>(h) }}",
        opset,
    )
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(run(emulation.emulated(model, FLOAT16), x=x)[0], expected)


@pytest.mark.parametrize("opset", [13, 22])
def test_every_number_is_rounded_as_bfloat16_rounds_it(opset: int) -> None:
    """To the end of the range, where the products of the split would be infinite."""
    draw = np.random.default_rng(0)
    values = draw.standard_normal(4000) * 10.0 ** draw.uniform(-44, 38, 4000)
    largest = BFLOAT16.largest
    ends = [
        0.0, -0.0, largest, -largest, float.fromhex("0x1.fefffep127"), float.fromhex("0x1.ffp127"),
        float(np.finfo(np.float32).max), np.inf, -np.inf, 5e33, 6e33, 2.0**96, 2.0**-126,
        2.0**-133, 2.0**-135, 1.5 * 2.0**-133, 1e-40,
    ]  # fmt: skip
    with np.errstate(over="ignore"):
        x = np.concatenate([values, ends]).astype(np.float32)
        expected = x.astype(BFLOAT16.dtype).astype(np.float32)
    model = model_of(
        f"g (float[{len(x)}] x) => (float[{len(x)}] y) {{ h = Cast<to=16>(x) y = Cast<to=1>(h) }}",
        opset,
    )
    model = emulation.emulated(model, BFLOAT16)
    found = run(model, x=x)[0]
    np.testing.assert_array_equal(found, expected)
    nan = np.full_like(x, np.nan)
    assert np.isnan(run(model, x=nan)[0]).all()


def test_operators_of_bfloat16_compute_and_those_of_float16_are_left() -> None:
    """ONNX Runtime's CPU has a kernel of neither product in bfloat16 (1.31)."""
    text = (
        "g (float[2,8] x) => (float[2,8] y) { h = Cast<to=16>(x) a = Mul(h, h) "
        "b = Cast<to=1>(a) c = Cast<to=10>(b) y = Cast<to=1>(c) }"
    )
    x = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)
    half = x.astype(BFLOAT16.dtype)
    expected = (half * half).astype(np.float16).astype(np.float32)
    model = emulation.emulated(model_of(text), BFLOAT16)
    assert [node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"] == [
        1, 1, 10, 1,
    ]  # fmt: skip
    np.testing.assert_array_equal(run(model, x=x)[0], expected)


def test_each_operator_rounds_what_it_gives() -> None:
    text = (
        "g (float[2,8] x) => (float[2,8] y) <float16[8,8] w> { h = Cast<to=10>(x) a = MatMul(h, w) "
        "b = Mul(a, a) c = Softmax(b) d = Sub(c, h) y = Cast<to=1>(d) }"
    )
    model = model_of(text)
    draw = np.random.default_rng(1)
    weight = draw.standard_normal((8, 8)).astype(np.float16)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    x = draw.standard_normal((2, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    (found,) = run(emulation.emulated(model, FLOAT16), x=x)
    assert np.abs(found - expected).max() < 3 * 2.0**-11 * np.abs(expected).max()
    assert (found == found.astype(np.float16)).all()


def test_cancellation_shows() -> None:
    """(x + 1000) - 1000, which a CPU computes in float32."""
    text = (
        "g (float[64] x) => (float[64] y) <float f={1000.0}> "
        "{ k = Cast<to=10>(f) h = Cast<to=10>(x) a = Add(h, k) b = Sub(a, k) y = Cast<to=1>(b) }"
    )
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    assert np.abs(run(model_of(text), x=x)[0] - x).max() < 1e-3
    found = run(emulation.emulated(model_of(text), FLOAT16), x=x)[0]
    assert np.abs(found - x).max() > 0.2
    half = x.astype(np.float16) + np.float16(1000) - np.float16(1000)
    np.testing.assert_array_equal(found, half.astype(np.float32))


def test_branches_and_loops_round_too() -> None:
    def graph(name: str, text: str) -> onnx.GraphProto:
        return parser.parse_graph(text.replace("g", name, 1))

    body = graph("then", "g () => (float16[4] s) { s = Add(h, h) }")
    other = graph("other", "g () => (float16[4] t) { t = Mul(h, h) }")
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    model = model_of("g (float[4] x) => (float[4] y) { h = Cast<to=10>(x) y = Cast<to=1>(r) }")
    model.graph.input.append(condition)
    choice = helper.make_node("If", ["c"], ["r"], then_branch=body, else_branch=other)
    model.graph.node.insert(1, choice)
    x = np.float32([1.0009765625, 0.3, 300.0, -7.77])
    for truth in (True, False):
        (found,) = run(emulation.emulated(copy(model), FLOAT16),
                       x=x, c=np.array(truth))  # fmt: skip
        half = x.astype(np.float16)
        with np.errstate(over="ignore"):
            expected = half + half if truth else half * half
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_branches_may_call_tensors_of_other_types_alike() -> None:
    then = parser.parse_graph("a () => (float[4] a) { v = Add(h, h) a = Cast<to=1>(v) }")
    other = parser.parse_graph("b () => (float[1] b) { v = Shape(h) b = Cast<to=1>(v) }")
    model = model_of("g (float[4] x, bool c) => (float[N] y) { h = Cast<to=10>(x) }")
    model.graph.node.append(
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    )
    model = emulation.emulated(model, FLOAT16)
    x = np.float32([1, 2, 3, 4])
    np.testing.assert_array_equal(run(model, x=x, c=np.array(True))[0], 2 * x)
    np.testing.assert_array_equal(run(model, x=x, c=np.array(False))[0], [4])
