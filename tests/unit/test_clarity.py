"""Of several exporters' failures the one that tells most is shown, and the others beside it."""

from __future__ import annotations

import pytest

from converter.model import clarity
from converter.model.errors import Code
from converter.model.records import ErrorRecord, ExporterAttempt, StageName


def error(code: Code, stage: StageName, kind: str | None = None) -> ErrorRecord:
    return ErrorRecord(stage=stage, code=code, type=kind, message=str(code), fingerprint="f")


RAW = error(Code.EXPORT, "export", "RuntimeError")
REFUSED = error(Code.EXPORT_UNSUPPORTED, "export")
CHECKED = error(Code.CHECKER, "check")
CRASHED = error(Code.CHECKER, "check", "DecodeError")
DROPPED = error(Code.INPUT_DROPPED, "check")
FROZEN = error(Code.DIM_SPECIALISED, "export")
WRONG = error(Code.VERIFY_VALUE, "verify")
LOADING = error(Code.SESSION, "verify")
MEMORY = error(Code.MEM_LIMIT, "export", "MemoryError")


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (RAW, REFUSED),
        (CRASHED, REFUSED),  # though it came further
        (REFUSED, CHECKED),
        (LOADING, DROPPED),
        (LOADING, FROZEN),
        (FROZEN, WRONG),
        (LOADING, MEMORY),
    ],
)
def test_what_tells_more_is_shown_whichever_came_first(
    less: ErrorRecord, more: ErrorRecord
) -> None:
    assert clarity.clearest([less, more]) == 1
    assert clarity.clearest([more, less]) == 0


def test_of_equals_the_first_is_shown() -> None:
    assert clarity.clearest([REFUSED, REFUSED]) == 0


def attempt(exporter: str, message: str | None, code: Code = Code.EXPORT) -> ExporterAttempt:
    status = "ok" if message is None else "failed"
    return ExporterAttempt(exporter=exporter, status=status, code=code, message=message)


def test_the_others_follow_in_short() -> None:
    attempts = [attempt("torchscript", "x" * 300), attempt("dynamo", str(REFUSED.message))]
    told = clarity.in_full(REFUSED, attempts)
    assert told.message == f"EXPORT_UNSUPPORTED; torchscript: EXPORT: {'x' * 199}…"
    assert told.fingerprint == REFUSED.fingerprint
    assert clarity.in_full(told, attempts) == told
    assert clarity.in_full(REFUSED, attempts[1:]) == REFUSED
