"""float32 files as float16 ones: what the checker and ONNX Runtime take, and what stays float32."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, parser

from converter.plugins.variants._reduced import convert
from converter.worker.inputs.reduced import FLOAT16
from converter.worker.onnxfile import precision, structure

pytestmark = pytest.mark.integration

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
EPSILON = 2.0**-10


def model_of(text: str, opset: int = 17, **domains: int) -> ModelProto:
    """A model from the text of its graph, and of local functions behind it."""
    imports = "".join(f', "{name.replace("_", ".")}" : {v}' for name, v in domains.items())
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{imports}]>\n{text}')


def half_of(model: ModelProto, keep_io_types: bool = True, **options: Any) -> ModelProto:
    """The converted model, which the checker accepts, and which converts to itself."""
    before = model.SerializeToString(deterministic=True)
    options = {"op_block_list": [], **options}
    result = convert(model, FLOAT16, keep_io_types=keep_io_types, **options)
    assert model.SerializeToString(deterministic=True) == before
    checker.check_model(result, full_check=True)
    blocked = {"keep_io_types": keep_io_types, "op_block_list": options["op_block_list"]}
    assert convert(result, FLOAT16, **blocked).SerializeToString() == result.SerializeToString()
    again = convert(model, FLOAT16, keep_io_types=keep_io_types, **options)
    assert again.SerializeToString() == result.SerializeToString()
    return result


def run(model: ModelProto, **feeds: Any) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    types = {value.name: value.type for value in session.get_inputs()}
    given = {
        name: np.asarray(value).astype(np.float16)
        if types[name] == "tensor(float16)"
        else np.asarray(value)
        for name, value in feeds.items()
    }
    return [np.asarray(value) for value in session.run(None, given)]


def same(model: ModelProto, half: ModelProto, **feeds: Any) -> None:
    """Both give the same results, up to the rounding of float16."""
    for wanted, found in zip(run(model, **feeds), run(half, **feeds), strict=True):
        assert wanted.shape == found.shape
        np.testing.assert_allclose(
            found.astype(np.float64), wanted.astype(np.float64), rtol=8 * EPSILON, atol=8 * EPSILON
        )


def types_of(model: ModelProto) -> dict[str, int]:
    """Tensor → element type, by inference."""
    inferred = precision.infer_types(model).graph
    return {n: t.tensor_type.elem_type for n, t in precision.declared_types(inferred).items()}


def ops(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in structure.nodes(model.graph))


def vector(size: int = 2) -> np.ndarray:
    return np.linspace(0.5, 2, size, dtype=np.float32)


BOTH = pytest.mark.parametrize("keep", [True, False], ids=["float32 io", "float16 io"])


@BOTH
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
def test_weights_and_nodes_are_half_at_any_opset(opset: int, keep: bool) -> None:
    model = model_of(
        """g (float[N,1,4,4] x) => (float[N,1,8,8] y)
        <float[1,1,3,3] w={1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0}, float[4] s={1.0,1.0,2.0,2.0}>
        { c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) y = Resize<mode="nearest">(r, , s) }"""
        if opset > 12
        else """g (float[N,1,4,4] x) => (float[N,1,4,4] y)
        <float[1,1,3,3] w={1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0}>
        { c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c) }""",
        opset,
    )
    half = half_of(model, keep)
    types = types_of(half)
    assert types["w"] == types["c"] == HALF
    assert types.get("s", FLOAT) == FLOAT
    assert types["x"] == types["y"] == (FLOAT if keep else HALF)
    for size in (1, 3):
        same(model, half, x=np.ones((size, 1, 4, 4), np.float32))
    assert structure.opsets(half) == {"ai.onnx": opset}
    assert half.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_names_documents_and_metadata_stay() -> None:
    model = model_of(
        """g (float[2] x) => (float[2] y) <float[2] b>
        { [n1] a = Relu(x) [n2] b = Neg(a) y = Exp(b) }"""
    )
    model.doc_string, model.graph.doc_string, model.graph.node[0].doc_string = "m", "g", "n"
    model.producer_name = "somebody"
    model.metadata_props.add(key="k", value="v")
    model.graph.node[1].metadata_props.add(key="nk", value="nv")
    half = half_of(model)
    assert (half.doc_string, half.graph.doc_string) == ("m", "g")
    assert (half.producer_name, half.ir_version) == ("somebody", model.ir_version)
    assert half.metadata_props == model.metadata_props
    nodes = {node.output[0]: node for node in half.graph.node}
    assert nodes["a"].doc_string == "n"
    assert [nodes[name].name for name in ("a", "b", "y_float16")] == ["n1", "n2", ""]
    assert nodes["b"].metadata_props == model.graph.node[1].metadata_props
    assert {v.name: v.type.tensor_type.elem_type for v in half.graph.value_info} == {
        "b": HALF,
        "y_float16": HALF,
    }


@BOTH
def test_a_lying_value_info_is_corrected(keep: bool) -> None:
    model = model_of(
        "g (float[2] x) => (float[2] y) <float16[2] a> { a = Relu(x) y = CumSum(a, k) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "k"))
    model.graph.value_info.add(name="gone").type.tensor_type.elem_type = FLOAT
    half = half_of(model, keep)
    assert types_of(half)["a"] == HALF
    run(half, x=vector())


@BOTH
def test_one_cast_for_one_tensor_behind_what_makes_it(keep: bool) -> None:
    model = model_of(
        """g (float[3] x) => (float[3] y, float[3] z) <int64 k={0}>
        { a = Relu(x) p = CumSum(a, k) q = CumSum<reverse=1>(a, k) y = Add(p, q) z = Mul(p, p) }"""
    )
    half = half_of(model, keep)
    casts = Counter((n.input[0], n.attribute[0].i) for n in half.graph.node if n.op_type == "Cast")
    assert set(casts.values()) == {1}
    assert casts[("a", FLOAT)] == casts[("p", HALF)] == 1
    same(model, half, x=vector(3))


# --- constants -----------------------------------------------------------------------------------


@BOTH
def test_a_weight_beyond_the_range_stays_float32_with_what_computes_with_it(keep: bool) -> None:
    model = model_of(
        """g (float[2] x) => (float[2] y) <float[1] w={1000000.0}, float[2] v={2.0,3.0}>
        { u = Reshape(w, one) a = Mul(x, u) b = Div(a, w) c = Neg(b) y = Mul(c, v) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    half = half_of(model, keep)
    types = types_of(half)
    assert [types[name] for name in ("w", "u", "a", "b", "c")] == [FLOAT] * 5
    assert types["v"] == HALF
    held = {t.name: numpy_helper.to_array(t) for t in half.graph.initializer}
    assert held["w"] == 1e6
    same(model, half, x=vector())


def test_an_epsilon_that_float16_rounds_to_zero_stays_float32() -> None:
    model = model_of(
        """g (float[2] x) => (float[2] y) <float e={0.000000000001}>
        { a = Add(x, e) b = Div(a, a) y = Neg(b) }"""
    )
    half = half_of(model, keep_io_types=False)
    types = types_of(half)
    assert types["e"] == types["a"] == FLOAT
    assert run(half, x=np.zeros(2, np.float32))[0].tolist() == [-1, -1]


def test_single_weights_that_become_zero_are_no_loss() -> None:
    model = model_of("g (float[3] x) => (float[3] y) <float[3] w={1.0,2.0,1e-9}> { y = Mul(x, w) }")
    half = half_of(model)
    assert numpy_helper.to_array(half.graph.initializer[0]).tolist() == [1, 2, 0]


def test_infinities_and_not_a_number_are_float16_values() -> None:
    model = model_of("g (float[3] x) => (float[3] y) { y = Max(x, w) }")
    values = np.array([np.inf, -np.inf, np.nan], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, "w"))
    half = half_of(model)
    np.testing.assert_array_equal(numpy_helper.to_array(half.graph.initializer[0]), values)


