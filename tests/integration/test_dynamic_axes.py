"""Declared dynamic axes: symbolic in the file, and right at other sizes, one among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import onnx
import pytest
from jobs import BATCH

from converter.model.errors import Code, StageError
from converter.model.job import Recheck
from converter.worker.onnxfile import checking
from converter.worker.pipeline import recheck

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
# The cases that are always tried: two other sizes for each symbol.
FEW = {"budget": 0}


def axes_of(done: Any) -> list[tuple[str, int, str, bool, list[int], bool]]:
    return [
        (d.input, d.axis, d.declared, d.symbolic, d.sizes_tested, d.passed)
        for d in done.result.verify.dynamic
    ]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_batch_is_right_at_other_sizes(convert: Convert, exporter: str) -> None:
    done = convert("Net", dynamic_axes=BATCH, exporters=[exporter], verify=FEW)
    assert axes_of(done) == [("x", 0, "batch", True, [1, 3], True)]
    assert isinstance(done.onnx.inputs[0].shape[0], str)
    assert done.run(x=np.ones((7, 3))).shape == (7, 4)


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize(("model", "size"), [("Scaled", 90), ("ScaledByModule", 90), ("Tail", 100)])
def test_a_factor_that_float32_rounds_otherwise_is_found(
    convert: Convert, exporter: str, model: str, size: int
) -> None:
    """pytorch#153115: of a few sizes of an axis PyTorch and the file make different ones."""
    shape = {"x": {"shape": [1, 3, 96, 8] if model != "Tail" else [1, 3, 96]}}
    done = convert(model, inputs=shape, dynamic_axes={"x": {2: "h"}}, exporters=[exporter])
    assert done.code in (Code.VERIFY_SHAPE, Code.DIM_SPECIALISED)
    if (model, exporter) != ("Tail", "torchscript"):  # which freezes it altogether
        assert f"h={size}" in done.result.error.message
        assert "in float32" in done.result.error.hint


def test_without_the_axis_the_size_is_fixed(convert: Convert) -> None:
    done = convert("Net")
    assert (axes_of(done), done.onnx.inputs[0].shape) == ([], [2, 3])


def test_a_symbol_of_two_inputs_moves_both_and_two_symbols_also_move_together(
    convert: Convert,
) -> None:
    axes = {0: "n", 1: "w"}
    done = convert(
        "Two",
        inputs={"x": {"shape": [2, 3]}, "y": {"shape": [2, 3]}},
        dynamic_axes={"x": axes, "y": axes},
        verify=FEW,
    )
    assert [(d.input, d.axis, d.passed) for d in done.result.verify.dynamic] == [
        ("x", 0, True), ("x", 1, True), ("y", 0, True), ("y", 1, True),
    ]  # fmt: skip
    labels = [case.label for case in done.result.verify.cases]
    assert labels[:6] == ["traced", "second", "n=1", "n=3", "w=1", "w=4"]
    together = labels[6:]
    assert len(together) == 2
    assert all("n=" in label and "w=" in label for label in together)


def test_only_sizes_that_pytorch_takes_are_tested(convert: Convert) -> None:
    done = convert("Pairs", dynamic_axes=BATCH)
    (axis,) = axes_of(done)
    assert axis[-1]
    assert all(size % 2 == 0 for size in axis[-2])
    assert len(axis[-2]) > 2
    (symbol,) = done.result.verify.domain.symbols
    assert {1, 3, 5} <= set(symbol.refused)


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_loop_over_the_batch_freezes_it(convert: Convert, exporter: str) -> None:
    done = convert("Loop", dynamic_axes=BATCH, exporters=[exporter], verify=FEW)
    assert done.result.status == "failed"
    assert done.code in (Code.DIM_SPECIALISED, Code.VERIFY_SHAPE, Code.VERIFY_VALUE)
    error = done.result.error
    if exporter == "dynamo":
        assert "static shape of 2" in error.message
    else:
        assert "case batch=1" in error.message
        assert [axis[-2:] for axis in axes_of(done)] == [([1, 3], False)]
    assert "the model's code fixes this axis" in error.hint


