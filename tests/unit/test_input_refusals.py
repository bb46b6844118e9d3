"""What torch and ONNX Runtime say of a wrong input, answered with the key to correct."""

from __future__ import annotations

from typing import Any

import pytest

from converter.model.job import Job
from converter.worker.recording import refusals

INPUTS = {
    "x": {"shape": [1, 1, 8, 8]},
    "y": {"shape": [2, 5], "dtype": "float64"},
}


def hint(text: str, inputs: dict[str, Any] = INPUTS, source: str = "registry") -> str:
    job = Job.model_validate({
        "name": "m", "source": {source: "s"}, "inputs": inputs, "opset": 17,
        "exporters": ["dynamo"], "model_dir": "m", "staging_dir": "s",
    })  # fmt: skip
    return refusals.of_inputs(text, job)


X, Y = "models.m.inputs.x", "models.m.inputs.y"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "Given groups=1, weight of size [64, 3, 7, 7], expected input[1, 1, 8, 8] to have 3 "
            "channels, but got 1 channels instead",
            f"{X}.shape is [1, 1, 8, 8], the model takes 3 channels (axis 1): correct it, or ",
        ),
        (
            "addmm: mat1 and mat2 shapes cannot be multiplied (2x5 and 3x8)",
            ", the model takes 3 in its last axis: correct it, or the sizes that the model is",
        ),
        (
            "The size of tensor a (5) must match the size of tensor b (4) at non-singleton",
            f"{Y}.shape is [2, 5]: correct it",
        ),
        (
            "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
            "[2, 5]",
            f"{Y}.shape is [2, 5]: correct it",
        ),
        (
            "mat1 and mat2 must have the same dtype, but got Double and Float",
            f"{Y}.dtype is float64, the model takes float32 there: state the dtype that it takes",
        ),
        (
            "Input type (double) and bias type (float) should be the same",
            f"{Y}.dtype is float64, the model takes float32 there: state the dtype that it takes",
        ),
        (
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            "Long, Int; but got torch.FloatTensor instead (while checking arguments for embedding)",
            f"{X}.dtype is float32, the model takes int64 there",
        ),
        (
            "Unexpected input data type. Actual: (tensor(double)) , expected: (tensor(float))",
            f"{Y}.dtype is float64, the model takes float32 there",
        ),
    ],
)
def test_the_input_is_named(text: str, told: str) -> None:
    assert told in hint(text)


def test_sizes_inside_of_the_model_are_not_said_to_be_the_inputs() -> None:
    text = "mat1 and mat2 shapes cannot be multiplied (1x25088 and 512x10)"
    assert hint(text, {"x": {"shape": [1, 3, 8, 8]}}) == (
        f"{X}.shape is [1, 3, 8, 8]: correct it, or the sizes that the model is built with"
    )


def test_a_file_has_no_sizes_that_it_is_built_with() -> None:
    text = "Got invalid dimensions for input: y for the following indices index: 0 Got: 2"
    assert hint(text, source="onnx") == f"{Y}.shape is [2, 5]: give the one that the file takes"


@pytest.mark.parametrize("text", ["no such head", "division by zero", "CUDA error", ""])
def test_other_errors_get_no_such_hint(text: str) -> None:
    assert hint(text) == ""
