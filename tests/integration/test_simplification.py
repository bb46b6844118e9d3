"""Row 36: whatever a simplifier does, the row is ok and says why the file is unsimplified."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
import tiny
import torch
from jobs import BATCH, IMAGE
from onnx import ModelProto, numpy_helper

from converter.model.base import Frozen
from converter.model.errors import Code, StageError
from converter.model.records import VerifyRecord
from converter.plugins import loader
from converter.worker.onnxfile import simplification
from converter.worker.verify import attribution
from converter.worker.verify.verification import Verdict

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
Simplify = Callable[[ModelProto], Any]


class NoOptions(Frozen):
    pass


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[Simplify], str]:
    """Make a function a simplifier, gone after the test; gives its name."""

    def inject(simplify: Simplify) -> str:
        module = ModuleType("temporary")
        module.simplify = lambda model, options: simplify(model)  # type: ignore[attr-defined]
        module.Options = NoOptions  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        plugin = loader.Plugin("simplifiers", "temporary", "temporary", loader.BUILT_IN)
        found = loader.found
        monkeypatch.setattr(
            loader,
            "found",
            lambda kind: {"temporary": plugin} if kind == "simplifiers" else found(kind),
        )
        return "temporary"

    return inject


def raises(model: ModelProto) -> ModelProto:
    raise RuntimeError("Reshape is too hard")


def crashes(model: ModelProto) -> ModelProto:
    faulthandler.disable()  # pytest's, which would print
    ctypes.string_at(0)
    return model


def hangs(model: ModelProto) -> ModelProto:
    time.sleep(60)
    return model


def ends_its_process(model: ModelProto) -> ModelProto:
    os._exit(0)


def eats_memory(model: ModelProto) -> ModelProto:
    model.doc_string = "x" * (8 << 30)
    return model


def gives_nothing(model: ModelProto) -> None:
    return None


def gives_noise(model: ModelProto) -> Any:
    return SimpleNamespace(SerializeToString=lambda: b"\xff\xff\xff noise")


def gives_an_empty_model(model: ModelProto) -> ModelProto:
    return ModelProto()


def scales_weights(model: ModelProto) -> ModelProto:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            scaled = numpy_helper.to_array(tensor) * 1.5
            tensor.CopyFrom(numpy_helper.from_array(scaled.astype("float32"), tensor.name))
    return model


def renames_the_input(model: ModelProto) -> ModelProto:
    model.graph.input[0].name = model.graph.node[0].input[0] = "z"
    return model


def drops_the_input(model: ModelProto) -> ModelProto:
    del model.graph.input[:]
    return model


def fixes_the_batch(model: ModelProto) -> ModelProto:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    return model


def forgets_the_type(model: ModelProto) -> ModelProto:
    model.graph.output[0].type.tensor_type.elem_type = 0
    return model


def raises_the_opset(model: ModelProto) -> ModelProto:
    model.opset_import[0].version = 18
    return model


def adds_a_node(model: ModelProto) -> ModelProto:
    """Twice the numbers, in a graph that is valid."""
    model.graph.node[-1].output[0] = "half"
    model.graph.node.add(op_type="Add", input=["half", "half"], output=["out"])
    return model


def drops_a_node(model: ModelProto) -> ModelProto:
    del model.graph.node[0]
    return model


def invents_an_operator(model: ModelProto) -> ModelProto:
    model.graph.node[0].op_type, model.graph.node[0].domain = "Nonsense", "acme"
    model.opset_import.add(domain="acme", version=1)
    return model


@pytest.mark.parametrize(
    ("simplify", "reason"),
    [
        (raises, "temporary RuntimeError: Reshape is too hard"),
        (crashes, "temporary crashed with SIGSEGV"),
        (hangs, "temporary took longer than 1 s"),
        (ends_its_process, "temporary left no ONNX model"),
        (eats_memory, "temporary MemoryError"),
        (gives_nothing, "temporary AttributeError: 'NoneType'"),
        (gives_noise, "temporary left no ONNX model"),
        (gives_an_empty_model, "temporary changed the opset from {'ai.onnx': 17}"),
        (scales_weights, "PyTorch gives"),
        (adds_a_node, "PyTorch gives"),
        (renames_the_input, "temporary changed inputs: x float32 became z float32"),
        (drops_the_input, "temporary changed the graph's inputs: 1 before, 0 after"),
        (fixes_the_batch, "temporary changed the shape of x from ['batch', 3] to [2, 3]"),
        (forgets_the_type, "temporary changed outputs: out float32 became out undefined"),
        (raises_the_opset, "temporary changed the opset from {'ai.onnx': 17} to {'ai.onnx': 18}"),
        (drops_a_node, "topologically sorted"),
        (invents_an_operator, "ONNX Runtime cannot load the file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_row_36_a_simplifier_that_fails_is_taken_back(
    convert: Convert,
    plug: Callable[[Simplify], str],
    monkeypatch: pytest.MonkeyPatch,
    simplify: Simplify,
    reason: str,
) -> None:
    monkeypatch.setattr(simplification, "_SECONDS", 1.0)
    wanted = {"dynamic_axes": BATCH, "outputs": ["out"]}
    done = convert("Net", simplifier=plug(simplify), **wanted)
    assert done.code is None
    record = done.onnx.simplify
    assert record.applied is False
    assert reason in record.reverted_reason
    assert (record.nodes_after, record.ops_after) == (done.onnx.nodes, done.onnx.ops)
    assert done.result.stages["simplify"].status == "ok"
    assert done.result.verify.status == "passed"
    judged_by_running_it = not reason.startswith("temporary") and simplify is not drops_a_node
    assert done.result.verify.faulty_stage == ("simplify" if judged_by_running_it else None)
    assert done.files == convert("Net", **wanted).files


@pytest.mark.parametrize("whole_bytes", [64 << 20, 0], ids=["whole", "skeleton"])
@pytest.mark.parametrize("simplifier", ["onnxsim", "onnxslim"])
def test_a_simplification_that_proves_equal_ships(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, simplifier: str, whole_bytes: int
) -> None:
    monkeypatch.setattr(simplification, "_WHOLE_BYTES", whole_bytes)
    done = convert("Conv", inputs=IMAGE, dynamic_axes=BATCH, simplifier=simplifier)
    record = done.onnx.simplify
    assert (record.applied, record.reverted_reason) == (True, None)
    assert record.nodes_after == done.onnx.nodes <= record.nodes_before
    assert sum(record.ops_after.values()) == record.nodes_after
    (axis,) = done.result.verify.dynamic
    assert (axis.symbolic, axis.sizes_tested[:2], axis.passed) == (True, [1, 3], True)


@pytest.mark.parametrize("whole_bytes", [64 << 20, 0], ids=["whole", "skeleton"])
def test_parameters_that_are_inputs_stay_inputs(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    """onnxsim drops them, and is taken back."""
    monkeypatch.setattr(simplification, "_WHOLE_BYTES", whole_bytes)
    export = {"keep_initializers_as_inputs": True}
    done = convert("Net", kwargs={"width": 100}, export=export, simplifier="onnxsim")
    assert "onnxsim changed the graph's inputs: 5 before" in done.onnx.simplify.reverted_reason
    assert len(done.onnx.inputs) == 5


def test_numbers_that_change_in_a_skeleton_are_found(
    convert: Convert, plug: Callable[[Simplify], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplification, "_WHOLE_BYTES", 0)
    done = convert("Conv", inputs=IMAGE, simplifier=plug(scales_weights))
    assert "PyTorch gives" in done.onnx.simplify.reverted_reason


def test_where_both_are_wrong_the_export_is_at_fault_and_both_errors_stay(
    convert: Convert, plug: Callable[[Simplify], str]
) -> None:
    done = convert("Clipped", simplifier=plug(scales_weights), outputs=["out"])
    assert done.code is Code.VERIFY_VALUE
    assert done.result.verify.faulty_stage == "export"
    (attempt,) = done.result.attempts_by_exporter
    assert attempt.message == done.result.error.message
    assert "largest error" in attempt.message


def test_right_without_optimisations_means_the_simplifier_is_not_at_fault(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime spoils the simplified file, and not the unsimplified one, which ships."""
    answers = iter(["fused wrongly", None, None])
    optimised = []

    def verify(*_: Any, optimise: bool = True, **__: Any) -> Verdict:
        optimised.append(optimise)
        wrong = next(answers)
        error = StageError(Code.VERIFY_VALUE, wrong) if wrong else None
        return Verdict(VerifyRecord(status="failed" if wrong else "passed"), error)

    monkeypatch.setattr(attribution, "verify", verify)
    done = convert("Folding", simplifier="onnxsim")
    assert (done.code, done.result.verify.faulty_stage) == (None, "runtime")
    assert done.onnx.simplify.reverted_reason == "fused wrongly"
    assert optimised == [True, False, True]


@pytest.mark.parametrize("broken", [raises, scales_weights], ids=["refused", "wrong"])
def test_a_simplification_that_is_taken_back_leaves_the_names_of_axes(
    convert: Convert, plug: Callable[[Simplify], str], tmp_path: Path, broken: Simplify
) -> None:
    """An exported program has symbols of its own, and the exporter others."""
    batch = torch.export.Dim("rows", min=1, max=512)
    program = torch.export.export(
        tiny.Net().eval(), (torch.ones(2, 3),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    options = {"exporters": ["dynamo"], "opset": 18, "trust": [str(tmp_path)]}
    source = {"exported_program": str(tmp_path / "net.pt2")}
    done = convert(source, dynamic_axes=BATCH, simplifier=plug(broken), **options)
    assert done.code is None, done.result.error
    assert not done.onnx.simplify.applied
    assert [value.shape for value in done.onnx.inputs] == [["batch", 3]]
    assert [value.shape for value in done.onnx.outputs] == [["batch", 4]]
