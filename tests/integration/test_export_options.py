"""Options of the exporters: parameters as inputs, their names, external data."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from jobs import IMAGE

from converter.model.errors import Code

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
NAMES = ["w1", "b1", "w2", "b2"]
OWN = ["first.weight", "first.bias", "second.weight", "second.bias"]
ONES = np.ones((2, 3))


def inputs(done: Any) -> list[str]:
    return [value.name for value in done.onnx.inputs]


@pytest.mark.parametrize(
    ("exporter", "names"), [("torchscript", NAMES), ("torchscript", []), ("dynamo", [])]
)
def test_initializers_may_be_inputs_with_defaults(
    convert: Convert, exporter: str, names: list[str]
) -> None:
    export = {"keep_initializers_as_inputs": True, "parameter_names": names}
    done = convert("Net", exporters=[exporter], export=export)
    assert done.code is None
    assert set(inputs(done)) >= {"x", *(names or OWN)}
    weight, bias = (names or OWN)[2:]
    zeros = {weight: np.zeros(done.weights[weight].shape), bias: np.ones(4)}
    assert np.abs(done.run(x=ONES) - 1).min() > 0
    np.testing.assert_array_equal(done.run(x=ONES, **zeros), np.ones((2, 4)))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("names", [NAMES, []])
def test_parameters_may_be_left_out_and_fed(
    convert: Convert, exporter: str, names: list[str]
) -> None:
    export = {"export_params": False, "parameter_names": names}
    done = convert("Net", exporters=[exporter], export=export)
    assert (done.code, done.onnx.parameters) == (None, 0)
    assert inputs(done) == ["x", *(names or OWN)]
    assert done.result.verify.status == "passed"
    shapes = {value.name: value.shape for value in done.onnx.inputs}
    fed = {name: np.zeros(shape) for name, shape in shapes.items() if name != "x"}
    fed[inputs(done)[-1]] = np.full(shapes[inputs(done)[-1]], 3)
    np.testing.assert_array_equal(done.run(x=ONES, **fed), np.full((2, 4), 3))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_parameter_names_alone_rename(convert: Convert, exporter: str) -> None:
    done = convert("Net", exporters=[exporter], export={"parameter_names": NAMES})
    assert (set(done.weights), inputs(done)) == ({*NAMES}, ["x"])


def test_names_that_no_parameter_has(convert: Convert) -> None:
    done = convert("Net", export={"parameter_names": [*NAMES, "w3"]})
    error = done.result.error
    assert error.code is Code.EXPORT
    assert error.message.startswith(
        "models.model.export.parameter_names has 5 names, the inputs 1: number of input names"
    )
    assert error.hint == "give one name for each parameter"


def test_more_names_than_parameters_for_dynamo(convert: Convert) -> None:
    export = {"parameter_names": [*NAMES, "w3"]}
    error = convert("Net", exporters=["dynamo"], export=export).result.error
    assert error.code is Code.EXPORT_UNSUPPORTED
    assert error.message == (
        "models.model.export.parameter_names has 5 names, the model 4 parameters: "
        "give one name for each parameter"
    )


def test_a_program_may_be_fed_its_parameters(convert: Convert, tmp_path: Path) -> None:
    program = torch.export.export(tiny.Net().eval(), (torch.ones(2, 3),))
    torch.export.save(program, tmp_path / "net.pt2")
    done = convert(
        {"exported_program": str(tmp_path / "net.pt2")},
        exporters=["dynamo"],
        export={"export_params": False},
        trust=["tiny", str(tmp_path)],
    )
    assert (done.code, inputs(done)) == (None, ["x", *OWN])


def test_both_exporters_call_weights_and_outputs_alike(convert: Convert) -> None:
    """By the names of the state dict, also where nothing is folded."""
    made = [
        convert("Net", exporters=[exporter], outputs=["y"])
        for exporter in ("torchscript", "dynamo")
    ]
    for done in made:
        assert set(done.weights) == {*OWN}
        assert [value.name for value in done.onnx.outputs] == ["y"]


def test_a_domain_that_the_graph_does_not_use(convert: Convert) -> None:
    done = convert("Net", exporters=["dynamo"], export={"custom_opsets": {"acme": 1}})
    assert done.code is None
    assert "acme" not in done.onnx.opsets
    (said,) = [w for w in done.result.stages["export"].warnings if "custom_opsets" in w]
    assert "export.custom_opsets: no operator of acme is in the graph" in said


def test_a_script_has_no_python_for_dynamo(convert: Convert, tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match=r"torch\.jit\.script"):
        torch.jit.script(tiny.Net().eval()).save(tmp_path / "net.pt")
    error = convert(
        {"torchscript": str(tmp_path / "net.pt")},
        exporters=["dynamo"],
        trust=["tiny", str(tmp_path)],
    ).result.error
    assert error.code is Code.EXPORT_UNSUPPORTED
    assert "name the module that the script was made of, by _target_ or file" in error.message


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_external_data_beside_the_file(convert: Convert, tmp_path: Path, exporter: str) -> None:
    done = convert(
        "Net", kwargs={"width": 200}, exporters=[exporter], export={"external_data": "always"}
    )
    assert list(done.files) == ["model.onnx", "model.onnx.data"]
    (data,) = done.result.files[1:]
    content = done.files["model.onnx.data"]
    assert (data.path, data.bytes) == ("model.onnx.data", len(content))
    assert data.sha256 == hashlib.sha256(content).hexdigest()
    assert len({path.stat().st_mode for path in done.folder.glob("model.onnx*")}) == 1
    moved = shutil.copytree(done.folder, tmp_path / "elsewhere") / "model.onnx"
    onnx.checker.check_model(moved, full_check=True)
    assert done.run(x=ONES).shape == (2, 4)
    assert "model.onnx.data" not in convert("Net", kwargs={"width": 200}).files


def test_small_weights_stay_in_the_file(convert: Convert) -> None:
    done = convert("Net", export={"external_data": "always"})
    assert (list(done.files), done.result.files[1:]) == (["model.onnx"], [])


def test_folding_of_constants_can_be_switched_off(convert: Convert) -> None:
    folded = convert("Folding")
    plain = convert("Folding", export={"constant_folding": False})
    assert folded.code is plain.code is None
    assert folded.onnx.nodes < plain.onnx.nodes


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_parameters_of_batch_normalisation_are_fed_too(convert: Convert, exporter: str) -> None:
    """Fused into the convolution they would be parameters that the model does not have."""
    export = {"export_params": False}
    done = convert({"registry": "Conv"}, exporters=[exporter], inputs=IMAGE, export=export)
    assert done.code is None
    assert {"body.0.weight", "body.1.running_mean", "body.3.bias"} <= {*inputs(done)}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_tied_parameters_are_fed_once(convert: Convert, exporter: str) -> None:
    """By the name that the state dict has first; each exporter keeps another one."""
    export = {"export_params": False}
    done = convert("Tied", exporters=[exporter], export=export)
    assert (done.code, inputs(done)) == (None, ["x", "first.weight"])


def test_buffers_of_whole_numbers_stay_in_the_file(convert: Convert) -> None:
    export = {"export_params": False}
    done = convert("Picking", exporters=["dynamo"], export=export)
    assert (done.code, {*done.weights}) == (None, {"order"})
    error = convert("Picking", export=export).result.error
    assert error.code is Code.EXPORT
    assert error.message == "the graph needs inputs that nobody declared: order"
    assert "which dynamo keeps in the file" in error.hint


def test_equal_parameters_cannot_be_fed_one_by_one(convert: Convert) -> None:
    error = convert("Conv", inputs=IMAGE, export={"export_params": False}).result.error
    assert error.code is Code.EXPORT
    assert "body.1.running_mean" in error.message
    assert "torch merges parameters that are equal" in error.hint


@pytest.mark.parametrize("opset", [9, 17, 21])
@pytest.mark.parametrize("eps", [None, 0.5])
def test_rms_norm_has_a_form_at_every_opset(convert: Convert, opset: int, eps: float) -> None:
    done = convert("RootMeanSquare", kwargs={"eps": eps}, opset=opset, exporters=["torchscript"])
    assert (done.code, done.onnx.opset) == (None, opset)
