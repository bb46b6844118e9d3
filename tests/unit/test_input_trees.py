"""Inputs as a tree: what is a tensor, what it is called, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.config import validation
from converter.model import trees
from converter.model.errors import ConfigError
from converter.model.job import Job
from converter.plan import jobs

ONE = {"shape": [1, 2]}


def job(**model: Any) -> Job:
    model = {"source": {"_target_": "mine.Net"}, **model}
    spec = validation.parse({"models": {"a": model}})
    return jobs.build(spec, run_dir=Path("/r"), cwd=Path("/r"), trust=[]).jobs[0]


def refusal(**model: Any) -> str:
    with pytest.raises(ConfigError) as error:
        job(**model)
    return str(error.value)


def test_flat_inputs_need_no_arguments() -> None:
    assert job(inputs={"x": ONE, "y": ONE}).arguments == []


def test_tensors_are_named_by_their_paths() -> None:
    made = job(inputs={"x": ONE, "past": [{"key": ONE, "value": {**ONE, "name": "v"}}]})
    assert list(made.inputs) == ["x", "past.0.key", "v"]
    assert made.arguments[1].tensors() == ["past.0.key", "v"]
    # The job has what the file has: how forward gets it stands in its arguments.
    assert made.inputs["v"].name is None


def test_a_feature_may_be_called_shape() -> None:
    assert list(job(inputs={"f": {"shape": ONE, "size": ONE}}).inputs) == ["f.shape", "f.size"]


def test_one_input_by_keyword_and_all() -> None:
    by_one = job(inputs={"x": ONE, "y": {**ONE, "pass": "keyword"}}).arguments
    assert [argument.keyword for argument in by_one] == [False, True]
    by_all = job(inputs={"x": ONE, "y": [ONE]}, **{"pass": "keyword"}).arguments
    assert [argument.keyword for argument in by_all] == [True, True]
    by_name = job(inputs={"x": ONE, "y": [ONE]}, **{"pass": {"y": "keyword"}}).arguments
    assert [argument.keyword for argument in by_name] == [False, True]


def test_a_job_with_a_tree_survives_json() -> None:
    made = job(inputs={"s": {"_target_": "mine.S", "h": ONE, "n": 3, "_args_": [[ONE]]}})
    assert Job.model_validate_json(made.model_dump_json()) == made
    assert list(made.inputs) == ["s.0", "s.h"]


def test_targets_are_found_wherever_they_stand() -> None:
    made = job(
        inputs={
            "s": {"_target_": "mine.State", "h": ONE},
            "l": {"_target_": "list", "_args_": [[ONE]]},
        },
        kwargs={"config": {"_target_": "mine.Config", "inner": [{"_target_": "mine.Part"}]}},
        constants={"flag": {"_target_": "mine.Flag"}},
    )
    found = dict(trees.targets(made))
    assert found == {
        "kwargs.config": "mine.Config",
        "kwargs.config.inner.0": "mine.Part",
        "constants.flag": "mine.Flag",
        "inputs.s": "mine.State",
    }


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"inputs": {"s": [1, 3]}}, "models.a.inputs.s: found a list; expected a mapping"),
        ({"inputs": {"s": [ONE, 3]}}, "models.a.inputs.s.1: found 3; expected a mapping"),
        ({"inputs": {"s": [ONE, {"shap": [1]}]}}, "models.a.inputs.s.1.shap: unknown key. Did you"),
        ({"inputs": {"s": {"a": {"shape": ["n"]}}}}, "models.a.inputs.s.a.shape.0: found 'n'"),
        ({"inputs": {"x": {**ONE, "pass": "name"}}}, "models.a.inputs.x.pass: found 'name'"),
        ({"inputs": {"x": [{**ONE, "pass": "keyword"}]}}, "only a whole argument is passed by"),
        ({"inputs": {"x": ONE, "y": {**ONE, "name": "x"}}}, "'x' is the name of two tensors"),
        ({"inputs": {"x": ONE}, "pass": {"z": "keyword"}}, "a.pass.z: the model has no such"),
        ({"inputs": {"x": ONE}, "arguments": []}, "models.a.arguments: unknown key."),
        ({"inputs": {"x": {"_target_": "a.B", "_args_": 3}}}, "x._args_: expected a list"),
        ({"source": {"onnx": "a.onnx"}, "inputs": {"x": [ONE]}}, "inputs: the source is ONNX"),
    ],
)  # fmt: skip
def test_what_is_refused_has_its_key(model: dict[str, Any], said: str) -> None:
    assert said in refusal(**model)


def test_axes_and_cases_name_paths() -> None:
    axes = {"s.0": {0: "n"}}
    cases = [{"label": "ones", "inputs": {"s.0": {"value": 1.0}}}]
    made = job(inputs={"s": [ONE]}, dynamic_axes=axes, verify={"cases": cases})
    assert made.dynamic_axes == {"s.0": {0: "n"}}
    assert "models.a.dynamic_axes.s.1: no such input" in refusal(
        inputs={"s": [ONE]}, dynamic_axes={"s.1": {0: "n"}}
    )
