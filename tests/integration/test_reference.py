"""What PyTorch computes: outputs in the exporters' order, and the model's own rounding error."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from jobs import BATCH

from converter.model.errors import Code, StageError
from converter.worker.compare import numerics
from converter.worker.reference import execution, reference
from converter.worker.sources import loading

pytestmark = pytest.mark.integration
MakeJob = Callable[..., Any]
A, B, C = (torch.full((1,), value) for value in (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (A, [1]),
        ((A, B), [1, 2]),
        ([A, [B, (C,)]], [1, 2, 3]),
        ({"b": B, "a": A}, [2, 1]),
        (OrderedDict(z=C, a=A), [3, 1]),
        ((None, A, {"x": None, "y": [B]}), [1, 2]),
        ((A, A), [1, 1]),
    ],
)
def test_a_nested_result_is_flattened(result: Any, expected: list[float]) -> None:
    assert [float(tensor) for tensor in execution.flatten(result)] == expected


@pytest.mark.parametrize("result", [None, (), [None], {}, 3, "text", (A, 1.0), {"a": A, "n": 2}])
def test_a_result_that_is_not_tensors(result: Any) -> None:
    with pytest.raises(StageError) as caught:
        execution.flatten(result)
    assert caught.value.code is Code.OUTPUT_STRUCTURE
    assert caught.value.hint


def compute(job: Any) -> reference.References:
    return reference.compute(loading.load(job), job)


@pytest.mark.parametrize("source", ["Net", "Conv", "OnlyFloat32"])
def test_the_floor_is_float32_rounding(tiny_job: MakeJob, source: str) -> None:
    shape = [2, 3, 8, 8] if source == "Conv" else [2, 3]
    (floor,) = compute(tiny_job(source, inputs={"x": {"shape": shape}})).noise.floors
    assert floor is not None
    assert 1e-9 < floor < 1e-6
    assert numerics.tolerance(floor) < 2e-5


def test_a_model_that_cancels_has_a_higher_floor(tiny_job: MakeJob) -> None:
    (floor,) = compute(tiny_job("Cancelling")).noise.floors
    assert floor is not None
    assert floor > 1e-4
    assert numerics.tolerance(floor) == 2.5e-3


def test_whole_numbers_that_rounding_does_not_move(tiny_job: MakeJob) -> None:
    assert compute(tiny_job("Ranks")).noise.floors == [0.0]


def test_each_output_has_a_floor_of_its_own(tiny_job: MakeJob) -> None:
    shape = {"shape": [2, 3]}
    assert len(compute(tiny_job("Two", inputs={"x": shape, "y": shape})).noise.floors) == 2


def test_the_samples_and_the_model_are_left_alone(tiny_job: MakeJob) -> None:
    job = tiny_job("Mutating")
    loaded = loading.load(job)
    assert isinstance(loaded.model, tiny.Mutating)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    found = reference.compute(loaded, job)
    assert all(torch.equal(before[k], v) for k, v in loaded.model.state_dict().items())
    for case in found.cases:
        drawn = case.case.draw(job.seed)
        np.testing.assert_array_equal(case.inputs["x"], drawn["x"])
    with torch.no_grad():
        expected = loaded.model(torch.from_numpy(found.cases[0].inputs["x"].copy()))
    np.testing.assert_array_equal(found.cases[0].outputs[0], expected.numpy())


@pytest.mark.parametrize("axes", [{}, BATCH], ids=["static", "dynamic"])
def test_a_single_input_proves_nothing(tiny_job: MakeJob, axes: dict[str, Any]) -> None:
    """A branch that the export has frozen would ship: nothing takes the other one."""
    pinned = {"x": {"shape": [2, 4], "fill": "constant", "value": 1.0}}
    found = compute(tiny_job("Branch", inputs=pinned, dynamic_axes=axes))
    assert found.vacuous is not None
    assert found.vacuous.code is Code.VERIFY_VACUOUS
    assert "only one input was tried (x: fill constant or file)" in found.vacuous.message
    other = {"cases": [{"label": "negative", "inputs": {"x": {"value": -1.0}}}]}
    job = tiny_job("Branch", inputs=pinned, dynamic_axes=axes, verify=other)
    assert compute(job).vacuous is None


def test_an_input_that_never_varies_is_named(tiny_job: MakeJob) -> None:
    inputs = {"x": {"shape": [2, 4]}, "y": {"shape": [2, 4], "fill": "constant", "value": 2.0}}
    found = compute(tiny_job("Sum", inputs=inputs))
    assert found.vacuous is None
    assert found.unproven == ["y is the same in every case: its effect is not measured"]


@pytest.mark.parametrize("axes", [{}, BATCH], ids=["static", "dynamic"])
def test_a_whole_number_that_never_changes_is_named(
    tiny_job: MakeJob, axes: dict[str, Any]
) -> None:
    found = compute(tiny_job("NeverAbove", outputs=["above", "y"], dynamic_axes=axes))
    assert found.vacuous is None
    assert found.unproven == [
        "output above is the same in every case: it is not measured to follow the input"
    ]
