"""Small ONNX files of every kind that the readers tell apart: what mutations begin with."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

_TEXTS = {
    "branches": """
        <ir_version: 8, opset_import: ["" : 17], producer_name: "seeds">
        chosen (float[n, 4] x, bool which) => (float[n, 4] y)
        <float[4] w = {1, -2, 3, 0.5}>
        {
            y = If (which) <
                then_branch = yes () => (float[n, 4] a) <float[4] v = {2, 2, 1, 1}> {
                    b = Mul (x, v)
                    a = Add (b, w)
                },
                else_branch = no () => (float[n, 4] c) { c = Sub (x, w) }
            >
        }""",
    "loop": """
        <ir_version: 8, opset_import: ["" : 17]>
        looped (float[2, 3] x) => (float[2, 3] y, float[k, 2, 3] all)
        <int64 times = {3}, bool go = {1}>
        {
            y, all = Loop (times, go, x) <
                body = step (int64 i, bool on, float[2, 3] h) => (bool o, float[2, 3] n, float[2,
                3] s)
                { o = Identity (on)  n = Tanh (h)  s = Add (n, h) }
            >
        }""",
    "functions": """
        <ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        called (float[n, 8] x) => (float[n, 8] y)
        <float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
        { h = own.scaled <alpha: float = 0.25> (x, w)  y = own.scaled (h, w) }
        <domain: "own", opset_import: ["" : 18]>
        scaled <alpha: float = 0.5> (a, b) => (c) {
            m = Mul (a, b)
            c = LeakyRelu <alpha: float = @alpha> (m)
        }""",
    "shapes": """
        <ir_version: 8, opset_import: ["" : 17]>
        shaped (float[batch, 3, 6, 5] x, int64[m] ids) => (float[batch, r] y, float[m, 4] z)
        <int64[2] to = {0, -1}, float[5, 4] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
            11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, int64[1] begin = {1},
            int64[1] end = {2147483647}, int64[1] axis = {2}, int64 rows = {5}>
        {
            s = Slice (x, begin, end, axis)
            y = Reshape (s, to)
            i = Mod (ids, rows)
            z = Gather <axis = 0> (table, i)
        }""",
    "quantised": """
        <ir_version: 8, opset_import: ["" : 17]>
        quantised (float[n, 4] x) => (float[n, 2] y)
        <float s = {0.05}, uint8 z = {128}, int8[4, 2] w = {1, -2, 3, 4, -5, 6, 7, -8},
        float t = {0.1}, int8 o = {0}, int64[2] keep = {0, 2}>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            v = DequantizeLinear (w, t, o)
            m = MatMul (d, v)
            r = Reshape (m, keep)
            y = Clip (r)
        }""",
    "domains": """
        <ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1, "ai.onnx.ml" : 3],
         producer_name: "seeds", producer_version: "1", doc_string: "text",
         metadata_props: ["k" : "v"]>
        mixed (float[n, 4] x) => (float[n, 4] y)
        {
            g = com.microsoft.Gelu (x)
            s = ai.onnx.ml.Scaler <offset = [0.5, 0.5, 0.5, 0.5], scale = [2.0, 2.0, 2.0, 2.0]> (g)
            c = Constant <value = float[4] {1, 2, 3, 4}> ()
            h = Cast <to = 10> (s)
            f = Cast <to = 1> (h)
            y = Add (f, c)
        }""",
}  # fmt: skip


def _network() -> ModelProto:
    """Layers with weights above the size that counts as heavy, some removable by a simplifier."""
    rng = np.random.default_rng(1)

    def held(name: str, *shape: int) -> TensorProto:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    variance = numpy_helper.from_array(np.ones(8, np.float32), "var")
    weights = [held("w", 8, 3, 3, 3), held("b", 8), held("g", 8), held("beta", 8), held("mean", 8),
               variance, held("fc", 16, 512), held("bias", 16)]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["c", "g", "beta", "mean", "var"], ["n"], epsilon=1e-5
        ),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Identity", ["r"], ["i"]),
        helper.make_node("Flatten", ["i"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "fc", "bias"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        weights,
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _sparse() -> ModelProto:
    """A sparse initializer, an LSTM, an optional input, a type declared inside."""
    values = numpy_helper.from_array(np.array([1.0, 2.0, 3.0], np.float32), "held")
    indices = numpy_helper.from_array(np.array([0, 5, 7], np.int64), "at")
    rng = np.random.default_rng(2)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 4, name)
        for name, shape in (("W", (1, 16, 3)), ("R", (1, 16, 4)), ("B", (1, 32)))
    ]
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["h", "", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["h", "one"], ["q"]),
        helper.make_node("Add", ["q", "held"], ["y"]),
    ]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    graph = helper.make_graph(
        nodes,
        "sparse",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 2, 4])],
        weights,
        value_info=[helper.make_tensor_value_info("q", TensorProto.FLOAT, [5, 2, 4])],
        sparse_initializer=[helper.make_sparse_tensor(values, indices, [2, 4])],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _exported(folder: Path) -> None:
    """As PyTorch's exporter writes a file."""
    import torch

    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 5),
    ).eval()  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.randn(2, 3, 8, 8),), str(folder / "exported.onnx"), dynamo=False,
            opset_version=17, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )  # fmt: skip


def write(folder: Path) -> list[Path]:
    """Put all of them into a folder; those with external data have it beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {name: onnx.parser.parse_model(text) for name, text in _TEXTS.items()}
    models |= {"network": _network(), "sparse": _sparse()}
    for name, model in models.items():
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")
    onnx.save(
        _network(), folder / "outside.onnx", save_as_external_data=True,
        location="outside.onnx.data", size_threshold=256,
    )  # fmt: skip
    _exported(folder)
    return sorted(folder.glob("*.onnx"))
