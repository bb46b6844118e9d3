"""Inputs and outputs of a file are what was requested and what PyTorch returns, in all cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import onnx
import pytest
import torch

from converter.model.errors import Code
from converter.model.job import Recheck
from converter.worker.inputs.cases import Case
from converter.worker.onnxfile import interface
from converter.worker.pipeline import recheck
from converter.worker.reference import execution
from converter.worker.reference.reference import Reference

pytestmark = pytest.mark.integration

IMAGE = {"x": {"shape": [1, 2, 6, 6]}}
SIZES = {2: "height", 3: "width"}
GROWN: dict[str, Any] = {
    "inputs": IMAGE,
    "outputs": ["y"],
    "dynamic_axes": {"x": SIZES, "y": SIZES},
}
OPSETS = {"torchscript": 17, "dynamo": 18}
both = pytest.mark.parametrize("exporter", OPSETS)
Make = Callable[..., Any]


@pytest.fixture
def job(tiny_job: Make) -> Make:
    """Jobs over the models of ``interfaces.py``."""

    def make(name: str, exporter: str = "torchscript", **changes: Any) -> Any:
        changes = {"exporters": [exporter], "opset": OPSETS[exporter], **changes}
        return tiny_job({"_target_": f"interfaces.{name}"}, trust=["interfaces"], **changes)

    return make


def shapes(done: Any) -> dict[str, list[Any]]:
    return {info.name: info.shape for info in (*done.onnx.inputs, *done.onnx.outputs)}


def dims(model: onnx.ModelProto, name: str) -> Any:
    values = (*model.graph.input, *model.graph.output)
    value = next(value for value in values if value.name == name)
    return value.type.tensor_type.shape.dim


def judged(request: Any, change: Callable[[onnx.ModelProto], object]) -> Any:
    """What ``verify`` says of the published file after a change: its result."""
    done = jobs.convert(request)
    assert done.code is None, done.result.error
    model = done.model
    change(model)
    onnx.save_model(model, done.folder / "changed.onnx")
    again = Recheck.model_validate({**dict(request), "file": str(done.folder / "changed.onnx")})
    return recheck.run(again, lambda stage: None)


# Published files


@pytest.mark.parametrize("how", ["drawn", "value", "path"])
def test_a_number_without_axes_stays_one(job: Make, tmp_path: Path, how: str) -> None:
    np.save(tmp_path / "i.npy", np.int64(2))
    stated = {"value": 2} if how == "value" else {"path": str(tmp_path / "i.npy")}
    stated = {"low": 0.0, "high": 4.0} if how == "drawn" else stated
    scalar = {"shape": [], "dtype": "int64", **stated}
    done = jobs.convert(job("Chosen", inputs={"x": {"shape": [4, 3]}, "i": scalar}, outputs=["y"]))
    assert done.code is None, done.result.error
    assert shapes(done) == {"x": [4, 3], "i": [], "y": [3]}


def test_an_output_gets_the_rank_that_it_has(job: Make) -> None:
    done = jobs.convert(job("rows", inputs={"x": {"shape": [4, 5, 6]}}, outputs=["y"]))
    assert done.code is None, done.result.error
    assert shapes(done)["y"] == [20, 6]


@both
def test_an_output_that_grows_gets_the_rule_for_its_symbol(job: Make, exporter: str) -> None:
    done = jobs.convert(job("Grown", exporter, **GROWN))
    assert done.code is None, done.result.error
    assert shapes(done) == {
        "x": [1, 2, "height", "width"], "y": [1, 2, "2*height", "2*width"],
    }  # fmt: skip
    assert done.result.verify.reason == (
        "axis 2 of output y is declared height and has other sizes: it is 2*height in the file; "
        "axis 3 of output y is declared width and has other sizes: it is 2*width in the file"
    )


@both
def test_an_output_that_has_the_size_of_its_symbol_keeps_it(job: Make, exporter: str) -> None:
    done = jobs.convert(job("Grown", exporter, kwargs={"factor": 1}, **GROWN))
    assert done.code is None, done.result.error
    assert shapes(done)["y"] == [1, 2, "height", "width"]
    assert done.result.verify.reason is None


def test_where_no_rule_is_known_it_gets_a_symbol_of_its_own(job: Make) -> None:
    done = jobs.convert(job("Halved", **GROWN))
    assert done.code is None, done.result.error
    assert shapes(done)["y"] == [1, 2, "y_dim_2", "y_dim_3"]


def test_a_simplified_file_says_the_same(job: Make) -> None:
    done = jobs.convert(job("Grown", simplifier="onnxsim", **GROWN))
    assert done.code is None, done.result.error
    assert done.onnx.simplify.applied
    assert shapes(done)["y"] == [1, 2, "2*height", "2*width"]


@both
def test_outputs_of_two_symbols(job: Make, exporter: str) -> None:
    request = job(
        "Joined", exporter,
        inputs={"x": {"shape": [2, 3]}, "y": {"shape": [2, 4]}},
        outputs=["both", "more"],
        dynamic_axes={
            "x": {0: "n", 1: "a"}, "y": {0: "n", 1: "b"},
            "both": {0: "n", 1: "a"}, "more": {0: "n", 1: "b"},
        },
    )  # fmt: skip
    done = jobs.convert(request)
    assert done.code is None, done.result.error
    found = shapes(done)
    assert found["x"] + found["y"] == ["n", "a", "n", "b"]
    assert found["both"] == ["n", "both_dim_1" if exporter == "torchscript" else "a + b"]
    assert found["more"] == ["n", "a + 1"]


# Outputs of several ranks

ROWS: dict[str, Any] = {
    "inputs": {"x": {"shape": [2, 4]}},
    "outputs": ["y"],
    "dynamic_axes": {"x": {0: "B"}},
}
FOLLOWS = {"x": {0: "B"}, "y": {0: "B"}}
KEEP = "keep each axis whose size may change: "


@both
@pytest.mark.parametrize("axes", [ROWS["dynamic_axes"], FOLLOWS], ids=["of x", "of both"])
def test_an_output_of_several_ranks_is_told_with_the_cases(
    job: Make, exporter: str, axes: Any
) -> None:
    done = jobs.convert(job("Squeezed", exporter, **{**ROWS, "dynamic_axes": axes}))
    error = done.result.error
    assert (error.stage, error.code) == ("verify", Code.OUTPUT_STRUCTURE)
    assert error.message == (
        "output y has no axis at B=1 and 1 axis at B=2 in PyTorch: a file declares one rank"
    )
    assert error.hint.startswith(
        f"{KEEP}squeeze(-1) names the axis to drop; .squeeze() drops each axis of size 1"
    )


def test_an_axis_that_is_dropped_at_one_of_its_sizes(job: Make) -> None:
    done = jobs.convert(job("Squeezed", kwargs={"axis": 0, "width": 3}, **ROWS))
    assert done.code is Code.OUTPUT_STRUCTURE
    assert done.result.error.message == (
        "output y has 1 axis at B=1 and 2 axes at B=2 in PyTorch: a file declares one rank"
    )


def test_more_ranks_than_two(job: Make) -> None:
    request: Any = {**ROWS, "inputs": {"x": {"shape": [2, 3, 4]}}}
    request["dynamic_axes"] = {"x": {0: "a", 1: "b"}}
    done = jobs.convert(job("Squeezed", kwargs={"width": 3}, **request))
    assert done.code is Code.OUTPUT_STRUCTURE
    assert "output y has 1 axis at a=1, b=1, 2 axes at a=" in done.result.error.message
    assert " and 3 axes at a=2, b=3 in PyTorch: " in done.result.error.message


def test_where_no_symbol_tells_the_cases_apart_they_are_named(job: Make) -> None:
    request = {**ROWS, "dynamic_axes": {}, "verify": {"shapes": [{"x": [1, 4]}]}}
    done = jobs.convert(job("Squeezed", **request))
    assert done.code is Code.OUTPUT_STRUCTURE
    assert done.result.error.message.startswith(
        "output y has no axis in case x=1x4 (x 1×4) and 1 axis in case traced (x 2×4) in PyTorch"
    )


@both
def test_an_output_whose_axis_is_named_has_one_rank(job: Make, exporter: str) -> None:
    request = {**ROWS, "dynamic_axes": FOLLOWS, "kwargs": {"axis": -1}}
    done = jobs.convert(job("Squeezed", exporter, **request))
    assert done.code is None, done.result.error
    assert shapes(done) == {"x": ["B", 4], "y": ["B"]}
    assert done.result.verify.reason is None


def test_a_given_file_cannot_declare_several_ranks(job: Make) -> None:
    done = jobs.convert(job("Squeezed", kwargs={"axis": -1}, **ROWS))
    request = job("Squeezed", **{**ROWS, "dynamic_axes": FOLLOWS})
    again = Recheck.model_validate({**dict(request), "file": str(done.path)})
    error = recheck.run(again, lambda stage: None).error
    assert error.code is Code.OUTPUT_STRUCTURE
    assert "has no axis at B=1 and 1 axis at B=2 in PyTorch" in error.message


def test_a_file_that_declares_no_rank_promises_none(job: Make) -> None:
    """The ONNX checker refuses such a file: only the interface's own functions meet one."""
    request = job("Squeezed", **{**ROWS, "dynamic_axes": FOLLOWS})
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[B, 4] x) => (float y) {y = Squeeze(x)}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    runs = [
        Reference(Case(f"B={size}", request.inputs, 0), {"x": x}, [x[:, 0].squeeze()])
        for size in (2, 1)
        for x in [np.ones((size, 4), np.float32)]
    ]
    assert interface.judge(model, request, runs) is None
    assert interface.notes(model, request, runs) == []


