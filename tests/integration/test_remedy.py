"""What a hint says beyond the model: another exporter, a higher opset, other inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.model.errors import Code
from converter.model.records import ErrorRecord, StageName
from converter.worker.pipeline import remedy

pytestmark = pytest.mark.integration
Convert = Callable[..., Any]

WIDE = {"x": {"shape": [4, 6]}}
N = {"x": {0: "n"}}
IDS = {"ids": {"shape": [1], "dtype": "int64"}}


def remedied(name: str) -> dict[str, str]:
    return {"_target_": f"remedied.{name}"}


def options(**changes: Any) -> dict[str, Any]:
    return {"trust": ["remedied"], **changes}


# A higher opset


def test_an_opset_that_was_tried_and_verifies(convert: Convert) -> None:
    done = convert(
        remedied("Chunks"), inputs=WIDE, dynamic_axes=N, exporters=["dynamo"], **options()
    )
    error = done.result.error
    assert (error.stage, error.code) == ("check", Code.CHECKER)
    assert error.hint == "opset=18 verifies: set models.model.opset: 18"
    assert (done.result.files, done.result.onnx) == ([], None)
    assert [path.name for path in done.folder.iterdir()] == ["wrong.dynamo.pb"], "to look at"
    assert [a.exporter for a in done.result.attempts_by_exporter] == ["dynamo"]
    right = convert(
        remedied("Chunks"), inputs=WIDE, dynamic_axes=N, exporters=["dynamo"], **options(opset=18)
    )
    assert right.code is None


def test_the_first_opset_that_has_an_operator(convert: Convert) -> None:
    inputs = {"x": {"shape": [1, 3, 8, 8]}, "offset": {"shape": [1, 18, 8, 8]}}
    error = convert(
        remedied("Deformed"), inputs=inputs, exporters=["dynamo"], **options()
    ).result.error
    assert error.code is Code.CHECKER
    assert error.message.endswith("No Op registered for DeformConv with domain_version of 17")
    assert error.hint == "opset=19 verifies: set models.model.opset: 19"


def failure(
    exporter: str, code: Code, stage: StageName = "check", message: str = "no"
) -> remedy.Failure:
    return exporter, ErrorRecord(stage=stage, code=code, message=message, hint="rewrite it")


UNKNOWN = "No Op registered for DeformConv with domain_version of 17"
LATER = "… is not supported. Support for this operator was added in version 20, try exporting"
EIGHTEEN = LATER.replace("20", "18")


@pytest.mark.parametrize(
    ("failures", "opset", "candidates"),
    [
        ([failure("dynamo", Code.OPSET_MISMATCH)], 17, (["dynamo"], 18)),
        ([failure("dynamo", Code.SESSION, "verify")], 17, (["dynamo"], 18)),
        ([failure("dynamo", Code.DIM_SPECIALISED, "verify")], 16, (["dynamo"], 18)),
        ([failure("dynamo", Code.EXPORT, "export")], 17, (["dynamo"], 18)),
        ([failure("dynamo", Code.CHECKER, "check", UNKNOWN)], 17, (["dynamo"], 19)),
        (
            [failure("torchscript", Code.EXPORT_UNSUPPORTED, "export", LATER)],
            17,
            (["torchscript"], 20),
        ),
        (
            [
                failure("torchscript", Code.EXPORT_UNSUPPORTED, "export", LATER),
                failure("dynamo", Code.CHECKER),
            ],
            17,
            (["dynamo"], 18),
        ),
        (
            [
                failure(
                    "torchscript", Code.EXPORT_UNSUPPORTED, "export", LATER.replace("20", "18")
                ),
                failure("dynamo", Code.CHECKER),
            ],
            17,
            (["torchscript", "dynamo"], 18),
        ),
        # Nothing that a higher opset would change, or an opset that is no higher.
        ([failure("dynamo", Code.DIM_SPECIALISED, "export")], 17, ([], 0)),
        ([failure("dynamo", Code.EXPORT_UNSUPPORTED, "export")], 17, ([], 0)),
        ([failure("dynamo", Code.INPUT_DROPPED)], 17, ([], 0)),
        ([failure("dynamo", Code.CHECKER)], 18, ([], 0)),
        ([failure("torchscript", Code.VERIFY_VALUE, "verify")], 17, ([], 0)),
        ([failure("dynamo", Code.CHECKER)], None, ([], 0)),
    ],
)
def test_which_opset_is_worth_a_try(
    tiny_job: Convert,
    failures: list[remedy.Failure],
    opset: int | None,
    candidates: tuple[list[str], int],
) -> None:
    job = tiny_job("Net", opset=opset, exporters=["torchscript", "dynamo"])
    assert remedy.promising(failures, job) == candidates


@pytest.mark.parametrize("verifies", [True, False])
def test_one_try_and_no_promise_without_it(tiny_job: Convert, verifies: bool) -> None:
    from converter.worker.reference import preparing

    tried: list[tuple[str, int]] = []
    failures = [failure("dynamo", Code.CHECKER), failure("dynamo", Code.CHECKER)]

    def probe(exporter: str, opset: int) -> ErrorRecord | None:
        tried.append((exporter, opset))
        return None if verifies else failures[0][1]

    loaded, job = preparing.load(tiny_job("Net", exporters=["torchscript", "dynamo"]))
    told = remedy.hint(failures[0][1], failures, loaded, job, probe)
    assert tried == [("dynamo", 18)]
    if verifies:
        assert told == "opset=18 verifies: set models.model.opset: 18"
    else:
        assert told == "rewrite it; opset=18 fails as well (dynamo: CHECKER)"


# Another exporter


def test_another_exporter_only_where_one_is_left(convert: Convert) -> None:
    pinned = convert("Branch").result.error
    assert pinned.hint == (
        "wrong for other values: a branch or a value was frozen while tracing; try exporter: dynamo"
    )
    both = convert("Branch", exporters=["torchscript", "dynamo"]).result.error
    assert both.code is Code.VERIFY_VALUE
    assert both.hint == "wrong for other values: a branch or a value was frozen while tracing"


def test_the_other_exporters_failure_stands_beside_the_clearer_one(convert: Convert) -> None:
    done = convert("Branch", exporters=["torchscript", "dynamo"])
    message = done.result.error.message
    assert message.startswith("case second (x 2×3): ")
    assert "; dynamo: EXPORT_UNSUPPORTED: " in message
    alone = convert("Branch").result.error
    assert done.result.error.fingerprint == alone.fingerprint
    assert done.result.stages["verify"].status == "failed"


# Other inputs


def test_a_loop_of_a_script_that_never_runs(convert: Convert) -> None:
    error = convert(remedied("waiting"), **options()).result.error
    assert (error.stage, error.code) == ("reference", Code.VERIFY_VACUOUS)
    assert error.hint.startswith(
        "a loop or an if of the script may never have run: give larger or more varied inputs "
        "(shape, low, high, fill, or several in verify.cases); "
    )
    assert "loop" not in convert("Constant").result.error.hint
    large = {"x": {"shape": [2, 3], "fill": "uniform", "low": 900, "high": 1000}}
    assert convert(remedied("waiting"), inputs=large, **options()).code is None


def test_linspace_of_one_step_does_not_blame_the_range(convert: Convert) -> None:
    error = convert(remedied("Ramp"), inputs=WIDE, dynamic_axes=N, **options()).result.error
    assert error.code is Code.VERIFY_NONFINITE
    assert "case n=1 " in error.message
    assert "the file gives NaN or infinity" in error.message
    assert error.hint.startswith("PyTorch is finite there: the file divides by zero or overflows")
    assert not any(words in error.hint for words in ("range", "fill, low, high"))


@pytest.mark.parametrize("source", ["TooShortRamp", "Fifth"])
def test_a_number_of_steps_or_a_position_is_no_value_of_an_input(
    convert: Convert, source: str
) -> None:
    shape = {"TooShortRamp": [1], "Fifth": [2, 3]}[source]
    inputs = {"ids": {"shape": shape, "dtype": "int64"}}
    error = convert(remedied(source), inputs=inputs, **options()).result.error
    assert (error.stage, error.code) == ("reference", Code.FORWARD)
    assert error.hint == "the traceback is in the log"


IMAGE = {"x": {"shape": [1, 1, 8, 8]}}
IDS_2 = {"shape": [2, 3], "dtype": "int64", "low": 0, "high": 10}


@pytest.mark.parametrize(
    ("source", "inputs", "told"),
    [
        ("tiny.Net", {"x": {"shape": [2, 5]}}, "x.shape is [2, 5], the model takes 3 in its last"),
        ("tiny.Conv", IMAGE, "x.shape is [1, 1, 8, 8], the model takes 3 channels (axis 1)"),
        ("tiny.Conv", {"x": {"shape": [3, 8]}}, "x.shape is [3, 8]: correct it, or the sizes"),
        (
            "tiny.Net",
            {"x": {"shape": [2, 3], "dtype": "float64"}},
            "x.dtype is float64, the model takes float32 there: state the dtype that it takes",
        ),
        (
            "remedied.Table",
            {"ids": {"shape": [2, 3]}, "scale": {"shape": [1]}},
            "the model takes int64 there: state the dtype that it takes",
        ),
        ("remedied.Table", {"ids": IDS_2, "scale": {"shape": [5]}}, "scale.shape is [5]: correct"),
    ],
)
def test_an_input_that_torch_refuses_is_named(
    convert: Convert, source: str, inputs: dict[str, Any], told: str
) -> None:
    error = convert({"_target_": source}, inputs=inputs, trust=["tiny", "remedied"]).result.error
    assert (error.stage, error.code) == ("reference", Code.FORWARD)
    assert "models.model.inputs." in error.hint
    assert told in error.hint


# The fast path of attention


def masked(value: list[list[bool]]) -> dict[str, Any]:
    pad = {"shape": [2, 6], "dtype": "bool", "fill": "constant", "value": value}
    return {"x": {"shape": [2, 6, 16]}, "pad": pad}


PADDED = [[False, False] + [True] * 4, [False] * 6]


def test_a_padding_mask_points_to_the_fast_path(convert: Convert) -> None:
    error = convert(remedied("EncoderPool"), inputs=masked(PADDED), **options()).result.error
    assert (error.stage, error.code) == ("verify", Code.VERIFY_VALUE)
    assert "torch.backends.mha.set_fastpath_enabled(False)" in error.hint
    assert "exporter" not in error.hint
    full = masked([[False] * 6] * 2)
    assert convert(remedied("EncoderPool"), inputs=full, **options()).code is None


def test_another_difference_is_not_blamed_on_the_fast_path(
    convert: Convert, tiny_job: Convert, tmp_path: Path
) -> None:
    import torch

    from converter.worker.reference import preparing, reference
    from converter.worker.verify import fastpath

    job = tiny_job(remedied("EncoderPool"), inputs=masked(PADDED), **options())
    loaded, job = preparing.load(job)
    inputs = reference.compute(loaded, job).cases[0].inputs
    assert fastpath.taken(loaded)
    with torch.no_grad():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            arguments = (torch.from_numpy(array.copy()) for array in inputs.values())
            plain = loaded.torch_model(*arguments).numpy()
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    assert fastpath.hint(loaded, job, inputs, [plain]) == fastpath.HINT
    assert fastpath.hint(loaded, job, inputs, [plain * 1.01]) is None
    assert torch.backends.mha.get_fastpath_enabled()
    assert not fastpath.taken(preparing.load(tiny_job("Net"))[0])
