"""Inputs and outputs that are trees: what forward gets, what the file is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jobs import Converted

from converter.config import validation
from converter.layout import trust as policy
from converter.model.errors import Code
from converter.plan import jobs
from converter.worker.pipeline import pipeline

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
BOTH = pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
STATE = {"shape": [1, 2, 6]}


def convert(folder: Path, name: str, exporter: str, **model: Any) -> Converted:
    """A model of ``structured.py`` as YAML would have it, through the whole pipeline."""
    model["source"] = {"file": str(HERE / "structured.py"), "name": name}
    model["exporter"] = exporter
    spec = validation.parse(
        {"models": {"model": model}, "benchmark": {"providers": []}, "opset": 18}
    )
    plan = jobs.build(spec, run_dir=folder, cwd=folder, trust=[str(HERE)])
    job = plan.jobs[0]
    Path(job.staging_dir).mkdir(parents=True)
    return Converted(pipeline.run(job, lambda event: None), Path(job.staging_dir))


def names(done: Converted) -> tuple[list[str], list[str]]:
    assert done.result.status == "ok", done.result.error
    return [i.name for i in done.onnx.inputs], [o.name for o in done.onnx.outputs]


@BOTH
def test_a_state_is_a_tuple_and_its_names_are_paths(tmp_path: Path, exporter: str) -> None:
    inputs = {"x": {"shape": [2, 3, 4]}, "state": [STATE, STATE]}
    axes = {"x": {0: "batch"}, "state.0": {1: "batch"}, "state.1": {1: "batch"}}
    done = convert(tmp_path, "Recurrent", exporter, inputs=inputs, dynamic_axes=axes)
    # Outputs of the same path as an input are told from it.
    assert names(done) == (["x", "state.0", "state.1"], ["y", "out.state.0", "out.state.1"])
    assert done.onnx.outputs[0].shape[0] == "batch"


@BOTH
def test_a_named_tuple_is_made_by_its_class(tmp_path: Path, exporter: str) -> None:
    state = {"_target_": "structured.State", "h": STATE, "c": {**STATE, "name": "cell"}}
    inputs = {"x": {"shape": [2, 3, 4]}, "state": state}
    done = convert(tmp_path, "Named", exporter, inputs=inputs)
    assert names(done) == (["x", "state.h", "cell"], ["output.0", "output.1.h", "output.1.c"])


@BOTH
def test_a_list_that_forward_calls_a_list_is_one(tmp_path: Path, exporter: str) -> None:
    inputs = {"x": {"shape": [2, 4]}, "states": [{"shape": [2, 4]}, {"shape": [2, 4]}]}
    done = convert(tmp_path, "Listed", exporter, inputs=inputs)
    assert names(done)[0] == ["x", "states.0", "states.1"]


@BOTH
def test_a_mapping_of_features_and_a_dataclass_of_results(tmp_path: Path, exporter: str) -> None:
    sparse = {"ids": {"shape": [3, 5], "dtype": "int64", "low": 0, "high": 20}}
    features = {"sparse": sparse, "dense": {"shape": [3, 3]}}
    axes = {"features.sparse.ids": {0: "n", 1: "length"}, "features.dense": {0: "n"}}
    done = convert(tmp_path, "Features", exporter, inputs={"features": features}, dynamic_axes=axes)
    expected = ["features.sparse.ids", "features.dense"], ["logits", "hidden.0", "hidden.1"]
    assert names(done) == expected


@BOTH
@pytest.mark.parametrize("passed", ["each", "all", "by name"])
def test_arguments_by_keyword(tmp_path: Path, exporter: str, passed: str) -> None:
    own = {"pass": "keyword"} if passed == "each" else {}
    some = {"shape": [2, 4], **own}
    inputs = {"x": {"shape": [2, 4]}, "scale": some, "bias": some}
    model: dict[str, Any] = {"inputs": inputs}
    if passed == "all":
        model["pass"] = "keyword"
    elif passed == "by name":
        model["pass"] = {"scale": "keyword", "bias": "keyword"}
    done = convert(tmp_path, "Keywords", exporter, **model)
    assert names(done)[0] == ["x", "scale", "bias"]


def test_a_script_gets_lists_as_lists_and_keeps_its_branch(tmp_path: Path) -> None:
    one = {"shape": [2, 4]}
    inputs = {"x": one, "state": [one, one], "more": [one, one]}
    done = convert(tmp_path, "scripted", "torchscript", inputs=inputs)
    assert names(done)[0] == ["x", "state.0", "state.1", "more.0", "more.1"]
    assert "If" in done.onnx.ops


def test_a_program_gets_its_keywords_in_its_own_order(tmp_path: Path) -> None:
    one = {"shape": [2, 4], "pass": "keyword"}
    inputs = {"x": {"shape": [2, 4]}, "bias": one, "scale": one}
    done = convert(tmp_path, "program", "dynamo", inputs=inputs)
    assert sorted(names(done)[0]) == ["bias", "scale", "x"]


def test_a_program_gets_a_mapping_by_its_keys(tmp_path: Path) -> None:
    one = {"shape": [2, 4]}
    done = convert(tmp_path, "features_program", "dynamo", inputs={"pair": {"a": one, "b": one}})
    # Each output keeps a name of its own, whatever the inputs are called.
    assert names(done)[1] == ["a", "out.pair.a", "out.out.pair.a"]


@BOTH
def test_constants_are_dtypes_and_devices_by_name(tmp_path: Path, exporter: str) -> None:
    constants = {"dtype": "torch.float64", "device": "torch.device(cpu)"}
    done = convert(
        tmp_path, "Typed", exporter, inputs={"x": {"shape": [2, 4]}}, constants=constants
    )
    assert names(done)[0] == ["x"]
    assert done.onnx.outputs[0].dtype == "float64"


def test_an_object_in_kwargs_is_built(tmp_path: Path) -> None:
    config = {"_target_": "structured.Config", "width": 3, "dtype": "torch.float64"}
    inputs = {"x": {"shape": [2, 4], "dtype": "float64"}}
    done = convert(tmp_path, "built", "torchscript", inputs=inputs, kwargs={"config": config})
    assert done.onnx.outputs[0].shape == [2, 3], done.result.error


def test_an_object_in_kwargs_needs_trust(tmp_path: Path) -> None:
    config = {"_target_": "os.system", "command": "true"}
    done = convert(
        tmp_path, "built", "torchscript", inputs={"x": {"shape": [2, 4]}}, kwargs={"config": config}
    )
    assert done.code is Code.TARGET_DENIED
    assert policy.VARIABLE in f"{done.result.error}"


def test_a_keyword_only_argument_says_what_to_write(tmp_path: Path) -> None:
    one = {"shape": [2, 4]}
    done = convert(tmp_path, "Keywords", "torchscript", inputs={"x": one, "scale": one})
    assert done.result.error is not None
    assert "inputs.scale.pass: keyword" in done.result.error.hint
