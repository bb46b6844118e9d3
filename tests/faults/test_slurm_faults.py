"""Tasks of submitit that are lost, preempted and cancelled; each row ends once, no process stays.

By submitit's local executor, and by Slurm where its commands are on PATH.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import driver
import pytest
from conftest import MARK, all_gone, marked

from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.model.records import JobResult
from converter.plugins.executors import Event, Events, Finished, StageEntered, _nodes
from converter.plugins.executors.slurm import SlurmExecutor
from converter.processes import proctree

NO_SLURM = pytest.mark.skipif(shutil.which("sbatch") is None, reason="needs Slurm")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.parametrize("cluster", ["local", pytest.param("slurm", marks=NO_SLURM)]),
]
LEASE_S = 10.0
# Of a task that has said its last: submitit writes that it has ended, and the batch script ends.
LEAVING_S = 5.0
TASK = "submitit.core._submit"
Make = Callable[..., Job]


def spec_of(cluster: str, **options: object) -> ExecutorSpec:
    usual = {"name": "slurm", "cluster": cluster, "grace_s": 0.5, "lease_s": LEASE_S, "poll_s": 1.0}
    return ExecutorSpec(**{**usual, **options})


def events(spec: ExecutorSpec, jobs: Sequence[Job]) -> Events:
    return SlurmExecutor(spec, "entries:by_tag").run(jobs)


def finished(found: Sequence[Event], count: int) -> dict[str, JobResult]:
    """Results by name; each of ``count`` jobs has exactly one."""
    results = [event.result for event in found if isinstance(event, Finished)]
    by_name = {result.name: result for result in results}
    assert len(results) == len(by_name) == count
    return by_name


def code_of(result: JobResult) -> str | None:
    return result.error.code if result.error is not None else None


def tasks(mark: str) -> list[int]:
    return [pid for pid, line in marked(mark).items() if TASK in line and "srun" not in line]


@pytest.fixture
def interrupted(mark: str, job: Make, tmp_path: Path) -> Callable[..., dict[str, JobResult]]:
    """Run two jobs, have something happen to the first task while both run, and let them go on."""

    def run(spec: ExecutorSpec, happens: Callable[[int], None]) -> dict[str, JobResult]:
        jobs = [job("a", "waits_for_go"), job("b", "waits_for_go")]
        entered: set[str] = set()
        found = []
        for event in events(spec, jobs):
            found.append(event)
            if isinstance(event, StageEntered) and event.stage == "load":
                entered.add(event.name)
                if len(entered) == 2 and not (go := tmp_path / "models" / "go").exists():
                    happens(min(tasks(mark)))
                    go.touch()
        results = finished(found, 2)
        assert {result.status for result in results.values()} == {"ok"}
        assert all_gone(mark, set(), LEAVING_S) == {}
        assert [path.name for path in (tmp_path / ".staging").iterdir()] in (["a", "b"], ["b", "a"])
        return results

    return run


def test_what_a_job_does_to_its_process_costs_that_job(cluster: str, mark: str, job: Make) -> None:
    tags = ("segfault", "exits_0", "sys_exits_0", "leaves_a_child", "killed", "hangs_hard", "good")
    jobs = [job(tag, tag) for tag in tags]
    results = finished(list(events(spec_of(cluster, timeout_s=20.0), jobs)), len(tags))
    assert {tag: (results[tag].status, code_of(results[tag])) for tag in tags} == {
        "segfault": ("crashed", "SIGNAL"),
        "exits_0": ("crashed", "NO_RESULT"),
        "sys_exits_0": ("crashed", "NO_RESULT"),
        "leaves_a_child": ("ok", None),
        "killed": ("crashed", "SIGNAL"),
        "hangs_hard": ("timeout", "TIMEOUT"),
        "good": ("ok", None),
    }
    assert results["killed"].attempts == 2
    error = results["segfault"].error
    assert error is not None
    assert error.message.startswith("killed by SIGSEGV in stage export; log: File ")
    assert all_gone(mark, set(), LEAVING_S) == {}


def test_a_task_that_is_killed_costs_its_job_a_try(
    cluster: str, interrupted: Callable[..., dict[str, JobResult]]
) -> None:
    results = interrupted(spec_of(cluster), lambda pid: os.kill(pid, signal.SIGKILL))
    assert sorted(result.attempts for result in results.values()) == [1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_task_that_is_preempted_is_tried_again(
    cluster: str, interrupted: Callable[..., dict[str, JobResult]], number: signal.Signals
) -> None:
    """SIGTERM: before Slurm ends a task; the others: submitit's own warning, by its setting."""
    results = interrupted(spec_of(cluster, retries=0), lambda pid: os.kill(pid, number))
    assert sorted(result.attempts for result in results.values()) == [1, 2]


