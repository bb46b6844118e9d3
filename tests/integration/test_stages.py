"""The stage recorder: what an exception becomes."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.model.records import ErrorRecord
from converter.worker.recording.stages import Recorder, StageFailedError
from converter.worker.sources import loading

pytestmark = pytest.mark.integration


@pytest.fixture
def recorder(tiny_job: Callable[..., Any]) -> Recorder:
    return Recorder(
        tiny_job("Net"), lambda stage: None, lambda error, job: (Code.LOAD, "described", "hint")
    )


def failed(recorder: Recorder, stage: Any, error: BaseException) -> ErrorRecord:
    with pytest.raises(StageFailedError) as caught, recorder.stage(stage):
        raise error
    assert recorder.records[stage].status == "failed"
    return caught.value.error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyError("head"), Code.FORWARD, "KeyError: 'head'"),
        (ValueError("first\nsecond"), Code.FORWARD, "ValueError: first"),
        (AssertionError(), Code.FORWARD, "AssertionError"),
        (MemoryError(), Code.MEM_LIMIT, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Code.MEM_LIMIT, "out of"),
        (EOFError("EOF when reading a line"), Code.STDIN, "asks for keyboard input"),
        (StageError(Code.VERIFY_VACUOUS, "its own words"), Code.VERIFY_VACUOUS, "its own words"),
    ],
)
def test_an_exception_becomes_a_record(
    recorder: Recorder, error: Exception, code: Code, message: str
) -> None:
    found = failed(recorder, "reference", error)
    assert (found.stage, found.code) == ("reference", code)
    assert message in found.message
    assert "\n" not in found.message
    assert found.type == (None if isinstance(error, StageError) else type(error).__name__)


class SpeechlessError(ValueError):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("stage", "code"), [("load", Code.LOAD), ("reference", Code.FORWARD), ("export", Code.EXPORT)]
)
def test_an_exception_without_words_is_one_of_its_stage(
    tiny_job: Callable[..., Any], capsys: pytest.CaptureFixture[str], stage: str, code: Code
) -> None:
    recorder = Recorder(tiny_job("Net"), lambda stage: None, loading.describe)
    error: Exception = SpeechlessError("the words")
    if stage == "export":
        error, error.__cause__ = RuntimeError("a pass failed"), error
    found = failed(recorder, stage, error)
    assert (found.code, found.type) == (code, type(error).__name__)
    assert (
        "SpeechlessError: its message cannot be read: __str__ raises ZeroDivision" in found.message
    )
    assert "test_stages.py" in capsys.readouterr().err  # its traceback


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("reference", Code.FORWARD), ("export", Code.EXPORT), ("check", Code.CHECKER),
        ("simplify", Code.SIMPLIFY), ("verify", Code.SESSION), ("publish", Code.IO),
    ],
)  # fmt: skip
def test_each_stage_has_a_code_for_what_it_did_not_expect(
    recorder: Recorder, stage: str, code: Code
) -> None:
    found = failed(recorder, stage, ZeroDivisionError("division by zero"))
    assert (found.code, found.hint) == (code, "the traceback is in the log")


@pytest.mark.parametrize("stage", ["export", "check", "simplify", "verify", "publish"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_the_disk_does_is_no_fault_of_the_model(
    recorder: Recorder, stage: str, number: int
) -> None:
    words = os.strerror(number)
    wrapped = StageError(Code.CHECKER, "it cannot be read")
    wrapped.__cause__ = OSError(number, words)
    native = RuntimeError(f"unable to write the file: {words}")
    for error in (OSError(number, words, "raw.onnx"), wrapped, native):
        found = failed(recorder, stage, error)
        assert found.code is Code.IO
        assert words in found.message
        assert found.hint == files.DISK[number]


def test_a_model_that_writes_where_it_must_not_is_at_fault(recorder: Recorder) -> None:
    found = failed(recorder, "reference", OSError(errno.EROFS, "Read-only file system", "/proc/x"))
    assert found.code is Code.FORWARD
    assert (
        failed(recorder, "load", OSError(errno.ENOSPC, "No space left on device")).code is Code.IO
    )


@pytest.mark.parametrize(
    ("text", "blamed"),
    [
        ("index out of range in self", True),
        ("index 5 is out of bounds for dimension 0 with size 3", True),
        ("Target 9 is out of bounds.", True),
        ("out of range: tried to access index 7 on a tensor of 4 elements.", True),
        ("Index 0 of input takes value 5 which is not in the valid range [0, 3)", True),
        ("Class values must be non-negative.", True),
        # A position or a number that code computes from sizes.
        ("index 10 is out of bounds for dimension 0 with size 3", False),
        ("number of steps must be non-negative", False),
        ("Dimension out of range (expected to be in range of [-2, 1], but got 7)", False),
        ("list index out of range", False),
    ],
)
def test_the_range_of_an_input_is_blamed_only_for_its_values(
    tiny_job: Callable[..., Any], text: str, blamed: bool
) -> None:
    ids = {"shape": [4], "dtype": "int64", "low": 0, "high": 10}
    job = tiny_job("Table", inputs={"ids": ids, "x": {"shape": [2, 3]}})
    recorder = Recorder(job, lambda stage: None, lambda error, job: (Code.LOAD, "", ""))
    told = "`ids` is sampled from 0 to 9; set `low` and `high` (exclusive)"
    found = failed(recorder, "reference", IndexError(text))
    assert found.hint == (told if blamed else "the traceback is in the log")


def test_an_export_that_failed_within_a_pass_names_what_began_it(recorder: Recorder) -> None:
    error = RuntimeError("An error occurred when running the '<object at 0x7f>' pass")
    error.__cause__ = ValueError("no rank for x")
    found = failed(recorder, "export", error)
    assert (found.message, found.type) == ("ValueError: no rank for x", "RuntimeError")


def test_loading_is_described_by_its_own_words(recorder: Recorder) -> None:
    assert failed(recorder, "load", ValueError("x")).message == "described"


def test_the_traceback_goes_to_the_log(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    failed(recorder, "export", ValueError("of the model"))
    assert "ValueError: of the model" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_process_is_not_caught(recorder: Recorder, error: type[BaseException]) -> None:
    with pytest.raises(error), recorder.stage("export"):
        raise error


def test_the_same_cause_has_the_same_fingerprint(recorder: Recorder) -> None:
    def fingerprint(text: str) -> str:
        return failed(recorder, "export", ValueError(text)).fingerprint

    assert fingerprint("no Reshape") == fingerprint("no Reshape") != fingerprint("no Gather")


def test_warnings_are_kept_once_and_bounded(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    with recorder.stage("export") as notes:
        notes.append("INPUT_MUTATED: x")
        for number in [0, 0, *range(40)]:
            warnings.warn(f"line {number}\n of many", UserWarning, stacklevel=1)
    found = recorder.records["export"].warnings
    assert found[:2] == ["INPUT_MUTATED: x", "UserWarning: line 0 of many"]
    assert len(found) == len(set(found)) == 20
    assert "line 39" in capsys.readouterr().err


def test_an_address_in_memory_is_no_news(recorder: Recorder) -> None:
    """Else a manifest is another one each night, and on each node."""
    with recorder.stage("check"):
        warnings.warn(f"no signature for {object()!r}", stacklevel=1)
    assert recorder.records["check"].warnings == [
        "UserWarning: no signature for <object object at 0x…>"
    ]
    error = failed(recorder, "export", ValueError(f"{object()!r} of size 0x10"))
    assert error.message == "ValueError: <object object at 0x…> of size 0x10"


def test_time_and_memory_are_measured(recorder: Recorder) -> None:
    with recorder.stage("export"):
        time.sleep(0.05)
        held = os.urandom(80 << 20)
        del held
    with recorder.stage("check"):
        pass
    export, check = recorder.records["export"], recorder.records["check"]
    assert 0.05 <= (export.seconds or 0) < 5
    assert (export.peak_rss_bytes or 0) > (check.peak_rss_bytes or 0) + (40 << 20)


def test_what_did_not_run_says_so(recorder: Recorder) -> None:
    with recorder.stage("load"):
        pass
    found = {name: record.status for name, record in recorder.records.items()}
    assert found["load"] == "ok"
    assert found["simplify"] == found["benchmark"] == "not_requested"
    assert {found[name] for name in ("reference", "export", "verify")} == {"not_run"}
