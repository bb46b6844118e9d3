"""What is said of a source that is ONNX speaks of the file, not of PyTorch or of code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from converter.model.errors import Code
from converter.model.job import Recheck
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