def test_a_size_that_broadcasts_is_found_by_its_shape(convert: Convert) -> None:
    done = convert("FixedShape", dynamic_axes=BATCH, outputs=["y"], verify=FEW)
    assert done.code is Code.DIM_SPECIALISED
    assert done.result.error.message == (
        "case batch=1 (x 1×3): y has shape [2, 3], PyTorch gives [1, 3]; wrong at batch = 1, 3: "
        "tiny.py:146 `return x + torch.ones(int(x.shape[0]), 1)`"
    )
    assert [axis[-2:] for axis in axes_of(done)] == [([1, 3], False)]


def test_a_model_that_takes_no_other_size(convert: Convert) -> None:
    error = convert("OnlyTwo", dynamic_axes=BATCH).result.error
    assert (error.stage, error.code) == ("reference", Code.DIM_SPECIALISED)
    assert "the PyTorch model runs at no other size (at batch=1: a batch of two" in error.message
    assert "remove batch from dynamic_axes" in error.hint


def test_row_32_a_graph_that_has_a_number_there_names_both(
    convert: Convert, tiny_job: Convert
) -> None:
    """No exporter here writes one silently; another version may."""
    fixed = convert("Net").model
    with pytest.raises(StageError) as caught:
        checking.check(fixed, tiny_job("Net", dynamic_axes=BATCH), "torchscript", set())
    assert caught.value.code is Code.DIM_SPECIALISED
    assert caught.value.message == "axis 0 of x was declared dynamic, the graph has 2"
    assert caught.value.hint == "the model's code fixes it: rewrite that part, or remove the axis"


def test_a_file_that_has_a_number_there(convert: Convert) -> None:
    fixed = convert("Net")
    done = convert({"onnx": str(fixed.path)}, opset=None, dynamic_axes=BATCH)
    assert done.result.status == "failed"
    assert done.code in (Code.DIM_SPECIALISED, Code.FORWARD)


# Outputs


@pytest.mark.parametrize("size", [2, None], ids=["a number", "open"])
@pytest.mark.parametrize("own", [False, True], ids=["the input's symbol", "its own"])
def test_an_output_that_moves_is_dynamic_in_the_file(
    tiny_job: Convert, size: int | None, own: bool
) -> None:
    axes = {**BATCH, "y": {0: "rows" if own else "batch"}}
    job = tiny_job("Net", outputs=["y"], dynamic_axes=axes, verify=FEW)
    done = jobs.convert(job)
    assert done.code is None
    model, file = done.model, done.folder / "changed.onnx"
    dimension = model.graph.output[0].type.tensor_type.shape.dim[0]
    dimension.Clear()
    if size is not None:
        dimension.dim_value = size
    model.graph.output[0].name = "renamed"  # outputs are matched by position
    for node in model.graph.node:
        node.output[:] = ["renamed" if name == "y" else name for name in node.output]
    onnx.save_model(model, file)
    error = recheck_error(job, file)
    if size is None:
        assert error is None
    else:
        assert error is not None
        assert (error.stage, error.code) == ("verify", Code.DIM_SPECIALISED)
        symbol = axes["y"][0]
        assert error.message == (
            f"axis 0 of output y ({symbol}) is not dynamic in the file, which says 2; PyTorch's "
            "output has 1, 2, 3 there"
        )


def test_an_output_that_never_moves_cannot_have_the_symbol_of_an_input(convert: Convert) -> None:
    error = convert(
        "Summary", outputs=["y"], dynamic_axes={**BATCH, "y": {0: "batch"}}
    ).result.error
    assert (error.stage, error.code) == ("reference", Code.DIM_SPECIALISED)
    assert error.message == (
        "axis 0 of output y (batch) is declared dynamic, but PyTorch's output has 1 there "
        "at every size of batch that was tried"
    )
    assert error.hint == "remove axis 0 of y from dynamic_axes"


def test_an_axis_that_moves_only_at_twice_the_size_is_tried_there(convert: Convert) -> None:
    axes = {"x": {2: "t"}, "y": {2: "t"}}
    done = convert("Strided", inputs={"x": {"shape": [1, 3, 64]}}, outputs=["y"], dynamic_axes=axes)
    assert done.code is None, done.result.error
    labels = [case.label for case in done.result.verify.cases]
    assert labels[:4] == ["traced", "second", "t=65", "t=66"]
    assert {"t=128", "t=256"} <= set(labels)