def test_a_mask_of_the_lowest_float32_leaves_the_softmax_finite() -> None:
    model = model_of(
        """g (float[2,3] x, bool[2,3] m) => (float[2,3] y) <float w={-3.4e38}>
        { a = Where(m, w, x) y = Softmax<axis=-1>(a) }"""
    )
    half = half_of(model, keep_io_types=False)
    mask = np.array([[True] * 3, [False] * 3])
    same(model, half, x=np.ones((2, 3), np.float32), m=mask)


@BOTH
@pytest.mark.parametrize(
    "constant",
    [
        "Constant<value_float=2.5>()",
        "Constant<value_floats=[2.5, 1.5]>()",
        "Constant<value=float[2] {2.5, 1.5}>()",
        "ConstantOfShape<value=float[1] {2.5}>(s)",
        "ConstantOfShape(s)",
    ],
)
def test_constants_are_half(constant: str, keep: bool) -> None:
    model = model_of(
        f"g (float[2] x) => (float[2] y) <int64[1] s={{2}}> {{ c = {constant} y = Mul(x, c) }}"
    )
    half = half_of(model, keep)
    assert types_of(half)["c"] == HALF
    assert ops(half)["Cast"] == (2 if keep else 0)
    same(model, half, x=vector())


def test_an_initializer_that_is_an_input_is_converted_with_it() -> None:
    model = model_of(
        "g (float[2] x, float[2] w) => (float[2] y) <float[2] w={1.5, 2.5}> { y = Add(x, w) }"
    )
    half = half_of(model)
    inputs = {v.name: v.type.tensor_type.elem_type for v in half.graph.input}
    assert inputs == {"x": FLOAT, "w": HALF}
    assert precision.shares(half, HALF).weights == 1
    same(model, half, x=vector())


