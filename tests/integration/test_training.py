"""Training mode: kept in the file that ships, compared with the random part silenced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
import tiny
import torch
from onnx import numpy_helper

from converter.errors import Code
from converter.worker import structure, training

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
TRAIN = {"training": "train", "inputs": {"x": {"shape": [6, 3]}}}


def ratios(model: onnx.ModelProto) -> list[float]:
    values = {tensor.name: tensor for tensor in structure.tensors(model)}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = node.attribute[0].t
    dropouts = [node for node in model.graph.node if node.op_type == "Dropout"]
    return [float(numpy_helper.to_array(values[node.input[1]])) for node in dropouts]


@pytest.mark.parametrize("simplifier", [None, "onnxsim", "onnxslim"])
def test_what_ships_still_trains(convert: Convert, simplifier: str | None) -> None:
    done = convert("Dropping", simplifier=simplifier, **TRAIN)
    assert done.code is None
    assert "verified with the ratio of 2 modules at zero" in done.result.verify.reason
    assert ratios(done.model) == [0.25, 0.5]
    assert done.artifact.ops["BatchNormalization"] == 1
    assert any(
        attribute.name == "training_mode" and attribute.i == 1
        for node in done.model.graph.node
        for attribute in node.attribute
    )
    assert list(done.files) == ["model.onnx"]
    if simplifier == "onnxslim":  # it removes dropout, and numbers cannot tell
        reason = done.artifact.simplify.reverted_reason
        assert reason == "onnxslim changed the dropout of training mode: 2 before, 0 after"


def test_the_evaluated_model_has_neither(convert: Convert) -> None:
    done = convert("Dropping", inputs={"x": {"shape": [6, 3]}})
    assert done.result.verify.reason is None
    assert "Dropout" not in done.artifact.ops


def test_a_wrong_number_is_found_in_spite_of_dropout(convert: Convert) -> None:
    done = convert("DroppingClipped", **TRAIN)
    assert done.code is Code.VERIFY_VALUE


def test_dynamo_ignores_training_and_is_told(convert: Convert) -> None:
    error = convert("Dropping", exporters=["dynamo"], **TRAIN).result.error
    assert (error.stage, error.code) == ("check", Code.TRAINING_IGNORED)
    assert "the dynamo export has no BatchNormalization with batch statistics" in error.message
    assert error.hint == "use exporter: torchscript"


def test_randomness_that_is_no_module_cannot_be_silenced(convert: Convert) -> None:
    assert convert("Random", training="train").code is Code.NONDETERMINISTIC


def test_silencing_ends() -> None:
    model = tiny.Dropping().train()
    with training.silenced(model) as names:
        assert names == ["body.2", "body.4"]
        assert (model.body[2].p, model.body[4].p) == (0, 0)
    assert (model.body[2].p, model.body[4].p) == (0.25, 0.5)
    with training.silenced(model.eval()) as names:
        assert names == []


def test_a_model_without_random_parts_needs_no_copy(convert: Convert, tmp_path: Any) -> None:
    with training.comparable(tmp_path / "model.onnx", []) as path:
        assert path == tmp_path / "model.onnx"
    assert convert("Net", training="train").result.verify.reason is None
    assert torch.is_grad_enabled()