def test_an_axis_that_the_output_does_not_have_is_told(convert: Convert) -> None:
    axes = {**BATCH, "y": {7: "batch"}}
    error = convert("Summary", outputs=["y"], dynamic_axes=axes).result.error
    assert (error.code, error.message) == (
        Code.OUTPUT_STRUCTURE,
        "axis 7 of output y (batch) is declared dynamic, but PyTorch's output has fewer axes",
    )


def test_a_symbol_of_its_own_that_never_moves_is_a_note(convert: Convert) -> None:
    done = convert("Summary", outputs=["y"], dynamic_axes={**BATCH, "y": {0: "rows"}})
    assert done.code is None
    assert done.result.stages["reference"].warnings == [
        "DIM_SPECIALISED: axis 0 of output y (rows) is declared dynamic, but PyTorch's output "
        "has 1 there in every case"
    ]


def changed(done: Any, job: Any, axis: int, size: int) -> Any:
    """What ``verify`` says of a published file that declares another size of its output."""
    model, file = done.model, done.folder / "changed.onnx"
    model.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save_model(model, file)
    return recheck_error(job, file)


@pytest.mark.parametrize("end", [100, 700])
def test_a_file_that_cuts_long_inputs_is_found(tiny_job: Convert, end: int) -> None:
    """A Slice in front of the graph, which no size below its end shows."""
    job = tiny_job("Net", outputs=["y"], dynamic_axes={**BATCH, "y": {0: "batch"}})
    done = jobs.convert(job)
    model, file = done.model, done.folder / "cut.onnx"
    assert recheck_error(job, done.path) is None
    for node in model.graph.node:
        node.input[:] = ["kept" if name == "x" else name for name in node.input]
    bounds = {"start": [0], "end": [end], "axis": [0]}
    for name, values in bounds.items():
        tensor = onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], values)
        model.graph.initializer.append(tensor)
    model.graph.node.insert(0, onnx.helper.make_node("Slice", ["x", *bounds], ["kept"]))
    onnx.save_model(model, file)
    error = recheck_error(job, file)
    assert error is not None
    assert error.code is Code.VERIFY_SHAPE
    assert f"case batch={end + 1} " in error.message


def recheck_error(job: Any, file: Path) -> Any:
    again = Recheck.model_validate({**dict(job), "file": str(file)})
    return recheck.run(again, lambda stage: None).error


@pytest.mark.parametrize(("axis", "size", "sizes"), [(0, 2, "1, 2, 3"), (1, 5, "4")])
def test_a_size_that_the_file_does_not_keep_is_told(
    tiny_job: Convert, axis: int, size: int, sizes: str
) -> None:
    """Though nobody declared that axis of the output dynamic."""
    job = tiny_job("Net", outputs=["y"], dynamic_axes=BATCH, verify=FEW)
    error = changed(jobs.convert(job), job, axis, size)
    assert (error.stage, error.code) == ("verify", Code.OUTPUT_STRUCTURE)
    assert error.message == (
        f"axis {axis} of output y is {size} in the file; PyTorch's output has {sizes} there"
    )
    assert "leave that axis open" in error.hint


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("axes", [{}, BATCH], ids=["static", "dynamic"])
def test_outputs_whose_size_depends_on_values(
    convert: Convert, exporter: str, axes: dict[str, Any]
) -> None:
    opset = 18 if exporter == "dynamo" else 17
    inputs = {"x": {"shape": [6, 3]}}
    done = convert("Found", inputs=inputs, dynamic_axes=axes, exporters=[exporter], opset=opset)
    assert done.code is None, done.result.error
    rows, places, whole = (info.shape for info in done.onnx.outputs)
    assert not isinstance(rows[0], int)
    assert not isinstance(places[0], int)
    assert rows[1:] == [3]
    assert (whole == [6, 3]) is (axes == {})