@BOTH
def test_an_initializer_of_a_blocked_and_a_converted_node_stays_float32(keep: bool) -> None:
    model = model_of(
        """g (float[3] x) => (float[3] y, float[3] z) <float[3] w={1.0,2.0,3.0}, int64 k={0}>
        { z = CumSum(w, k) y = Mul(x, w) }"""
    )
    half = half_of(model, keep)
    assert types_of(half)["w"] == FLOAT
    same(model, half, x=vector(3))


@BOTH
@pytest.mark.parametrize(
    "graph",
    [
        "g (float[2] x) => (float[2] x, float[2] y) { y = Relu(x) }",
        "g (float[2] x) => (float[2] w, float[2] y) <float[2] w={1.5,2.5}> { y = Mul(x, w) }",
        """g (float[2] x) => (float[2] w, float[2] y) <float[2] w={1.5,2.5}, int64 k={0}>
        { v = CumSum(w, k) y = Mul(x, v) }""",
        "g (float[2] x) => (float[2] a, float[2] y) { a = Relu(x) y = Neg(a) }",
        """g (float[2] x) => (float[2] a, float[2] y) <int64 k={0}>
        { a = CumSum(x, k) y = Neg(a) }""",
    ],
)
def test_outputs_that_others_read(graph: str, keep: bool) -> None:
    model = model_of(graph)
    half = half_of(model, keep)
    kinds = {value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)}
    assert kinds == {FLOAT if keep else HALF}
    assert [v.name for v in half.graph.output] == [v.name for v in model.graph.output]
    same(model, half, x=vector())


def test_an_output_that_float16_cannot_hold_is_refused() -> None:
    model = model_of(
        "g (float[2] x) => (float[2] w, float[2] y) <float[2] w={1e6,2.5}> { y = Mul(x, w) }"
    )
    half_of(model)
    with pytest.raises(ValueError, match=r"output w holds constants .* set keep_io_types"):
        half_of(model, keep_io_types=False)


# --- operators -----------------------------------------------------------------------------------