def test_a_signal_to_all_processes_of_a_task_is_no_crash_of_the_job(
    cluster: str, interrupted: Callable[..., dict[str, JobResult]]
) -> None:
    """So Slurm ends a task: the job may be gone before its supervisor and its task hear of it."""

    def terminate(pid: int) -> None:
        proctree.send([*reversed(proctree.descendants(pid)), pid], signal.SIGTERM)

    results = interrupted(spec_of(cluster, retries=0), terminate)
    assert sorted(result.attempts for result in results.values()) == [1, 2]


def test_a_job_whose_task_is_killed_each_time_says_so(cluster: str, mark: str, job: Make) -> None:
    found = []
    for event in events(spec_of(cluster, node_retries=1), [job("a", "hangs")]):
        found.append(event)
        if isinstance(event, StageEntered) and event.stage == "load":
            os.kill(min(tasks(mark)), signal.SIGKILL)
    (result,) = finished(found, 1).values()
    assert (result.status, code_of(result), result.attempts) == ("crashed", "NO_NODE", 2)
    assert result.error is not None
    assert "ended without a result" in result.error.message
    assert all_gone(mark, set(), LEAVING_S) == {}


def test_closing_cancels_what_runs_and_waits_for_its_end(
    cluster: str, mark: str, job: Make, tmp_path: Path
) -> None:
    jobs = [job("a", "hangs_with_grandchild"), job("b", "hangs_hard"), job("c"), job("d")]
    run = events(spec_of(cluster, workers=2), jobs)
    entered = set()
    for event in run:
        if isinstance(event, StageEntered) and event.stage == "reference":
            entered.add(event.name)
        if entered == {"a", "b"}:
            break
    before = time.monotonic()
    run.close()
    assert time.monotonic() - before < 20
    left = marked(mark)
    # Of the jobs nothing at all; of Slurm the batch scripts of tasks that have ended.
    assert cluster == "slurm" or left == {}
    assert not any("time.sleep" in line or "forkserver" in line for line in left.values()), left
    assert all_gone(mark, set(), LEAVING_S) == {}
    # Neither a folder of the run nor one of an attempt; those of the jobs are empty.
    assert [path.name for path in (tmp_path / ".staging").rglob("*") if path.name not in "ab"] == []


def test_a_node_with_other_versions_runs_nothing_unless_it_may(
    cluster: str, mark: str, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = _nodes.here()
    monkeypatch.setattr(_nodes, "here", lambda: {**versions, "onnx": "0.0.1"})
    if cluster == "local":
        (result,) = finished(list(events(spec_of(cluster, node_retries=1), [job("a")])), 1).values()
        assert code_of(result) == "NO_NODE"
        assert result.error is not None
        other = f"other versions than this machine: onnx {versions['onnx']} (here 0.0.1)"
        assert other in result.error.message
    spec = spec_of(cluster, allow_skew=True)
    (result,) = finished(list(events(spec, [job("b")])), 1).values()
    assert result.status == "ok"
    assert result.node is not None
    assert result.node.packages == {"onnx": versions["onnx"]}
    assert all_gone(mark, set(), LEAVING_S) == {}


def test_no_variable_of_the_environment_is_missing_or_left_over(
    cluster: str, mark: str, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVERTER_PROBE", "of the runner")
    monkeypatch.chdir(tmp_path)
    finished(list(events(spec_of(cluster), [job("a", "seen")])), 1)
    assert (tmp_path / "models" / "a" / "log.txt").read_text() == "None of the runner\n"


def test_a_driver_that_is_killed_leaves_no_process_after_the_lease(
    cluster: str, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, own := f"driver-{cluster}-{os.getpid()}")
    jobs = [job("a", "hangs_with_grandchild"), job("b", "hangs_hard")]
    with driver.running(spec_of(cluster), jobs):
        pass  # and kill it
    assert all_gone(own, set(), LEASE_S + LEAVING_S) == {}
