"""One job misbehaves: that row says how, the others finish, no process is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, all_gone

from converter.layout import environment
from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.model.records import JobResult
from converter.plugins.executors import Finished, StageEntered, Started
from converter.plugins.executors.process import ProcessExecutor, servers
from converter.processes import local
from converter.processes.joblog import HEAD_BYTES, TAIL_BYTES

pytestmark = pytest.mark.faults


def log_of(folder: Path, name: str) -> str:
    return (folder / "models" / name / "log.txt").read_text(errors="replace")


def error_of(result: JobResult) -> tuple[str, str, str | None, str]:
    assert result.error is not None
    return result.status, result.error.code, result.error.stage, result.error.message


def test_a_native_crash_costs_only_its_own_job(run: Run, tmp_path: Path) -> None:
    results = run("segfault", "abort", "good")
    assert results["good"].status == "ok"
    status, code, stage, message = error_of(results["segfault"])
    assert (status, code, stage) == ("crashed", "SIGNAL", "export")
    assert message.startswith("killed by SIGSEGV in stage export; log: File ")
    assert "ctypes" in message
    assert results["segfault"].stages["load"].status == "ok"
    assert results["segfault"].stages["export"].status == "failed"
    assert results["segfault"].stages["verify"].status == "not_run"
    assert "in segfault" in log_of(tmp_path, "segfault")
    assert error_of(results["abort"])[3].startswith("killed by SIGABRT in stage export")
    assert results["abort"].error is not None
    assert results["abort"].error.hint == "Native code crashed: the log has the Python stack."


def test_an_exporter_that_crashes_leaves_the_others_their_turn(run: Run) -> None:
    result = run("first_exporter_crashes", retries=1)["first_exporter_crashes"]
    assert (result.status, result.attempts) == ("ok", 3)
    assert [(a.exporter, a.status, a.code) for a in result.attempts_by_exporter] == [
        ("torchscript", "failed", "SIGNAL"),
        ("dynamo", "ok", None),
    ]


def test_a_crash_before_any_export_ends_the_tries(run: Run) -> None:
    """Of the two crashes the row shows the one that came further."""
    tag = "first_exporter_crashes_then_all"
    result = run(tag, retries=0)[tag]
    assert error_of(result)[:3] == ("crashed", "SIGNAL", "export")
    assert result.attempts == 2
    assert [a.exporter for a in result.attempts_by_exporter] == ["torchscript"]


def test_of_two_crashes_the_row_shows_the_one_that_came_further(run: Run) -> None:
    result = run("first_exporter_crashes_late", retries=2)["first_exporter_crashes_late"]
    assert error_of(result)[:3] == ("crashed", "SIGNAL", "verify")
    assert error_of(result)[3].endswith("; dynamo: EXPORT: no")
    assert [a.exporter for a in result.attempts_by_exporter] == ["torchscript", "dynamo"]
    assert result.attempts == 4


def test_a_crash_after_an_exporter_verified_leaves_the_others_out(run: Run) -> None:
    tag = "crashes_after_an_exporter_verified"
    result = run(tag, retries=0)[tag]
    assert (result.status, result.attempts) == ("crashed", 1)
    assert [(a.exporter, a.status) for a in result.attempts_by_exporter] == [("torchscript", "ok")]


@pytest.mark.parametrize(
    ("tag", "code", "message"),
    [
        ("second_exporter_crashes", "SIGNAL", "killed by SIGABRT in stage export"),
        ("second_exporter_hangs", "TIMEOUT", "timed out after 1 s in stage export"),
    ],
)
def test_what_the_first_exporter_came_to_survives_the_second(
    run: Run, tag: str, code: str, message: str
) -> None:
    result = run(tag, timeout_s=1.0, retries=0)[tag]
    verdict = "case second: y is 1, PyTorch gives 2"
    assert [(a.exporter, a.code, a.message) for a in result.attempts_by_exporter] == [
        ("torchscript", "VERIFY_VALUE", verdict),
        ("dynamo", code, message),
    ]
    told = f"{message}; torchscript had failed before: VERIFY_VALUE: {verdict}"
    assert error_of(result)[1:3] == (code, "export")
    assert error_of(result)[3].startswith(told)


def test_a_job_that_is_killed_once_succeeds_at_the_second_try(run: Run, tmp_path: Path) -> None:
    result = run("killed_once")["killed_once"]
    assert (result.status, result.attempts) == ("ok", 2)
    log = log_of(tmp_path, "killed_once")
    lines = [line for line in log.splitlines() if line]
    first, given_up, second, last = lines
    assert first == last == "this is a try"
    assert given_up.startswith("---- attempt 1 was given up: SIGNAL: killed by SIGKILL")
    assert second == "---- attempt 2 ----"


def test_a_job_that_is_killed_each_time_says_how_often(run: Run) -> None:
    result = run("killed", retries=2)["killed"]
    assert error_of(result) == ("crashed", "SIGNAL", "load", "killed by SIGKILL in stage load")
    assert result.attempts == 3
    assert result.error is not None
    assert "memory runs out: try executor.workers=1" in result.error.hint


def test_a_supervisor_that_is_killed_takes_its_job_with_it(run: Run) -> None:
    result = run("supervisor_killed_once", sandbox="off")["supervisor_killed_once"]
    assert (result.status, result.attempts) == ("ok", 2)


def test_a_supervisor_that_is_killed_each_time_is_a_crash(run: Run) -> None:
    result = run("supervisor_killed_once", retries=0, sandbox="off")["supervisor_killed_once"]
    assert error_of(result) == ("crashed", "SIGNAL", "load", "its supervisor was killed")


def test_a_supervisor_that_is_stopped_costs_a_try(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_MARGIN_S", 0.5)
    tag = "supervisor_stopped_once"
    result = run(tag, timeout_s=2.0, grace_s=0.5, sandbox="off")[tag]
    assert (result.status, result.attempts) == ("ok", 2)
    (lost,) = result.other_tries
    assert lost.reason == "SIGNAL: its supervisor did not end it in time, and was killed"


def test_closing_ends_a_supervisor_that_is_stopped(
    mark: str, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_CLOSE_S", 1.0)
    asked = job("a", "supervisor_stopped_once")
    spec = ExecutorSpec(name="process", workers=1, sandbox="off")
    events = ProcessExecutor(spec, "entries:by_tag").run([asked])
    for event in events:
        if isinstance(event, StageEntered):
            break
    stopped = asked.model_dir + "/hit"
    while not os.path.exists(stopped):
        time.sleep(0.01)
    time.sleep(0.2)  # until the signal has come, which is sent next
    events.close()
    assert all_gone(mark, {servers[True].pid}, 0.5) == {}


def test_a_fork_server_that_is_stopped_is_replaced(
    mark: str, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = ProcessExecutor(ExecutorSpec(name="process", workers=1, retries=1), "entries:by_tag")
    assert {e.result.status for e in executor.run([job("a")]) if isinstance(e, Finished)} == {"ok"}
    stopped = servers[True].pid
    os.kill(stopped, signal.SIGSTOP)
    # Of the new one too: it has to import nothing for these jobs but the usual libraries.
    monkeypatch.setattr(local, "_START_S", 30.0)
    events = list(executor.run([job("b")]))
    (result,) = [event.result for event in events if isinstance(event, Finished)]
    assert (result.status, result.attempts) == ("ok", 2)
    assert "the server of the workers was replaced" in result.other_tries[0].reason
    assert servers[True].pid != stopped


def test_a_fork_server_that_is_killed_is_replaced(mark: str, job: Callable[..., Job]) -> None:
    events = ProcessExecutor(ExecutorSpec(name="process", workers=1), "entries:by_tag").run(
        [job("first", "hangs"), job("second")]
    )
    executor_results = {}
    for event in events:
        if isinstance(event, StageEntered) and event.name == "first":
            killed = servers[True].pid
            os.kill(killed, signal.SIGKILL)
        if isinstance(event, Started) and event.attempt == 2:
            events.close()
        if isinstance(event, Finished):
            executor_results[event.result.name] = event.result.status
    assert executor_results == {"second": "ok"}
    assert servers[True].pid != killed
    assert all_gone(mark, {servers[True].pid}, 0.5) == {}


@pytest.mark.parametrize("tag", ["exits_0", "sys_exits_0"])
def test_a_silent_exit_is_no_result(run: Run, tag: str) -> None:
    result = run(tag)[tag]
    message = "ended with exit status 0 in stage load, no result"
    assert error_of(result) == ("crashed", "NO_RESULT", "load", message)
    assert result.error is not None
    assert "sys.exit, os._exit" in result.error.hint
    assert result.attempts == 1


def test_an_exception_outside_of_every_stage_is_no_result(run: Run, tmp_path: Path) -> None:
    status, code, stage, message = error_of(run("raises")["raises"])
    assert (status, code, stage) == ("crashed", "NO_RESULT", None)
    assert "exit status 1 before its first stage" in message
    assert message.endswith("LookupError: a bug outside of every stage")
    assert "Traceback" in log_of(tmp_path, "raises")


@pytest.mark.parametrize(
    ("tag", "stage"), [("too_much", "load"), ("too_much_in_children", "reference")]
)
def test_too_much_memory_ends_the_job(run: Run, tag: str, stage: str) -> None:
    result = run(tag, memory_mb=700)[tag]
    status, code, where, message = error_of(result)
    assert (status, code, where) == ("oom", "MEM_LIMIT", stage)
    assert message.startswith("used ")
    assert message.endswith("the limit is 700 MiB")
    assert result.error is not None
    assert "executor.memory_mb" in result.error.hint
    assert result.attempts == 1


def test_the_libraries_of_the_fork_server_do_not_count(run: Run) -> None:
    assert run("good", memory_mb=256)["good"].status == "ok"


@pytest.mark.parametrize("tag", ["hangs_hard", "hangs_with_grandchild"])
def test_a_hang_ends_within_limit_and_grace(run: Run, tag: str, tmp_path: Path) -> None:
    run("good")  # the fork server has started
    before = time.monotonic()
    result = run(tag, timeout_s=1.0)[tag]
    assert time.monotonic() - before < 6
    message = "timed out after 1 s in stage reference"
    assert error_of(result) == ("timeout", "TIMEOUT", "reference", message)
    assert result.error is not None
    assert "Raise executor.timeout_s" in result.error.hint
    assert result.attempts == 1


def test_the_log_of_a_hang_shows_where_it_hung(run: Run, tmp_path: Path) -> None:
    assert run("hangs", timeout_s=0.5)["hangs"].status == "timeout"
    assert "in hangs" in log_of(tmp_path, "hangs")


def test_a_process_that_a_good_job_leaves_behind_is_ended(run: Run) -> None:
    assert run("leaves_a_child")["leaves_a_child"].status == "ok"


def test_a_flood_of_output_is_capped_and_says_so(run: Run, tmp_path: Path) -> None:
    assert run("floods")["floods"].status == "ok"
    path = tmp_path / "models" / "floods" / "log.txt"
    assert path.stat().st_size < HEAD_BYTES + 2 * TAIL_BYTES
    text = path.read_text()
    assert text.startswith("first words")
    assert "last words" in text
    assert "[log capped: 991" in text.splitlines()[-1]


def test_a_job_has_no_terminal_to_ask(run: Run, tmp_path: Path) -> None:
    run("asks")
    assert "EOFError" in log_of(tmp_path, "asks")


def test_a_job_has_the_surroundings_of_the_runner(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("good")  # the fork server is older than what follows
    monkeypatch.setenv("CONVERTER_PROBE", "seen")
    monkeypatch.chdir(tmp_path)
    run("surroundings")
    assert log_of(tmp_path, "surroundings") == f"seen {tmp_path}\n"


@pytest.mark.skipif(environment.cores() < 2, reason="one core")
def test_the_last_job_may_use_all_cores(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "cores", lambda: 2)
    run("naps", "shares")
    assert log_of(tmp_path, "shares") == "1 2\n"


def test_closing_ends_what_runs(mark: str, job: Callable[..., Job]) -> None:
    events = ProcessExecutor(ExecutorSpec(name="process", workers=2), "entries:by_tag").run(
        [job("a", "hangs_with_grandchild"), job("b", "hangs_hard"), job("c")]
    )
    entered = set()
    for event in events:
        if isinstance(event, StageEntered):
            entered.add((event.name, event.stage))
        if {("a", "reference"), ("b", "reference")} <= entered:
            break
    before = time.monotonic()
    events.close()
    assert time.monotonic() - before < 5
    assert all_gone(mark, {servers[True].pid}, 0.5) == {}