BOUND = {
    "Range": "<float a={0.0}, float d={1.0}, float e={2.0}> { r = Range(a, e, d) y = Mul(r, x) }",
    "CumSum": "<int64 k={0}> { y = CumSum(x, k) }",
    "RandomNormal": "{ r = RandomNormal<shape=[2],seed=1.0>() z = Sub(r, r) y = Add(x, z) }",
    "RandomUniformLike": "{ r = RandomUniformLike(x) z = Sub(r, r) y = Add(x, z) }",
    "EyeLike": "<int64[2] s={2,2}> { e = ConstantOfShape<value=int64[1] {1}>(s) "
    "r = EyeLike<dtype=1>(e) y = MatMul(x, r) }",
    "QuantizeLinear": "<float s={0.5}, uint8 z={128}> { a = Relu(x) "
    "y8 = QuantizeLinear(a, s, z) y = DequantizeLinear(y8, s, z) }",
    "ScatterND": '<int64[1,1] i={0}, float[1] u={2.0}> { y = ScatterND<reduction="mul">(x, i, u) }',
    "HannWindow": "<int64 s={2}> { w = HannWindow(s) y = Add(x, w) }",
    "SequenceConstruct": "{ a = Relu(x) s = SequenceConstruct(a, x) y = SequenceAt(s, zero) }",
}


@BOTH
@pytest.mark.parametrize("op", BOUND)
@pytest.mark.parametrize("opset", [17, 18, 21])
def test_operators_that_stay_float32(op: str, opset: int, keep: bool) -> None:
    body = BOUND[op].replace("{ a = Relu(x) s =", "<int64 zero={0}> { a = Relu(x) s =")
    model = model_of(f"g (float[2] x) => (float[2] y) {body}", opset)
    half = half_of(model, keep)
    types = types_of(half)
    for node in half.graph.node:
        if node.op_type == op:
            assert HALF not in [types.get(name) for name in (*node.input, *node.output)]
    same(model, half, x=vector())


@BOTH
def test_boxes_and_scores_of_a_selection_stay_float32(keep: bool) -> None:
    model = model_of(
        """g (float[1,3,4] b, float[1,1,3] s) => (int64[N,3] y) <int64 k={2}, float i={0.5}>
        { t = Relu(b) y = NonMaxSuppression(t, s, k, i) }"""
    )
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]]], np.float32)
    same(model, half_of(model, keep), b=boxes, s=np.array([[[0.9, 0.8, 0.7]]], np.float32))


@BOTH
def test_batch_normalization_stays_float32_in_training_only(keep: bool) -> None:
    for mode, outputs, kind in (("0", "y", HALF), ("1", "y, m, v", FLOAT)):
        model = model_of(
            f"""g (float[4,2] x) => (float[4,2] y) <float[2] s={{1.0,2.0}}, float[2] w={{0.5,0.5}}>
            {{ {outputs} = BatchNormalization<training_mode={mode}>(x, s, w, w, s) }}"""
        )
        half = half_of(model, keep)
        assert types_of(half)["s"] == kind
        same(model, half, x=np.arange(8, dtype=np.float32).reshape(4, 2))


def test_single_outputs_that_the_schema_keeps_float32() -> None:
    model = model_of(
        """g (float[2,3] x) => (float[2,3] y, float[2,1] r) <float[3] s={1.0,1.0,1.0}>
        { y, m, i = LayerNormalization(x, s) r = Neg(m) }"""
    )
    half = half_of(model, keep_io_types=False)
    types = types_of(half)
    assert (types["y"], types["m"], types["r"]) == (HALF, FLOAT, HALF)
    same(model, half, x=np.arange(6, dtype=np.float32).reshape(2, 3))


@BOTH
def test_casts_follow_what_reads_them(keep: bool) -> None:
    model = model_of(
        """g (int64[2] i, float[2] x) => (float[2] y, float[2] z) <int64 k={0}>
        { f = Cast<to=1>(i) y = Mul(f, x) h = Cast<to=1>(i) z = CumSum(h, k) }"""
    )
    half = half_of(model, keep)
    types = types_of(half)
    assert (types["f"], types["h"]) == (HALF, FLOAT)
    same(model, half, x=vector(), i=np.array([3, 4]))


@BOTH
def test_integers_do_not_pass_through_half(keep: bool) -> None:
    model = model_of(
        "g (int64[1] i) => (int32[1] y, float[1] z) { f = Cast<to=1>(i) y = Cast<to=6>(f) "
        "h = Cast<to=1>(i) z = Relu(h) }"
    )
    half = half_of(model, keep)
    assert run(half, i=np.array([70001]))[0].tolist() == [70001]
    assert types_of(half)["h"] == HALF


