"""Dtypes that not every source has: strings, complex numbers; what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converter.config.validation import parse
from converter.model.errors import ConfigError
from converter.model.job import Job
from converter.plan import jobs
from converter.plan.keys import Keys

FILE = {"onnx": "net.onnx"}


def problems(**model: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse({"models": {"m": {"source": "conv_bn_relu", **model}}})
    return [str(problem) for problem in caught.value.problems]


def of_input(source: Any = "conv_bn_relu", **keys: Any) -> str:
    (message,) = problems(source=source, inputs={"x": {"shape": [2, 3], **keys}})
    return message


def job(**model: Any) -> Job:
    config = parse({"models": {"m": {"source": "conv_bn_relu", **model}}})
    return jobs.build(config, run_dir=Path("/run"), cwd=Path("/"), trust=[]).jobs[0]


def test_strings_are_for_files_that_are_onnx() -> None:
    message = of_input(dtype="string")
    assert message.startswith("models.m.inputs.x.dtype: PyTorch has no tensors of strings")
    assert "only files that are ONNX already take them" in message
    made = job(source=FILE, inputs={"x": {"shape": [2], "dtype": "string"}})
    assert made.inputs["x"].filling == "words"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"fill": "normal"}, "fill normal draws no string; use words, constant or file."),
        ({"value": 3}, "value of dtype string must be text, or a list of text."),
        ({"value": ["a", 3]}, "value of dtype string must be text, or a list of text."),
        ({"low": 3}, "fill words of string has no use for 'low'."),
        ({"words": []}, "expected a list that is not empty, each item text"),
    ],
)
def test_what_strings_are_made_of(keys: dict[str, Any], told: str) -> None:
    assert told in of_input(FILE, dtype="string", **keys)


def test_words_are_for_strings() -> None:
    told = "fill words draws no float32; use it for dtype string."
    assert told in of_input(fill="words", words=["a"])
    assert "fill normal of float32 has no use for 'words'" in of_input(words=["a"])


def test_complex_inputs_need_the_key() -> None:
    message = of_input(dtype="complex64")
    assert "ONNX Runtime has no complex numbers" in message
    assert "State complex: pairs of the model" in message


def test_complex_inputs_are_pairs_in_the_file() -> None:
    made = job(
        complex="pairs",
        inputs={"z": {"shape": [2, 3], "dtype": "complex64"}, "x": {"shape": [2]}},
        dynamic_axes={"z": {0: "batch"}, "x": {0: "batch"}},
        verify={
            "shapes": [{"z": [4, 3], "x": [4]}],
            "cases": [{"label": "one", "inputs": {"z": {"shape": [1, 3]}, "x": {"shape": [1]}}}],
        },
    )
    assert (made.inputs["z"].dtype, made.inputs["z"].shape) == ("float32", [2, 3, 2])
    assert (made.complex, made.complex_inputs) == ("pairs", ["z"])
    assert made.verify.shapes == [{"z": [4, 3, 2], "x": [4]}]
    assert made.verify.cases[0].inputs["z"].shape == [1, 3, 2]
    # The axis of the pairs belongs to nobody's configuration.
    assert made.dynamic_axes["z"] == {0: "batch"}


def test_every_axis_is_not_that_of_the_pairs() -> None:
    inputs = {"z": {"shape": [2, 3], "dtype": "complex64"}}
    made = job(complex="pairs", inputs=inputs, dynamic_axes="all")
    assert sorted(made.dynamic_axes["z"]) == [0, 1]


@pytest.mark.parametrize("fill", ["integers", "mask", "onehot", "words"])
def test_fills_that_have_no_complex_numbers(fill: str) -> None:
    inputs = {"z": {"shape": [2, 3], "dtype": "complex64", "fill": fill}}
    (message,) = problems(complex="pairs", inputs=inputs)
    assert f"fill {fill} draws no complex64" in message


def test_pairs_are_for_pytorch() -> None:
    (message,) = problems(source=FILE, complex="pairs")
    assert message.startswith("models.m.complex: the source is ONNX already")
    assert "ONNX files have no complex inputs" in of_input(FILE, dtype="complex64")
    (message,) = problems(
        source={"exported_program": "net.pt2"},
        complex="pairs",
        inputs={"z": {"shape": [2], "dtype": "complex64"}},
    )
    assert "was fixed when it was exported" in message


def test_pairs_belong_to_the_key() -> None:
    inputs = {"x": {"shape": [1, 3, 8, 8]}}
    plain = Keys({}, ()).of(job(inputs=inputs))
    paired = Keys({}, ()).of(job(inputs=inputs, complex="pairs"))
    assert plain.digest != paired.digest
