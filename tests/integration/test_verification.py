"""Comparing a file with its references, apart from the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import IMAGE, convert

from converter.model.errors import Code

pytestmark = pytest.mark.integration


def test_rounding_is_measured_only_where_the_tightest_bound_fails(
    tiny_job: Callable[..., Any],
) -> None:
    """It takes as long as running the model several times."""
    from converter.worker.reference import preparing, reference
    from converter.worker.verify import verification

    job = tiny_job("Conv", inputs=IMAGE)
    converted = convert(job)
    loaded, complete = preparing.load(job)
    references = reference.compute(loaded, complete)
    assert verification.verify(converted.path, references, complete).error is None
    assert [item.case.label for item in references.cases if item.noise is not None] == []
    references.cases[1].outputs = [np.asarray(o) * 1.1 for o in references.cases[1].outputs]
    found = verification.verify(converted.path, references, complete)
    assert found.error is not None
    assert found.error.code is Code.VERIFY_VALUE
    assert [item.case.label for item in references.cases if item.noise is not None] == ["second"]


def test_weights_of_a_branch_may_lie_in_another_file(
    tiny_job: Callable[..., Any], tmp_path: Path
) -> None:
    import onnx

    from converter.model.job import Recheck
    from converter.worker.pipeline import recheck

    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[b, 32] x) => (float[b, 32] y)
        {
            zero = Constant<value_float = 0.0>()
            sum = ReduceSum<keepdims = 0>(x)
            positive = Greater(sum, zero)
            y = If(positive) <then_branch = t () => (float[b, 32] u) {u = MatMul(x, V)},
                              else_branch = e () => (float[b, 32] w) {w = MatMul(x, W)}>
        }"""
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    branches = next(node for node in model.graph.node if node.op_type == "If").attribute
    for branch, name in zip(branches, "VW", strict=True):
        values = draw.standard_normal((32, 32)).astype(np.float32)
        branch.g.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save_model(model, tmp_path / "source.onnx")
    options = {"inputs": {}, "opset": None, "exporters": ["original"]}
    source = {"onnx": str(tmp_path / "source.onnx")}
    job = tiny_job(source, export={"external_data": "always"}, **options)
    converted = convert(job)
    assert converted.code is None, converted.result.error
    assert len(converted.result.files[1:]) == 1
    again = Recheck.model_validate({**dict(job), "file": str(converted.path)})
    assert recheck.run(again, lambda news: None).error is None


def test_another_dtype_is_no_frozen_shape(tiny_job: Callable[..., Any]) -> None:
    import onnx

    from converter.model.job import Recheck
    from converter.worker.pipeline import recheck

    job = tiny_job("Net", outputs=["y"])
    converted = convert(job)
    model, file = converted.model, converted.folder / "double.onnx"
    for node in model.graph.node:
        node.output[:] = ["single" if name == "y" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Cast", ["single"], ["y"], to=11))
    model.graph.output[0].type.tensor_type.elem_type = 11
    onnx.save_model(model, file)
    again = Recheck.model_validate({**dict(job), "file": str(file)})
    error = recheck.run(again, lambda news: None).error
    assert error is not None
    assert (error.code, error.message) == (
        Code.OUTPUT_STRUCTURE,
        "output y is float64 [2, 4] in the file; PyTorch returns float32 [2, 4]",
    )
    assert error.hint == "declare output y as float32 with 2 axes in the file"
