"""What no axis, no ordinary draw shows: sizes that are large together, one bucket, rising rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converter.model.errors import Code
from converter.worker.inputs import patterns

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
AXES = {0: "b", 1: "t"}
IDS = {"ids": {"shape": [2, 6], "dtype": "int64", "low": 0, "high": 100}}


def made(convert: Convert, name: str, inputs: Any, **changes: Any) -> Any:
    options = {"inputs": inputs, "outputs": ["y"], "trust": ["corners"], **changes}
    return convert({"_target_": f"corners.{name}"}, **options)


def sized(convert: Convert, name: str, *shape: int) -> Any:
    return made(convert, name, {"x": {"shape": list(shape)}}, dynamic_axes={"x": AXES, "y": AXES})


@pytest.mark.parametrize(
    ("name", "shape", "case"),
    [
        ("Both", (2, 10, 4), "b=8 t=40"),
        ("Both", (1, 6, 4), "b=25 t=25"),
        ("Bytes", (2, 10, 8), "b=7 t=31"),
        ("Elements", (2, 10, 8), "b=9 t=44"),
    ],
)
def test_sizes_that_are_large_together_are_tried(
    convert: Convert, name: str, shape: tuple[int, ...], case: str
) -> None:
    done = sized(convert, name, *shape)
    assert done.code is Code.VERIFY_VALUE, done.result.error
    assert f"case {case} " in done.result.error.message


@pytest.mark.parametrize(("name", "case"), [("Frames", "t=130"), ("Newest", "t=101")])
def test_limits_behind_a_stride_and_counted_from_the_end_are_tried(
    convert: Convert, name: str, case: str
) -> None:
    done = sized(convert, name, 2, 20, 4)
    assert done.code is Code.VERIFY_VALUE, done.result.error
    assert f"case {case} " in done.result.error.message


def test_a_limit_counted_from_the_end_by_tensors_is_right(convert: Convert) -> None:
    done = sized(convert, "NewestByTensors", 2, 20, 4)
    assert done.code is None, done.result.error
    assert "t=101" in [case.label for case in done.result.verify.cases]


def test_the_number_of_elements_by_tensors_is_right(convert: Convert) -> None:
    done = sized(convert, "ElementsTraced", 2, 10, 8)
    assert done.code is None, done.result.error
    assert "b=9 t=44" in [case.label for case in done.result.verify.cases]


@pytest.mark.parametrize(
    ("name", "case"), [("Bucket", "all 40"), ("Matched", "all 40"), ("Middle", "all 49")]
)
def test_whole_numbers_of_one_bucket_are_tried(convert: Convert, name: str, case: str) -> None:
    done = made(convert, name, IDS)
    assert done.code is Code.VERIFY_VALUE, done.result.error
    assert f"case {case} " in done.result.error.message


def test_a_bucket_by_tensors_is_right(convert: Convert) -> None:
    done = made(convert, "BucketTraced", IDS)
    assert done.code is None, done.result.error
    assert {"all 40", "all 24", "all 74"} <= {case.label for case in done.result.verify.cases}


@pytest.mark.parametrize("declared", [{}, {"low": -1.0, "high": 3.0}], ids=["normal", "range"])
@pytest.mark.parametrize("name", ["Rising", "Steps"])
def test_rising_rows_are_tried(convert: Convert, name: str, declared: dict[str, float]) -> None:
    done = made(convert, name, {"x": {"shape": [3, 6], **declared}})
    assert done.code is Code.VERIFY_VALUE, done.result.error
    assert "case rising " in done.result.error.message


def test_rising_whole_numbers_are_tried(convert: Convert) -> None:
    narrow = {"x": {"shape": [4, 5], "dtype": "int64", "low": 0, "high": 9}}
    done = made(convert, "Steps", narrow)
    assert done.code is Code.VERIFY_VALUE, done.result.error
    assert "case rising " in done.result.error.message


def test_rising_rows_by_tensors_are_right(convert: Convert) -> None:
    done = made(convert, "RisingTraced", {"x": {"shape": [3, 6]}})
    assert done.code is None, done.result.error
    assert "rising" in [case.label for case in done.result.verify.cases]


@pytest.mark.parametrize(
    "declared",
    [
        {"dtype": "int64", "low": 0, "high": 100},
        {"dtype": "uint8", "low": 3, "high": 6},
        {"dtype": "int64", "low": -5, "high": -4},
        {"dtype": "int64", "low": 0, "high": 2**62},
        {"dtype": "float16", "low": -1.0, "high": 3.0},
    ],
)
@pytest.mark.parametrize("shape", [[], [4, 7]])
def test_no_pattern_leaves_the_range(
    tiny_job: Callable[..., Any], declared: dict[str, Any], shape: list[int]
) -> None:
    job = tiny_job("Net", inputs={"x": {"shape": shape, **declared}})
    (group,) = patterns.groups(job, [0.5, 3, 4, 5, 10, 2**20])
    for pattern in group.members["x"]:
        drawn = pattern.draw("x", job.inputs["x"], seed=0, sample=7)
        assert drawn.shape == tuple(shape), pattern.name
        assert declared["low"] <= drawn.min(), pattern.name
        assert drawn.max() < declared["high"], pattern.name
        if pattern.name == "rising":
            assert (np.diff(np.atleast_1d(drawn), axis=-1) >= 0).all()


def test_whole_numbers_are_few(tiny_job: Callable[..., Any]) -> None:
    job = tiny_job("Net", inputs=IDS)
    for limits, most in (([], 8), ([4, 10], 12), ([*range(200)], 12)):
        (group,) = patterns.groups(job, limits)
        names = [pattern.name for pattern in group.members["ids"]]
        assert len({*names}) == len(names) <= most
        assert limits == [] or [name for name in names if name.startswith("around")]


def test_a_size_of_zero_that_ends_onnx_runtime_fails_no_file(convert: Convert) -> None:
    shapes = {"x": {"shape": [2, 3, 4]}, "z": {"shape": [2, 5, 4]}}
    axes = {name: {0: "b"} for name in shapes}
    done = made(convert, "Products", shapes, dynamic_axes=axes)
    assert done.code is None, done.result.error
    assert done.result.verify.reason is not None
    assert "case b=0 " in done.result.verify.reason
    assert "ONNX Runtime crashed with SIGFPE" in done.result.verify.reason


def test_control_flow_of_torch_is_counted_as_one_operator(convert: Convert) -> None:
    inputs = {"x": {"shape": [2, 3]}}
    done = made(convert, "Chosen", inputs, exporters=["dynamo"], opset=18)
    assert done.code is None, done.result.error


def test_a_scripted_function_in_a_model_is_no_error(convert: Convert) -> None:
    done = made(convert, "Scripted", {"x": {"shape": [2, 3]}}, exporters=["torchscript"])
    assert done.code is None, done.result.error
