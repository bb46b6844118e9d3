"""Training mode: kept in the file that ships, compared with the random part silenced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import onnx
import pytest
import tiny
import torch
from onnx import ModelProto, numpy_helper, parser

from converter.model.errors import Code
from converter.model.job import Recheck
from converter.worker.onnxfile import dropout, structure
from converter.worker.pipeline import recheck
from converter.worker.reference import training

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
    assert done.onnx.ops["BatchNormalization"] == 1
    assert any(
        attribute.name == "training_mode" and attribute.i == 1
        for node in done.model.graph.node
        for attribute in node.attribute
    )
    assert list(done.files) == ["model.onnx"]
    if simplifier == "onnxslim":  # it removes dropout, and numbers cannot tell
        reason = done.onnx.simplify.reverted_reason
        assert reason == "onnxslim changed the dropout of training mode: 2 before, 0 after"


def test_the_evaluated_model_has_neither(convert: Convert) -> None:
    done = convert("Dropping", inputs={"x": {"shape": [6, 3]}})
    assert done.result.verify.reason is None
    assert "Dropout" not in done.onnx.ops


def test_a_wrong_number_is_found_in_spite_of_dropout(convert: Convert) -> None:
    done = convert("DroppingClipped", **TRAIN)
    assert done.code is Code.VERIFY_VALUE


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("simplifier", [None, "onnxsim"])
def test_dynamo_trains_as_well(convert: Convert, opset: int, simplifier: str | None) -> None:
    done = convert(
        "DroppingWide", exporters=["dynamo"], simplifier=simplifier, **{**TRAIN, "opset": opset}
    )
    assert done.code is None
    assert "verified with the ratio of 2 modules at zero" in done.result.verify.reason
    assert ratios(done.model) == [0.25, 0.5]
    (norm,) = (node for node in done.model.graph.node if node.op_type == "BatchNormalization")
    assert {a.name: a.i for a in norm.attribute}["training_mode"] == 1
    # The updated statistics are nobody's output.
    assert len(done.model.graph.output) == 1


@pytest.mark.parametrize("source", ["Conv", "WideTwice", "NormalisedOtherwise"])
def test_dynamo_trains_other_layers(convert: Convert, source: str) -> None:
    inputs = jobs.IMAGE if source == "Conv" else TRAIN["inputs"]
    done = convert(source, exporters=["dynamo"], training="train", inputs=inputs, opset=18)
    assert done.code is None
    assert "BatchNormalization" in done.onnx.ops


def test_a_part_that_is_frozen_in_eval_stays_so(convert: Convert) -> None:
    done = convert("PartlyFrozen", exporters=["dynamo"], **{**TRAIN, "opset": 18})
    assert done.code is None
    norms = [node for node in done.model.graph.node if node.op_type == "BatchNormalization"]
    modes = [{a.name: a.i for a in node.attribute}.get("training_mode", 0) for node in norms]
    assert sorted(modes) == [0, 1]


def test_randomness_that_is_no_module_cannot_be_silenced(convert: Convert) -> None:
    assert convert("Random", training="train").code is Code.NONDETERMINISTIC


def test_silencing_ends() -> None:
    model = tiny.Dropping().train()
    with training.dropout_disabled(model, True) as names:
        assert names == {"body.2": 0.25, "body.4": 0.5}
        assert (model.body[2].p, model.body[4].p) == (0, 0)
    assert (model.body[2].p, model.body[4].p) == (0.25, 0.5)
    with training.dropout_disabled(model.eval(), True) as names:
        assert names == {}
    with training.dropout_disabled(model.train(), False) as names:
        assert (names, model.body[2].p) == ({}, 0.25)


def test_a_model_without_random_parts_needs_no_copy(convert: Convert, tmp_path: Any) -> None:
    with training.comparable(tmp_path / "model.onnx", {}) as path:
        assert path == tmp_path / "model.onnx"
    assert convert("Net", training="train").result.verify.reason is None
    assert torch.is_grad_enabled()


# What a file drops: numbers cannot tell


def verified(done: Any, job: Any, change: Callable[[ModelProto], None] | None = None) -> Any:
    """The error of ``verify`` on a changed copy of a published file."""
    file = done.folder / "changed.onnx"
    model = done.model
    if change is not None:
        change(model)
    onnx.save_model(model, file)
    again = Recheck.model_validate({**dict(job), "file": str(file)})
    return recheck.run(again, lambda stage: None).error


def without_dropout(model: ModelProto) -> None:
    for node in list(model.graph.node):
        if node.op_type == "Dropout":
            for reader in model.graph.node:
                kept = [node.input[0] if name == node.output[0] else name for name in reader.input]
                reader.input[:] = kept
            model.graph.node.remove(node)
            if node.output[0] == model.graph.output[0].name:
                identity = onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]])
                model.graph.node.append(identity)


def test_branches_may_call_their_ratios_alike() -> None:
    branch = """{name} () => (float[4] {name}) <float p={{{ratio}}}, bool on={{1}}>
        {{ {name} = Dropout(x, p, on) }}"""
    then, other = (
        parser.parse_graph(branch.format(name=name, ratio=ratio))
        for name, ratio in (("a", 0.25), ("b", 0.75))
    )
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, bool c) => (float[4] y) { y = Identity(x) }"""
    )
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    model.graph.node[0].CopyFrom(node)
    onnx.checker.check_model(model, full_check=True)
    before = model.SerializeToString()
    assert sorted(dropout.active(model, Path())) == [0.25, 0.75]
    assert model.SerializeToString() == before