# Files from elsewhere


def exchange(model: onnx.ModelProto) -> None:
    """Height for width, wherever a dimension says so."""
    for dim in (*dims(model, "x"), *dims(model, "y")):
        words = dim.dim_param.replace("height", "?").replace("width", "height")
        if words:
            dim.dim_param = words.replace("?", "width")


def called(name: str, axis: int, symbol: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        dims(model, name)[axis].dim_param = symbol

    return change


def numbered(name: str, axis: int, size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        dims(model, name)[axis].dim_value = size

    return change


def longer(name: str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: dims(model, name).add()


def wider(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (called("y", 2, "height"), Code.OUTPUT_STRUCTURE, "axis 2 of output y is called height"),
        (called("y", 2, "3*height"), Code.OUTPUT_STRUCTURE, "is called 3*height in the file"),
        (called("y", 1, "height"), Code.OUTPUT_STRUCTURE, "axis 1 of output y is called height"),
        (called("x", 1, "height"), Code.OUTPUT_STRUCTURE, "axis 1 of input x is called height"),
        (called("x", 3, "height"), Code.OUTPUT_STRUCTURE, "the request calls it width"),
        (exchange, Code.OUTPUT_STRUCTURE, "axis 2 of input x is called width in the file"),
        (numbered("x", 1, 3), Code.OUTPUT_STRUCTURE, "axis 1 of input x is 3 in the file"),
        (numbered("x", 2, 6), Code.DIM_SPECIALISED, "case height="),
        (numbered("y", 2, 12), Code.DIM_SPECIALISED, "(height) is not dynamic in the file"),
        (numbered("y", 1, 3), Code.OUTPUT_STRUCTURE, "axis 1 of output y is 3 in the file"),
        (longer("x"), Code.OUTPUT_STRUCTURE, "input x is float32 [1, 2, height, width, ?] in"),
        (longer("y"), Code.OUTPUT_STRUCTURE, "in the file; PyTorch returns float32 [1, 2, 12, 12]"),
        (wider, Code.OUTPUT_STRUCTURE, "output y is float64 [1, 2, 2*height, 2*width] in the file"),
    ],
)
def test_what_a_file_declares_and_does_not_keep(
    job: Make, change: Any, code: Code, words: str
) -> None:
    result = judged(job("Grown", **GROWN), change)
    assert result.error is not None
    assert (result.error.stage, result.error.code) == ("verify", code)
    assert words in result.error.message


def test_the_case_and_both_sizes_are_told(job: Make) -> None:
    error = judged(job("Grown", **GROWN), called("y", 2, "height")).error
    assert error.message == (
        "axis 2 of output y is called height in the file and is 12 in case traced (x 1×2×6×6); "
        "height is that of axis 2 of input x, 6 there"
    )
    assert error.hint == (
        "give it a symbol of its own in the file, such as 2*height, or leave it open"
    )


def test_symbols_of_an_output_that_changed_places(job: Make) -> None:
    axes = {**GROWN["dynamic_axes"], "y": {2: "tall", 3: "wide"}}

    def swap(model: onnx.ModelProto) -> None:
        called("y", 2, "wide")(model)
        called("y", 3, "tall")(model)

    request = job("Grown", **{**GROWN, "dynamic_axes": axes})
    assert judged(request, lambda model: None).error is None
    error = judged(request, swap).error
    assert error.code is Code.OUTPUT_STRUCTURE
    assert error.message == (
        "axis 2 of output y is called wide in the file; the request calls it tall, and wide is "
        "another axis"
    )


def test_two_symbols_that_became_one(job: Make) -> None:
    def merge(model: onnx.ModelProto) -> None:
        for axis in (2, 3):
            called("x", axis, "s")(model)
            called("y", axis, "2*s")(model)

    error = judged(job("Grown", **GROWN), merge).error
    assert error.code is Code.OUTPUT_STRUCTURE
    assert "axis 3 of input x is called s in the file" in error.message


def other_names(model: onnx.ModelProto) -> None:
    for axis in (2, 3):
        called("x", axis, f"s{axis}")(model)
        called("y", axis, f"2*s{axis}")(model)


def opened(name: str, axis: int) -> Callable[[onnx.ModelProto], object]:
    return lambda model: dims(model, name)[axis].Clear()


@pytest.mark.parametrize(
    "change",
    [
        other_names, opened("y", 1), opened("y", 2), opened("x", 2),
        called("y", 2, "rows"), called("y", 2, "height + height"), called("y", 2, "f(height)"),
    ],
)  # fmt: skip
def test_names_of_its_own_and_open_axes_deceive_nobody(job: Make, change: Any) -> None:
    assert judged(job("Grown", **GROWN), change).error is None


def test_an_axis_that_is_open_in_the_file_only_is_told(job: Make) -> None:
    result = judged(job("Grown", **GROWN), called("x", 1, "channels"))
    assert result.error is None
    assert (
        "axis 1 of input x is channels in the file and not in dynamic_axes: verified at 2 only"
    ) in result.verify.reason


# Sources that are ONNX

FREE = """<ir_version: 8, opset_import: ["": 17]>
    g (float[n, m] x) => (float[n, m] y) {y = Sinh(x)}"""
FIXED = """<ir_version: 8, opset_import: ["": 17]>
    g (float[n, 4] x) => (float[n, 4] y)
    <int64[2] size = {2, 4}> {z = Sinh(x) y = Reshape(z, size)}"""


SQUEEZED = """<ir_version: 8, opset_import: ["": 17]>
    g (float[n, 1] x) => (float[n] y) {z = Sinh(x) y = Squeeze(z)}"""


def onnx_job(tiny_job: Make, folder: Path, text: str, **changes: Any) -> Any:
    onnx.save_model(onnx.parser.parse_model(text), folder / "source.onnx")
    source = {"onnx": str(folder / "source.onnx")}
    return tiny_job(source, opset=None, exporters=["original"], **changes)


@pytest.mark.parametrize("inputs", [{}, {"x": {"shape": [2, 4]}}], ids=["left out", "stated"])
@pytest.mark.parametrize("axes", [{}, {"x": {0: "batch"}}], ids=["left out", "stated"])
def test_what_a_file_calls_dynamic_is_tried(
    tiny_job: Make, tmp_path: Path, inputs: Any, axes: Any
) -> None:
    request = onnx_job(tiny_job, tmp_path, FIXED, inputs=inputs, dynamic_axes=axes)
    error = jobs.convert(request).result.error
    assert (error.stage, error.code) == ("reference", Code.DIM_SPECIALISED)
    assert "PyTorch" not in error.message + error.hint


@pytest.mark.parametrize("axes", [{}, {"x": {0: "batch"}}, {"x": {0: "m"}}])
def test_a_file_that_keeps_its_axes_is_right(tiny_job: Make, tmp_path: Path, axes: Any) -> None:
    inputs = {"x": {"shape": [2, 3]}}
    done = jobs.convert(onnx_job(tiny_job, tmp_path, FREE, inputs=inputs, dynamic_axes=axes))
    assert done.code is None, done.result.error
    first = axes["x"][0] if axes else "n"
    second = "x_dim_1" if first == "m" else "m"
    assert shapes(done) == {"x": [first, second], "y": [first, second]}
    tried = {axis.declared: len(axis.sizes_tested) for axis in done.result.verify.dynamic}
    assert tried.keys() == {first, second}
    assert min(tried.values()) >= 2


def test_the_symbols_of_a_file_are_corrected(tiny_job: Make, tmp_path: Path) -> None:
    text = FREE.replace("float[n, m] y", "float[n, n] y")
    done = jobs.convert(onnx_job(tiny_job, tmp_path, text, inputs={"x": {"shape": [2, 3]}}))
    assert done.code is None, done.result.error
    assert shapes(done)["y"] == ["n", "m"]


def test_a_file_whose_output_has_several_ranks(tiny_job: Make, tmp_path: Path) -> None:
    inputs: Any = {"x": {"shape": [2, 1]}}
    error = jobs.convert(onnx_job(tiny_job, tmp_path, SQUEEZED, inputs=inputs)).result.error
    assert error.code is Code.OUTPUT_STRUCTURE
    assert error.message == (
        "output y has no axis at n=1 and 1 axis at n=2 in the original file: "
        "a file declares one rank"
    )
    assert error.hint.startswith(f"{KEEP}a Squeeze without axes drops each axis of size 1")


# Inputs that are stated


@pytest.mark.parametrize("how", ["list", "row", "file"])
def test_stated_values_follow_to_other_sizes(job: Make, tmp_path: Path, how: str) -> None:
    rows = [[1, 2], [3, 4]]
    np.save(tmp_path / "x.npy", np.asarray(rows, np.float32))
    stated = {"path": str(tmp_path / "x.npy")} if how == "file" else {"value": rows}
    stated = {"value": [1, 2]} if how == "row" else stated
    inputs = {"x": {"shape": [2, 2], **stated}, "scale": {"shape": [1]}}
    done = jobs.convert(job("Scaled", inputs=inputs, dynamic_axes={"x": {0: "b"}}))
    assert done.code is None, done.result.error
    tried = done.result.verify.dynamic[0].sizes_tested
    assert 1 in tried
    assert len(tried) >= 2


@pytest.mark.parametrize("how", ["list", "file"])
def test_stated_values_must_fit_the_traced_example(job: Make, tmp_path: Path, how: str) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2), np.float32))
    stated = {"path": str(tmp_path / "x.npy")} if how == "file" else {"value": [[1, 2], [3, 4]]}
    inputs = {"x": {"shape": [3, 2], **stated}, "scale": {"shape": [1]}}
    done = jobs.convert(job("Scaled", inputs=inputs, dynamic_axes={"x": {0: "b"}}))
    assert done.code is Code.FORWARD


# Lines of ours that must not fail a model


@pytest.mark.parametrize("resolved", [False, True])
def test_a_negative_that_is_not_computed_yet(resolved: bool) -> None:
    import interfaces

    x = torch.arange(8.0).reshape(2, 2, 2)
    (found,) = execution.flatten({"y": interfaces.Negative(resolved)(x)})
    np.testing.assert_array_equal(found.numpy(), -x[..., 1].numpy())


def test_flags_that_the_model_has_frozen(job: Make) -> None:
    inputs = {"x": {"shape": [2, 2]}, "scale": {"shape": [1]}}
    try:
        done = jobs.convert(job("FreezesFlags", inputs=inputs))
    finally:
        setattr(torch.backends, "__allow_nonbracketed_mutation_flag", True)
    assert done.code is None, done.result.error
    assert not torch._C._get_cudnn_allow_tf32()