@pytest.mark.parametrize("simplifier", [None, "onnxsim"])
def test_a_size_that_an_exporter_made_up_is_left_open(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, simplifier: str | None
) -> None:
    """As where it keeps the size of its example though the size depends on values."""
    from converter.plugins.exporters import torchscript

    def export(loaded: Any, job: Any, arguments: Any, destination: Any) -> None:
        original(loaded, job, arguments, destination)
        model = onnx.load(destination)
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
        onnx.save_model(model, destination)

    original = torchscript.export
    monkeypatch.setattr(torchscript, "export", export)
    done = convert("Net", outputs=["y"], dynamic_axes=BATCH, simplifier=simplifier)
    assert done.code is None, done.result.error
    assert not isinstance(done.onnx.outputs[0].shape[0], int)
    assert done.onnx.outputs[0].shape[1] == 4
    assert done.run(x=np.ones((7, 3))).shape == (7, 4)
    declared = {**BATCH, "y": {0: "batch"}}  # here it is for the configuration to say
    assert convert("Net", outputs=["y"], dynamic_axes=declared).code is Code.DIM_SPECIALISED


def test_a_second_size_that_the_model_does_not_take_is_told(convert: Convert) -> None:
    done = convert("TwoOrFour", dynamic_axes=BATCH)
    assert done.code is None
    assert axes_of(done)[0][-2] == [4]
    assert done.result.verify.reason == (
        "axis batch was tried at one other size only (4): the model takes none of the others "
        "(at batch=1: a batch of two or four)"
    )
    assert convert("Net", dynamic_axes=BATCH).result.verify.reason is None


# Axes of a source that is ONNX

FIXED = """<ir_version: 8, opset_import: ["": 17]>
    g (float[BATCH, 3] x) => (float[BATCH, 3] y)
    <int64[2] size = {2, 3}> {z = Relu(x) y = Reshape(z, size)}"""


def onnx_source(text: str, folder: Path, named: bool) -> dict[str, str]:
    model = onnx.parser.parse_model(text.replace("BATCH", "n"))
    if not named:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].Clear()
    onnx.save_model(model, folder / "source.onnx")
    return {"onnx": str(folder / "source.onnx")}


@pytest.mark.parametrize("named", [True, False])
def test_an_axis_that_a_file_leaves_open_but_fixes_inside(
    convert: Convert, tmp_path: Path, named: bool
) -> None:
    source = onnx_source(FIXED, tmp_path, named)
    error = convert(source, inputs={}, opset=None, exporters=["original"]).result.error
    assert (error.stage, error.code) == ("reference", Code.DIM_SPECIALISED)
    symbol = "n" if named else "x_dim_0"
    assert error.message.startswith(
        f"axis {symbol} is dynamic in the file, but the file itself runs at no other size (at"
    )
    assert "dynamic_axes" not in error.hint
    assert "get a file without it" in error.hint


@pytest.mark.parametrize("simplifier", [None, "onnxsim"])
def test_an_axis_without_a_name_is_tried(
    convert: Convert, tmp_path: Path, simplifier: str | None
) -> None:
    source = onnx_source(FIXED.replace("2, 3}", "-1, 3}"), tmp_path, named=False)
    options = {"inputs": {}, "opset": None, "exporters": ["original"], "verify": FEW}
    done = convert(source, simplifier=simplifier, **options)
    assert done.code is None, done.result.error
    assert axes_of(done) == [("x", 0, "x_dim_0", True, [1, 3], True)]
    assert not isinstance(done.onnx.inputs[0].shape[0], int)


def test_axes_without_names_may_belong_together(convert: Convert, tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 3] x, float[n, 3] y) => (float[n, 6] z) {z = Concat<axis = 1>(x, y)}"""
    model = onnx.parser.parse_model(text)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
    onnx.save_model(model, tmp_path / "source.onnx")
    source = {"onnx": str(tmp_path / "source.onnx")}
    done = convert(source, inputs={}, opset=None, exporters=["original"], verify=FEW)
    assert done.code is None, done.result.error
    # Neither moves alone: that they are equal is found, and they are tried together.
    assert [axis[-2:] for axis in axes_of(done)] == [([1, 3, 4, 5, 7], True)] * 2
    assert [symbol.rule for symbol in done.result.verify.domain.symbols] == [None, "= x_dim_0"]
