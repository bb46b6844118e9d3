"""A whole job: what is ok, and the row that each fault of a model leaves."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from jobs import make

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.model.records import STAGES, ExporterAttempt, VerifyRecord, WorkerEvent
from converter.worker.pipeline import pipeline
from converter.worker.verify import attribution
from converter.worker.verify.verification import Verdict

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]
XY = {"x": {"shape": [2, 3]}, "y": {"shape": [2, 3]}}
FACTOR = {
    "x": {"shape": [2, 3]},
    "factor": {"shape": [], "fill": "uniform", "low": 1.0, "high": 2.0},
}
BEFORE = {stage: STAGES[: STAGES.index(stage)] for stage in STAGES}


def check_failed(done: Any, stage: str, code: Code, *words: str) -> None:
    """One terminal error, at its stage; nothing after it ran, and nothing looks like a result."""
    error = done.result.error
    assert error is not None
    assert (done.result.status, error.stage, error.code) == ("failed", stage, code)
    assert (done.result.files, done.result.onnx) == ([], None)
    text = f"{error.message} {error.hint}"
    assert [word for word in words if word not in text] == []
    assert error.fingerprint
    for name, record in done.result.stages.items():
        if name in ("simplify", "benchmark"):
            assert record.status in ("not_requested", "not_run", "ok")
        elif name == stage:
            assert record.status == "failed"
        else:
            assert record.status == ("ok" if name in BEFORE[stage] else "not_run")


# A row that is ok


def test_a_row_that_is_ok(tmp_path: Path) -> None:
    news: list[WorkerEvent] = []
    job = make(tmp_path, "Net", outputs=["out"])
    result = pipeline.run(job, news.append)
    assert (result.status, result.error) == ("ok", None)
    done = [name for name in STAGES if name not in ("simplify", "benchmark")]
    assert news == [*done, ExporterAttempt(exporter="torchscript", status="ok")]
    assert {name: result.stages[name].status for name in STAGES} == {
        **dict.fromkeys(done, "ok"), "simplify": "not_requested", "benchmark": "not_requested",
    }  # fmt: skip
    (file,), made = result.files, result.onnx
    assert made is not None
    (path,) = Path(job.staging_dir).iterdir()
    content = path.read_bytes()
    assert (file.path, file.bytes) == ("model.onnx", len(content))
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert (made.opset, made.exporter, made.parameters) == (17, "torchscript", 68)
    assert [(info.name, info.dtype, info.shape) for info in made.inputs + made.outputs] == [
        ("x", "float32", [2, 3]), ("out", "float32", [2, 4]),
    ]  # fmt: skip
    assert (result.verify.status, result.verify.reason) == ("passed", None)
    labels = [case.label for case in result.verify.cases]
    assert labels[:5] == ["traced", "second", "large", "small", "grid"]
    for case in result.verify.cases:
        (output,) = case.outputs
        assert (case.provider, output.name) == ("CPUExecutionProvider", "out")
        assert output.passed
        assert (output.max_abs or 0) < 1e-5
    assert (result.device, result.conditioned) == ("cpu", False)


def test_nested_results_are_outputs_in_their_order(convert: Convert) -> None:
    done = convert("Two", inputs=XY, outputs=["sum", "difference"])
    assert done.code is None
    assert [value.name for value in done.onnx.outputs] == ["sum", "difference"]
    np.testing.assert_allclose(done.run(x=np.full((2, 3), 5), y=np.ones((2, 3))), 6)


def test_extra_shapes_cases_and_tolerances_are_used(convert: Convert) -> None:
    verify = {
        "rtol": 1e-3,
        "atol": 1e-5,
        "shapes": [{"x": [1, 3]}],
        "cases": [{"label": "zeros", "inputs": {"x": {"fill": "constant", "value": 0}}}],
    }
    done = convert("Net", verify=verify, dynamic_axes={"x": {0: "n"}})
    assert done.code is None
    labels = [case.label for case in done.result.verify.cases]
    assert labels[:6] == ["traced", "second", "x=1x3", "zeros", "n=1", "n=3"]
    assert labels.count("zeros") == 1  # ours of that name gives way to the user's
    assert {(out.rtol, out.atol) for case in done.result.verify.cases for out in case.outputs} == {
        (1e-3, 1e-5)
    }


def test_a_wrong_number_in_a_declared_case_only(convert: Convert) -> None:
    """The branch is taken by neither sample, but by the case."""
    cases = [{"label": "dark", "inputs": {"x": {"fill": "constant", "value": -5}}}]
    inputs = {"x": {"shape": [2, 3], "low": 0.5, "high": 1.0}}
    assert convert("Branch", inputs=inputs).code is None
    done = convert("Branch", inputs=inputs, verify={"cases": cases})
    check_failed(done, "verify", Code.VERIFY_VALUE, "case dark", "PyTorch gives -6")


# What forward does (rows 20, 30, 34, 35)


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (
            "Raises",
            Code.FORWARD,
            ["KeyError: 'no such head' (tiny.py:51)", "traceback is in the log"],
        ),
        ("Text", Code.OUTPUT_STRUCTURE, ["forward returns str", "return tensors"]),
        ("Nothing", Code.OUTPUT_STRUCTURE, ["no tensor but NoneType"]),
        ("NotANumber", Code.VERIFY_NONFINITE, ["PyTorch gives NaN", "fill, low, high"]),
        ("Masked", Code.VERIFY_NONFINITE, ["-inf return the mask", "a finite value such as -1e4"]),
        ("Constant", Code.VERIFY_VACUOUS, ["moves by 0 of its scale", "use trained weights"]),
        ("Deaf", Code.VERIFY_VACUOUS, ["moves by"]),
        ("Faint", Code.VERIFY_VACUOUS, ["root mean square", "accept any graph"]),
        ("Empty", Code.VERIFY_VACUOUS, ["is empty (shape [0, 4])"]),
        ("Random", Code.NONDETERMINISTIC, ["out when it runs twice", "training=self.training"]),
    ],
)
def test_rows_30_34_35_what_pytorch_itself_gives(
    convert: Convert, source: str, code: Code, words: list[str]
) -> None:
    done = convert(source, outputs=["out"])
    check_failed(done, "reference", code, *words)
    assert done.result.attempts_by_exporter == []


def test_row_34_says_vacuous_and_how_sensitive(convert: Convert) -> None:
    verify = convert("Constant").result.verify
    assert (verify.status, verify.sensitivity.input_delta) == ("vacuous", 0)
    assert verify.sensitivity.output_rms == pytest.approx(3)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "outputs names 1 (a), forward returns 2 tensors"),
        (["a", "b", "c"], "outputs names 3 (a, b, c), forward returns 2 tensors"),
    ],
)
def test_row_20_other_outputs_than_named(convert: Convert, names: list[str], words: str) -> None:
    done = convert("Two", inputs=XY, outputs=names)
    check_failed(done, "reference", Code.OUTPUT_STRUCTURE, words, "name each output once")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x", "y"], "inputs names 2 (x, y), forward takes (x): too many"),
        ([], "inputs names 0 (), forward takes (x): missing"),
    ],
)
def test_row_20_other_inputs_than_forward_takes(
    convert: Convert, names: list[str], words: str
) -> None:
    done = convert("Net", inputs={name: {"shape": [2, 3]} for name in names})
    hint = "entry i of inputs is positional argument i of forward"
    check_failed(done, "reference", Code.OUTPUT_STRUCTURE, words, hint)


def test_what_forward_does_to_its_input_stays_there(convert: Convert) -> None:
    done = convert("Mutating")
    assert done.code is None
    (warning,) = done.result.stages["reference"].warnings
    assert warning == "INPUT_MUTATED: forward changes its argument x in place"


def test_a_buffer_that_forward_changes_is_named(convert: Convert) -> None:
    done = convert("Tallying")
    assert done.code is None
    (warning,) = done.result.stages["reference"].warnings
    assert warning == "STATE_MUTATED: forward changes the buffer calls"


def test_outputs_that_depend_on_earlier_calls(convert: Convert) -> None:
    done = convert("Counting")
    check_failed(done, "reference", Code.STATE_MUTATED, "from call to call")


@pytest.mark.parametrize("spec", [{}, {"low": 50}], ids=["default", "low"])
def test_an_index_that_a_table_does_not_have(convert: Convert, spec: dict[str, Any]) -> None:
    ids = {"shape": [4, 30], "dtype": "int64", **({"low": 85} if spec else {})}
    done = convert("Table", inputs={"ids": ids})
    span = "85 to 104" if spec else "-10 to 9"
    told = f"`ids` is sampled from {span}; set `low` and `high` (exclusive)"
    words = ["IndexError: index out of range", told]
    check_failed(done, "reference", Code.FORWARD, *words)
    right = {"shape": [4, 30], "dtype": "int64", "low": 0, "high": 100}
    assert convert("Table", inputs={"ids": right}).code is None


def test_an_output_that_is_constant_on_purpose(convert: Convert) -> None:
    words = ["output anchors", "moves by 0 of its scale", "outputs: {anchors: {constant: true}}"]
    done = convert("Anchors", outputs=["y", "anchors"])
    check_failed(done, "reference", Code.VERIFY_VACUOUS, *words)
    assert convert("Anchors", outputs=["y", "anchors"], constant_outputs=["anchors"]).code is None


# Weights (rows 25 to 29)


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (300 << 20))


def state(**changes: Any) -> dict[str, Any]:
    return {**tiny.Net().state_dict(), **changes}


NAN = torch.full((4,), float("nan"))
CHECKPOINTS: dict[str, tuple[Callable[[Path], object], Code, list[str]]] = {
    "empty": (lambda path: path.touch(), Code.WEIGHTS_FORMAT, ["empty"]),
    "html": (lambda path: path.write_text("<!doctype html>"), Code.WEIGHTS_FORMAT, ["HTML"]),
    "lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        Code.WEIGHTS_FORMAT,
        ["Git LFS"],
    ),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps(Evil(path.with_name("canary")))),
        Code.WEIGHTS_UNSAFE,
        ["system"],
    ),
    "bomb": (bomb, Code.WEIGHTS_SIZE, ["a zip bomb"]),
    "keys": (
        lambda path: torch.save({f"module.{k}": v for k, v in state().items()}, path),
        Code.WEIGHTS_KEYS,
        ["strip_prefix", "module."],
    ),
    "nan": (
        lambda path: torch.save(state(**{"second.bias": NAN}), path),
        Code.WEIGHTS_NONFINITE,
        ["second.bias"],
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_rows_25_to_29_checkpoints(convert: Convert, tmp_path: Path, kind: str) -> None:
    write, code, words = CHECKPOINTS[kind]
    path = tmp_path / "model.pth"
    write(path)
    done = convert("Net", weights={"checkpoint": str(path)})
    check_failed(done, "load", code, *words)
    assert not (tmp_path / "canary").exists()


# What exporters do (rows 31 to 33)


@pytest.mark.parametrize(
    ("source", "changes", "words"),
    [
        ("NoOnnxForm", {}, ["special_bessel_j0", "opset version 17", "try exporter: dynamo"]),
        ("NoOnnxForm", {"exporters": ["dynamo"]}, ["bessel_j0", "try exporter: torchscript"]),
        (
            "Newer",
            {"inputs": {"x": {"shape": [2, 4, 4]}}, "opset": 15},
            ["grid_sampler", "opset=16 verifies: set models.model.opset: 16"],
        ),
    ],
    ids=["torchscript", "dynamo", "newer"],
)
def test_row_31_an_operator_without_onnx_form(
    convert: Convert, source: str, changes: dict[str, Any], words: list[str]
) -> None:
    check_failed(convert(source, **changes), "export", Code.EXPORT_UNSUPPORTED, *words)


@pytest.mark.parametrize("source", ["Item", "Unused"])
def test_row_32_an_input_that_is_not_in_the_graph(convert: Convert, source: str) -> None:
    words = ["input factor is not in the graph (it has: x)", ".item()", "under constants"]
    check_failed(convert(source, inputs=FACTOR), "check", Code.INPUT_DROPPED, *words)


def test_row_32_an_opset_that_is_not_honoured(convert: Convert) -> None:
    done = convert("Net", exporters=["dynamo"], opset=13)
    words = ["opset 13 requested, the dynamo exporter wrote 18", "opset=18 verifies"]
    check_failed(done, "check", Code.OPSET_MISMATCH, *words)


@pytest.mark.parametrize("seed", range(4))
def test_row_33_a_branch_frozen_by_tracing_is_found_by_the_second_input(
    convert: Convert, seed: int
) -> None:
    done = convert("Branch", seed=seed)
    words = ["case second (x 2×3): ", "; largest error ", "a branch or a value was frozen"]
    check_failed(done, "verify", Code.VERIFY_VALUE, *words)
    assert done.result.verify.faulty_stage == "export"
    (warning,) = [w for w in done.result.stages["export"].warnings if "TracerWarning" in w]
    assert "might cause the trace to be incorrect" in warning


def test_a_model_that_differs_in_export_on_purpose(convert: Convert) -> None:
    check_failed(convert("Clipped"), "verify", Code.VERIFY_VALUE, "case traced")
    assert convert("Clipped", verify={"reference": "export"}).code is None
    assert not torch.onnx.is_in_onnx_export()


def test_what_torch_says_of_every_export_is_no_warning_of_this_one(convert: Convert) -> None:
    assert convert("Net").result.stages["export"].warnings == []
    done = convert("Dropping", training="train")
    assert done.code is None
    warnings = done.result.stages["export"].warnings
    assert [text for text in warnings if "DeprecationWarning" in text] == []
    assert any("constant folding" in text for text in warnings)


def test_an_opset_that_torch_refuses_is_unsupported(convert: Convert) -> None:
    """The table of opsets refuses it earlier, for the versions of torch that it knows."""
    words = ["Unsupported onnx_opset_version: 24", "request another opset; try exporter: dynamo"]
    check_failed(convert("Net", opset=24), "export", Code.EXPORT_UNSUPPORTED, *words)


def test_advice_names_only_exporters_that_can_help(convert: Convert, tmp_path: Path) -> None:
    def hint(**options: Any) -> str:
        return str(convert("NoOnnxForm", **options).result.error.hint)

    dynamo = {"exporters": ["dynamo"]}
    assert hint(**dynamo, opset=18).endswith("report; try exporter: torchscript")
    assert hint(**dynamo, opset=24).endswith(
        "report; try exporter: torchscript with an opset from 7 to 23"
    )
    assert hint(opset=17).endswith("register_custom_op_symbolic; try exporter: dynamo")
    assert hint(opset=11).endswith("try exporter: dynamo with an opset from 16 to 25")
    # It was tried as well, or does not take the source.
    assert hint(exporters=["dynamo", "torchscript"]).endswith("the log has torch.export's report")
    torch.export.save(
        torch.export.export(tiny.NoOnnxForm(), (torch.ones(2, 3),)), tmp_path / "net.pt2"
    )
    source = {"exported_program": str(tmp_path / "net.pt2")}
    error = convert(source, trust=[str(tmp_path)], **dynamo).result.error
    assert error.code is Code.EXPORT_UNSUPPORTED
    assert error.hint.endswith("the log has torch.export's report")


def test_an_operator_that_no_exporter_has_is_answered_with_the_ways_there_are(
    convert: Convert,
) -> None:
    def error(name: str) -> Any:
        inputs = {"x": {"shape": [3, 3], "low": 0.1, "high": 1.0}}
        source = {"_target_": f"remedied.{name}"}
        return convert(source, trust=["remedied"], inputs=inputs).result.error

    found = error("SingularValues")
    assert found.code is Code.EXPORT_UNSUPPORTED
    assert "rewrite it with other operators, or leave it to what comes before or" in found.hint
    assert "where the model's code is: torch.onnx.register_custom_op_symbolic" in found.hint
    assert error("Entropy") is None  # which registers its own


# Several exporters


def test_the_first_exporter_that_verifies_ships(convert: Convert) -> None:
    done = convert("Item", inputs=FACTOR, exporters=["torchscript", "dynamo"])
    assert done.code is None
    assert [(a.exporter, a.status, a.code) for a in done.result.attempts_by_exporter] == [
        ("torchscript", "failed", Code.INPUT_DROPPED),
        ("dynamo", "ok", None),
    ]
    assert done.onnx.exporter == "dynamo"
    # What the other one left is looked at where all have failed, and goes with the staging folder.
    assert sorted(done.files) == ["model.onnx", "wrong.torchscript.pb"]


@pytest.mark.parametrize("exporters", [["dynamo", "torchscript"], ["torchscript", "dynamo"]])
def test_of_two_that_fail_the_row_shows_the_one_that_came_further(
    convert: Convert, exporters: list[str]
) -> None:
    done = convert("Branch", inputs={"x": {"shape": [2, 3]}}, exporters=exporters)
    check_failed(done, "verify", Code.VERIFY_VALUE)
    assert {a.exporter: a.code for a in done.result.attempts_by_exporter} == {
        "torchscript": Code.VERIFY_VALUE,
        "dynamo": Code.EXPORT_UNSUPPORTED,
    }


# Who is at fault, and what ends otherwise


def test_right_without_optimisations_means_the_runtime_is_at_fault(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(*_: Any, optimise: bool = True, **__: Any) -> Verdict:
        wrong = StageError(Code.VERIFY_VALUE, "fused wrongly") if optimise else None
        return Verdict(VerifyRecord(status="failed" if wrong else "passed"), wrong)

    monkeypatch.setattr(attribution, "verify", verify)
    done = convert("Net")
    check_failed(done, "verify", Code.VERIFY_VALUE, "fused wrongly")
    assert done.result.verify.faulty_stage == "runtime"


def test_out_of_memory_is_a_status_of_its_own(
    convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(tiny.Net, "forward", forward)
    done = convert("Net")
    assert (done.result.status, done.code) == ("oom", Code.MEM_LIMIT)
    assert done.result.error.hint == "raise executor.memory_mb"


def test_what_the_disk_did_no_other_exporter_cures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(pipeline.exporters, "export", full)
    job = make(tmp_path, "Net", exporters=["torchscript", "dynamo"])
    result = pipeline.run(job, lambda news: None)
    assert result.error is not None
    assert (result.error.code, result.error.hint) == (Code.IO, files.DISK[errno.EDQUOT])
    assert [attempt.exporter for attempt in result.attempts_by_exporter] == ["torchscript"]