@BOTH
def test_arithmetic_on_ids_is_computed_in_float32(keep: bool) -> None:
    """59999 · 0.5 and 20 · 100 + 49 are no float16 numbers; what a layer makes of ids is one."""
    model = model_of(
        "g (int64[2] i, float[1,2] x) => (int64[2] y, float[1,2] z) <float s={0.5}> "
        "{ f = Cast<to=1>(i) m = Mul(f, s) l = Floor(m) y = Cast<to=7>(l) p = Add(f, x) "
        "z = Relu(p) }"
    )
    half = half_of(model, keep)
    x = np.ones((1, 2), np.float32)
    assert run(half, i=np.array([59999, 4098]), x=x)[0].tolist() == [29999, 2049]
    types = types_of(half)
    assert (types["m"], types["p"]) == (FLOAT, HALF)


@BOTH
@pytest.mark.parametrize(
    ("shape", "product"),
    [("2,1", "Mul(u, w)"), ("2,1", "MatMul(u, w)"), ("2", 'Einsum<equation="i,k->ik">(u, v)')],
)
def test_angles_of_positions_are_computed_in_float32(keep: bool, shape: str, product: str) -> None:
    """A rotary embedding: an angle of 4001 has steps of 2 in float16, its sine has not."""
    model = model_of(
        f"g (int64[{shape}] i, float[2,2] x) => (float[2,2] y) <float[1,2] w={{0.7, 0.3}}, "
        f"float[2] v={{0.7, 0.3}}> {{ u = Cast<to=1>(i) a = {product} c = Concat<axis=0>(a) "
        "s = Sin(c) y = Mul(x, s) }"
    )
    half = half_of(model, keep)
    places = np.array([[4001], [3]])
    given = places if "," in shape else places[:, 0]
    found = run(half, i=given, x=np.ones((2, 2), np.float32))[0]
    assert np.allclose(found, np.sin(places * np.array([0.7, 0.3])), atol=1e-3)
    assert types_of(half)["c"] == FLOAT


