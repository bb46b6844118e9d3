"""What the end of a process means for the row, where no process is needed to know."""

from __future__ import annotations

import signal

import pytest

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import ExporterAttempt, WorkerEvent
from converter.processes import outcome
from converter.processes.limits import Limits

FAILED = ExporterAttempt(
    exporter="torchscript", status="failed", code=Code.INPUT_DROPPED, message="no input factor"
)
JOB = Job(
    name="m",
    source={"registry": "none"},
    inputs={},
    opset=17,
    exporters=["torchscript", "dynamo"],
    model_dir="/m",
    staging_dir="/s",
)


def lost_after(*news: WorkerEvent) -> list[tuple[str, Code | None]]:
    result = outcome.lost(JOB, news)
    return [(attempt.exporter, attempt.code) for attempt in result.attempts_by_exporter]


@pytest.mark.parametrize("news", [(), ("load",), ("load", "reference")])
def test_before_the_export_no_exporter_has_failed(news: tuple[WorkerEvent, ...]) -> None:
    assert lost_after(*news) == []


def test_the_exporter_at_work_has_failed() -> None:
    assert lost_after("load", "reference", "export") == [("torchscript", Code.SIGNAL)]


def test_what_an_earlier_exporter_came_to_stays() -> None:
    news: tuple[WorkerEvent, ...] = ("export", "check", FAILED, "export")
    assert lost_after(*news) == [("torchscript", Code.INPUT_DROPPED), ("dynamo", Code.SIGNAL)]
    error = outcome.lost(JOB, news).error
    assert error is not None
    assert error.message == (
        "its supervisor was killed; torchscript had failed before: INPUT_DROPPED: no input factor"
    )


def test_the_fingerprint_does_not_depend_on_it() -> None:
    one = outcome.lost(JOB, ("export", FAILED, "export")).error
    other = outcome.lost(JOB, ("export",)).error
    assert one is not None
    assert other is not None
    assert one.fingerprint == other.fingerprint


def test_an_exporter_that_was_done_is_not_at_work() -> None:
    done = ExporterAttempt(exporter="torchscript", status="ok")
    assert lost_after("export", "publish", done) == [("torchscript", None)]


def test_the_last_words_of_a_log_are_cleaned_as_any_message() -> None:
    ending = outcome.ProcessExit(
        status=1 << 8,
        limit=None,
        stages=(("load", 1.0),),
        attempts=(),
        ended_at=2.0,
        peak_bytes=0,
        last_words="\x1b[31mbye\x1b[0m\x00",
    )
    limits = Limits(timeout_s=1.0, grace_s=1.0, memory_bytes=None)
    error = outcome.outcome(JOB, limits, ending).error
    assert error is not None
    assert error.message.endswith("; log: bye\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    ("exporter", "advice"),
    [("auto", ""), ("torchscript", "try exporter: dynamo; ")],
)
def test_a_crash_of_an_exporter_points_to_one_that_is_left(exporter: str, advice: str) -> None:
    changes = {} if exporter == "auto" else {"exporters": [exporter]}
    job = JOB.model_copy(update={"exporter": exporter, **changes})
    ending = outcome.ProcessExit(
        status=signal.SIGSEGV,
        limit=None,
        stages=(("export", 0.0),),
        attempts=(),
        ended_at=1.0,
        peak_bytes=0,
        last_words="",
    )
    error = outcome.outcome(job, Limits(timeout_s=1, memory_bytes=None, grace_s=1), ending).error
    assert error is not None
    assert error.hint == f"Native code crashed: {advice}the log has the Python stack."