def dropout_input(place: int, value: Any, only: float | None = None) -> Callable[..., None]:
    def change(model: ModelProto) -> None:
        before = ratios(model)
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), "other"))
        nodes = [node for node in model.graph.node if node.op_type == "Dropout"]
        for node, ratio in zip(nodes, before, strict=True):
            if only in (None, ratio):
                node.input[place] = "other"

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_dropout, "the file has no active Dropout"),
        (dropout_input(2, False), "the file has no active Dropout"),
        (dropout_input(2, False, only=0.25), "drops 0.5 where the model drops 0.25, 0.5"),
        (dropout_input(1, np.float32(0.95)), "drops 0.95, 0.95 where the model drops 0.25, 0.5"),
        (
            dropout_input(1, np.float32(0.5), only=0.25),
            "drops 0.5, 0.5 where the model drops 0.25, 0.5",
        ),
    ],
    ids=["removed", "inactive", "one inactive", "both 0.95", "both 0.5"],
)
def test_a_file_that_drops_otherwise_is_wrong(
    tiny_job: Convert, change: Callable[[ModelProto], None], words: str
) -> None:
    job = tiny_job("Dropping", **TRAIN)
    done = jobs.convert(job)
    assert verified(done, job) is None
    error = verified(done, job, change)
    assert (error.stage, error.code) == ("verify", Code.TRAINING_IGNORED)
    assert words in error.message


def test_ratios_behind_other_nodes_are_found(tiny_job: Convert) -> None:
    def cast(model: ModelProto) -> None:
        for number, node in enumerate(list(model.graph.node)):
            if node.op_type == "Dropout":
                name = f"cast {number}"
                made = onnx.helper.make_node("Cast", [node.input[1]], [name], to=1)
                node.input[1] = name
                model.graph.node.insert(0, made)
        consts = [node for node in model.graph.node if node.op_type == "Constant"]
        for node in consts:  # before what reads them
            model.graph.node.remove(node)
            model.graph.node.insert(0, node)

    job = tiny_job("Dropping", **TRAIN)
    assert verified(jobs.convert(job), job, cast) is None


@pytest.mark.parametrize("source", ["DroppingTwice", "DroppingByFunction"])
def test_a_module_may_be_called_twice_or_lend_its_ratio(tiny_job: Convert, source: str) -> None:
    job = tiny_job(source, **TRAIN)
    done = jobs.convert(job)
    assert ratios(done.model) == [0.25, 0.25]
    assert verified(done, job) is None


def test_before_opset_12_a_ratio_is_an_attribute(tiny_job: Convert) -> None:
    job = tiny_job("Dropping", **{**TRAIN, "opset": 11})
    done = jobs.convert(job)
    assert done.code is None
    assert verified(done, job) is None
    error = verified(done, job, without_dropout)
    assert error.code is Code.TRAINING_IGNORED