@BOTH
def test_sizes_are_computed_in_float32(keep: bool) -> None:
    """4099 is not a float16 number."""
    model = model_of(
        """g (float[1,N] x) => (int64[1] y, float[1,N] z) <float k={1.0}, int64 one={1}>
        { s = Shape(x) h = Gather(s, one) f = Cast<to=1>(h) m = Mul(f, k) l = Floor(m)
        i = Cast<to=7>(l) y = Unsqueeze(i, u) z = Div(x, f) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "u"))
    half = half_of(model, keep)
    assert run(half, x=np.ones((1, 4099), np.float32))[0].tolist() == [4099]


def test_an_operator_that_is_none_is_no_block() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(ValueError, match=r"ONNX has no operator Gem$"):
        half_of(model, True, op_block_list=["Conv", "Gem"])


@BOTH
def test_blocked_operators_and_nodes(keep: bool) -> None:
    model = model_of(
        "g (float[2] x) => (float[2] y) { a = Relu(x) [it] b = Neg(a) c = Neg(b) y = Exp(c) }"
    )
    types = types_of(half_of(model, keep, op_block_list=["Relu"]))
    assert [types[name] for name in "abc"] == [FLOAT, HALF, HALF]
    half = convert(
        model, FLOAT16, keep_io_types=keep, op_block_list=["l::Exp"], node_block_list=["it"]
    )
    types = types_of(half)
    assert [types[name] for name in "abc"] == [HALF, FLOAT, HALF]
    same(model, half, x=vector())


def test_a_blocked_node_that_is_not_there_is_refused() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(ValueError, match="the model has no node gone"):
        convert(model, FLOAT16, keep_io_types=True, op_block_list=[], node_block_list=["gone"])


# --- subgraphs, functions, other domains ---------------------------------------------------------

LOOP = """<body = b (int64 i, bool ci, float[2] v) => (bool co, float[2] vo, float[2] so)
    { co = Identity(ci) vo = Add(v, w) so = Mul(vo, a) }>"""
CONTROL = {
    "If": """g (float[2] x, bool c) => (float[2] y) <float[2] w={1.5,2.5}, int64 k={0}>
        { a = Relu(x) y = If(c) <then_branch = t () => (float[2] z) { z = Mul(a, w) },
        else_branch = e () => (float[2] z) { z = CumSum(a, k) }> }""",
    "nested": """g (float[2] x, bool c) => (float[2] y) <int64 k={0}>
        { a = CumSum(x, k) y = If(c) <then_branch = t () => (float[2] z)
        { z = If(c) <then_branch = tt () => (float[2] p) { p = Neg(a) },
        else_branch = ee () => (float[2] r) { r = Relu(a) }> },
        else_branch = e () => (float[2] q) { q = Exp(a) }> }""",
    "constant": """g (float[2] x, bool c) => (float[2] y)
        { a = Relu(x) b = If(c) <then_branch = t () => (float[2] z)
        { z = Constant<value = float[2] {1e6, 1.0}>() },
        else_branch = e () => (float[2] q) { q = Neg(a) }> y = Softmax(b) }""",
    "Loop": """g (float[2] x, bool c) => (float[2] y, float[N,2] s)
        <int64 n={3}, float[2] w={0.5,0.25}> { a = Relu(x) y, s = Loop(n, c, a) """ + LOOP + " }",
    "Scan": """g (float[2] x, bool c) => (float[2] y, float[2,1] s)
        { r = Reshape(x, two) z, s = Scan<num_scan_inputs=1, body = b (float[1] v, float[1] xi)
        => (float[1] vo, float[1] so) { vo = Add(v, xi) so = Mul(vo, xi) }>(h, r)
        y = Add(z, x) }""",
    "sequence": """g (float[2] x, bool c) => (float[N] y) <int64 n={3}>
        { s0 = SequenceEmpty<dtype=1>() s = Loop(n, c, s0) <body = b (int64 i, bool ci,
        seq(float[2]) v) => (bool co, seq(float[2]) vo) { co = Identity(ci) k = Relu(x)
        vo = SequenceInsert(v, k) }> y = ConcatFromSequence<axis=0>(s) }""",
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("blocked", [[], ["If", "Loop", "Scan"]], ids=["half", "blocked"])
@pytest.mark.parametrize("case", CONTROL)
def test_control_flow(case: str, blocked: list[str], keep: bool) -> None:
    model = model_of(CONTROL[case])
    if case == "Scan":
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.array([2, 1]), "two"),
                numpy_helper.from_array(np.array([0.5], np.float32), "h"),
            ]
        )
    half = half_of(model, keep, op_block_list=blocked)
    for condition in (True, False):
        if condition or "Loop" not in ops(model):
            same(model, half, x=vector(), c=np.array(condition))
    if not blocked and case in ("If", "Loop", "Scan"):
        assert precision.shares(half, HALF).nodes > 0.5


FUNCTION = """g (float[2] x) => (float[2] y) { a = l.f(x) y = l.f(a) }
<opset_import: ["" : 17], domain: "l"> f (p) => (q)
{ k = Constant<value = float {2.5}>() q = Mul(p, k) }
"""


@BOTH
def test_local_functions_are_inlined(keep: bool) -> None:
    model = model_of(FUNCTION, l=1)
    half = half_of(model, keep)
    assert precision.shares(half, HALF) == precision.Shares(1, 1)
    same(model, half, x=vector())


@BOTH
def test_operators_of_other_domains_stay_float32(keep: bool) -> None:
    text = (
        "g (float[2] x) => (float[2] y) {} {{ a = Relu(x) b = com.microsoft.Gelu(a) y = Neg(b) }}"
    )
    model = model_of(text.format("<float[2] b>"), com_microsoft=1)
    half = convert(model, FLOAT16, keep_io_types=keep, op_block_list=[])
    types = types_of(half)
    assert types["b"] == FLOAT
    assert types["a"] == HALF
    same(model, half, x=vector())
    with pytest.raises(ValueError, match="the type of tensor b at node Neg cannot be inferred"):
        convert(
            model_of(text.format(""), com_microsoft=1),
            FLOAT16,
            keep_io_types=keep,
            op_block_list=[],
        )


def test_a_model_without_the_default_domain_gets_no_cast() -> None:
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml")
    values = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([node], "g", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)],
    )
    half_of(model)
    with pytest.raises(ValueError, match=r"the model imports no opset of ai\.onnx"):
        half_of(model, keep_io_types=False)


def test_what_would_be_dropped_is_refused() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.training_info.add()
    with pytest.raises(ValueError, match="training_info"):
        half_of(model)
    model.ClearField("training_info")
    model.graph.sparse_initializer.add().values.name = "w"
    with pytest.raises(ValueError, match="initializer w is sparse"):
        half_of(model)


def test_weights_in_another_file_are_refused() -> None:
    model = model_of("g (float[2] x) => (float[2] y) <float[2] w={1.0,2.0}> { y = Add(x, w) }")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ValueError, match="the values of w are in another file"):
        half_of(model)


@BOTH
def test_other_types_are_left_alone(keep: bool) -> None:
    model = model_of(
        """g (double[2] d, int64[2] i, float16[2] h) => (float[2] y, double[2] e, float16[2] p)
        { a = Cast<to=1>(d) y = Relu(a) j = Cast<to=11>(i) e = Add(d, j) b = Cast<to=1>(h)
        c = Neg(b) p = Cast<to=10>(c) }"""
    )
    half = half_of(model, keep)
    types = types_of(half)
    assert [types[name] for name in ("d", "e", "j", "i", "h", "p")] == [
        DOUBLE, DOUBLE, DOUBLE, TensorProto.INT64, HALF, HALF
    ]  # fmt: skip
    assert types["a"] == HALF
    same(model, half, d=np.ones(2), i=np.ones(2, np.int64), h=np.ones(2, np.float16))


def test_an_exported_network(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.GELU(),
        torch.nn.Upsample(scale_factor=2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.LayerNorm(8), torch.nn.Linear(8, 4), torch.nn.Softmax(-1),
    ).eval()  # fmt: skip
    file = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.rand(2, 3, 9, 9),), file, dynamo=False, input_names=["x"],
            opset_version=18, dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    model = onnx.load(file)
    for keep in (True, False):
        half = half_of(model, keep)
        for size in (2, 5):
            same(model, half, x=np.random.default_rng(0).random((size, 3, 9, 9), np.float32))
        assert precision.shares(half, HALF).weights > 0.9


# --- shares --------------------------------------------------------------------------------------


def test_shares_count_constants_and_subgraphs() -> None:
    model = model_of(
        """g (float16[2] x, bool c) => (float16[2] y) <float16[6] w, double[2] d={1.0,2.0}>
        { k = Constant<value_floats=[1.0, 2.0]>() f = Cast<to=1>(x) b = Mul(f, k)
        y = If(c) <then_branch = t () => (float16[2] z) { z = Neg(x) },
        else_branch = e () => (float16[2] q) { n = Relu(b) q = Cast<to=10>(n) }> }"""
    )
    model.graph.ClearField("value_info")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(6, np.float16), "w"))
    assert precision.shares(model, HALF) == precision.Shares(weights=0.6, nodes=1 / 3)
    assert precision.shares(model, FLOAT) == precision.Shares(weights=0.2, nodes=2 / 3)


def test_shares_believe_no_value_info() -> None:
    model = model_of(
        """g (float[2] x) => (float[2] y) <float16[2] a, float16[2] b>
        { a = Relu(x) b = Neg(a) y = Exp(b) }"""
    )
    assert precision.shares(model, HALF).nodes == 0
    assert precision.shares(model, FLOAT) == precision.Shares(weights=1, nodes=1)


def test_shares_of_local_functions_and_of_contradictions() -> None:
    assert precision.shares(model_of(FUNCTION, l=1), FLOAT) == precision.Shares(1, 1)
    wrong = model_of("g (float[2] x, float16[2] h) => (float[2] y) { y = Add(x, h) }")
    assert precision.shares(wrong, FLOAT).nodes == 0
