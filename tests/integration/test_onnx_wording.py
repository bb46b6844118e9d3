"""What is said of a source that is ONNX speaks of the file, not of PyTorch or of code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converter.model.errors import Code
from converter.model.job import Recheck
from converter.worker.compare import numerics
from converter.worker.pipeline import onnx_wording, pipeline, recheck

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
OPTIONS: dict[str, Any] = {"opset": None, "exporters": ["original"], "exporter": "original"}
FOREIGN = re.compile(r"PyTorch|forward|exporter|torch|the model's code|module|tracing|dynamic_axes")

# graph → code and words
GRAPHS = {
    "g (float[2,3] x) => (float[2,3] y) {z = Sub(x, x) y = Mul(z, z)}": (
        Code.VERIFY_VACUOUS, "give inputs that the file responds to",
    ),
    "g (float[2,3] x) => (float[2,3] y) {y = Log(x)}": (
        Code.VERIFY_NONFINITE, "the original file gives NaN or infinity in output",
    ),
    "g (float[2,3] x) => (float[2,3] y) {z = RandomNormalLike(x) y = Add(x, z)}": (
        Code.NONDETERMINISTIC, "the original file gives another",
    ),
    "g (float[n,3] x) => (float[n,3] y) <int64[2] s = {2, 3}> {z = Relu(x) y = Reshape(z, s)}": (
        Code.DIM_SPECIALISED, "something inside the file fixes the size",
    ),
}  # fmt: skip


def source(graph: str, folder: Path) -> dict[str, str]:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{graph}')
    onnx.save_model(model, folder / "source.onnx")
    return {"onnx": str(folder / "source.onnx")}


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_row_of_a_file_speaks_of_the_file(convert: Convert, tmp_path: Path, graph: str) -> None:
    code, words = GRAPHS[graph]
    done = convert(source(graph, tmp_path), inputs={}, **OPTIONS)
    error = done.result.error
    assert error.code is code
    assert words in f"{error.message} {error.hint}"
    for text in (error.message, error.hint, done.result.verify.reason or ""):
        assert not FOREIGN.search(text), text


@pytest.mark.parametrize(
    ("lacks", "advice"),
    [("shape", "write it with onnx.shape_inference.infer_shapes"), ("type", "get it again from")],
)
def test_a_file_whose_output_declares_too_little_says_what_helps(
    convert: Convert, tmp_path: Path, lacks: str, advice: str
) -> None:
    named = source("g (float[2,3] x) => (float[2,3] y) {y = Relu(x)}", tmp_path)
    model = onnx.load(named["onnx"])
    output = model.graph.output[0]
    (output.type.tensor_type if lacks == "shape" else output).ClearField(lacks)
    onnx.save_model(model, named["onnx"])
    error = convert(named, inputs={}, **OPTIONS).result.error
    assert error.code is Code.CHECKER
    assert advice in error.hint
    if lacks == "shape":
        onnx.save_model(onnx.shape_inference.infer_shapes(model), named["onnx"])
        assert convert(named, inputs={}, **OPTIONS).code is None


TEXTS = """g (float[1,2] x) => (string[n] label, float[1,2] p)
  <string[2] labels = {"cat", "dog"}>
  { i = ArgMax <axis = 1, keepdims = 0> (x) label = Gather(labels, i) p = Relu(x) }"""


@pytest.mark.parametrize("simplifier", [None, "onnxslim"])
def test_an_output_that_is_text_is_compared(
    convert: Convert, tmp_path: Path, simplifier: str | None
) -> None:
    options = {**OPTIONS, "simplifier": simplifier}
    inputs = {"x": {"shape": [1, 2]}}
    done = convert(source(TEXTS, tmp_path), inputs=inputs, **options)
    assert done.code is None
    label, p = done.result.verify.cases[0].outputs
    assert (label.dtype, done.onnx.outputs[0].dtype) == ("string", "string")
    assert (label.name, label.passed, label.max_abs, p.passed) == ("label", True, None, True)


def test_another_text_is_wrong() -> None:
    names = [np.array(["cat", name], object) for name in ("dog", "fox")]
    found = numerics.compare("label", *names, rtol=1.0, atol=1.0)
    assert (found.code, found.check.passed) == (Code.VERIFY_VALUE, False)
    assert found.reason == "label[1] is 'fox', the source gives 'dog'; 1 of 2 differ"


def test_the_maps_of_a_classifier_are_told_to_be_left_out(convert: Convert, tmp_path: Path) -> None:
    h, path = onnx.helper, tmp_path / "zipmap.onnx"
    maps = h.make_map_type_proto(7, h.make_tensor_type_proto(1, None))
    output = h.make_value_info("z", h.make_sequence_type_proto(maps))
    node = h.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph = h.make_graph([node], "g", [h.make_tensor_value_info("x", 1, [1, 2])], [output])
    opsets = [h.make_opsetid("", 17), h.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(h.make_model(graph, opset_imports=opsets, ir_version=8), path)
    error = convert({"onnx": str(path)}, inputs={}, **OPTIONS).result.error
    assert error.code is Code.OUTPUT_STRUCTURE
    assert "output z of the file is seq(map(int64,tensor(float)))" in error.message
    assert "skl2onnx: options={'zipmap': False}" in error.hint


def test_an_input_of_complex_numbers_cannot_be_sampled(convert: Convert, tmp_path: Path) -> None:
    graph = "g (complex64[2] x) => (complex64[2] y) { y = Identity(x) }"
    error = convert(source(graph, tmp_path), inputs={}, **OPTIONS).result.error
    assert error.code is Code.OUTPUT_STRUCTURE
    assert error.message.startswith("input x of the file is complex64; inputs of float16, float32")
    assert error.hint == "cut the part off that reads it, with onnx.utils.extract_model"


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"shape": [2, 4]}, "inputs.x.shape is [2, 4]: give the one that the file takes"),
        ({"shape": [2, 3], "dtype": "float64"}, "x.dtype is float64, the model takes float32"),
    ],
)
def test_an_input_that_the_file_refuses_is_named(
    convert: Convert, tmp_path: Path, stated: dict[str, Any], told: str
) -> None:
    graph = "g (float[2,3] x) => (float[2,3] y) {y = Sigmoid(x)}"
    error = convert(source(graph, tmp_path), inputs={"x": stated}, **OPTIONS).result.error
    assert (error.stage, error.code) == ("reference", Code.FORWARD)
    assert told in error.hint


def test_another_file_is_compared_with_the_original_one(tiny_job: Convert, tmp_path: Path) -> None:
    graph = "g (float[2,3] x) => (float[2,3] y) {y = Sigmoid(x)}"
    job = tiny_job(source(graph, tmp_path), inputs={}, **OPTIONS)
    other = tmp_path / "other.onnx"
    head = '<ir_version: 8, opset_import: ["": 17]>\n'
    onnx.save_model(onnx.parser.parse_model(head + graph.replace("Sigmoid", "Tanh")), other)
    result = recheck.run(Recheck.model_validate({**dict(job), "file": str(other)}), lambda _: None)
    assert result.error is not None
    assert result.error.code is Code.VERIFY_VALUE
    for text in (result.error.message, result.verify.reason or ""):
        assert ", the original file gives " in text
        assert not FOREIGN.search(text), text
    assert not FOREIGN.search(result.error.hint)


def test_names_of_a_graph_stay_as_they_are(tiny_job: Convert, tmp_path: Path) -> None:
    told = "output PyTorch_forward: node '/forward/PyTorch/Add' is wrong, PyTorch gives 2"
    assert onnx_wording.said(told) == told.replace("PyTorch gives", "the original file gives")
    job = tiny_job("Constant")
    result = pipeline.run(job, lambda news: None)
    assert onnx_wording.of_result(result, job) is result
