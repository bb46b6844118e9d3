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


def test_a_file_whose_values_cannot_be_read_is_not_the_sources_failure(
    tiny_job: Callable[..., Any],
) -> None:
    import onnx

    from converter.model.job import Recheck
    from converter.worker.pipeline import recheck

    job = tiny_job("Net", outputs=["y"])
    converted = convert(job)
    model, file = converted.model, converted.folder / "damaged.onnx"
    # A threshold, which is looked for before the file is judged.
    limit = onnx.helper.make_tensor("limit", onnx.TensorProto.FLOAT, [7], [1.0] * 7)
    limit.ClearField("float_data")
    limit.raw_data = b"1234"
    model.graph.initializer.append(limit)
    model.graph.node.append(onnx.helper.make_node("Greater", ["x", "limit"], ["more"]))
    onnx.save_model(model, file)
    again = Recheck.model_validate({**dict(job), "file": str(file)})
    result = recheck.run(again, lambda news: None)
    assert result.error is not None
    assert (result.error.stage, result.error.type) == ("verify", None), result.error


def test_an_onnx_source_with_an_input_of_no_known_type_is_damaged(
    tiny_job: Callable[..., Any], tmp_path: Path
) -> None:
    import onnx

    made = convert(tiny_job("Net", outputs=["y"])).model
    made.graph.input[0].type.tensor_type.elem_type = -7
    onnx.save_model(made, tmp_path / "source.onnx")
    options = {"inputs": {}, "opset": None, "exporters": ["original"]}
    error = convert(tiny_job({"onnx": str(tmp_path / "source.onnx")}, **options)).result.error
    assert error is not None
    assert (error.code, error.type) == (Code.LOAD, None)
    assert "is damaged: it holds a tensor of an unknown type, -7" in error.message
