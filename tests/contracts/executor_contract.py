"""What every executor must do; a test class for each one inherits this."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.model.job import Job
from converter.model.records import STAGES, ExporterAttempt, JobResult, WorkerEvent
from converter.plugins.executors import Event, Executor, Finished, StageEntered, Started, Tick

ENTRY = "executor_contract:by_tag"


def by_tag(job: Job, emit: Callable[[WorkerEvent], None]) -> JobResult:
    """A pipeline that does what the job's tag says; by default it stages a file and reports it."""
    for stage in STAGES:
        emit(stage)
        if "exit" in job.tags and stage == "reference":
            sys.exit(0)
        if "interrupt" in job.tags and stage == "reference":
            raise KeyboardInterrupt
        if "exit later" in job.tags and stage == "check":
            emit(ExporterAttempt(exporter="torchscript", status="failed", message="no such node"))
            emit("export")
            sys.exit(0)
    (Path(job.staging_dir) / f"{job.name}.onnx").write_text("whole")
    return JobResult(name=job.name, status="failed" if "failed" in job.tags else "ok")


class ExecutorContract:
    """Subclasses say how their executor is made."""

    def executor(self, entry: str) -> Executor:
        raise NotImplementedError

    def jobs(self, folder: Path, *tags: str) -> list[Job]:
        """One job for each tag, folders made as the runner makes them."""
        made = []
        for number, tag in enumerate(tags):
            model_dir = folder / "models" / f"m{number}"
            model_dir.mkdir(parents=True)
            job = Job(
                name=f"m{number}",
                source={"registry": "none"},
                inputs={},
                opset=17,
                exporters=["torchscript", "dynamo"],
                tags=[tag],
                model_dir=str(model_dir),
                staging_dir=str(folder / ".staging" / f"m{number}"),
            )
            made.append(job)
        return made

    def events(self, jobs: list[Job]) -> list[Event]:
        events = self.executor(ENTRY).run(jobs)
        return [event for event in events if not isinstance(event, Tick)]

    def test_every_job_finishes_once(self, tmp_path: Path) -> None:
        events = self.events(self.jobs(tmp_path, "ok", "failed", "ok"))
        results = [event.result for event in events if isinstance(event, Finished)]
        assert sorted((result.name, result.status) for result in results) == [
            ("m0", "ok"),
            ("m1", "failed"),
            ("m2", "ok"),
        ]
        assert {result.attempts for result in results} == {1}

    @pytest.mark.parametrize("tag", ["exit", "interrupt"])
    def test_a_model_that_ends_the_process_loses_its_own_row_only(
        self, tmp_path: Path, tag: str
    ) -> None:
        events = self.events(self.jobs(tmp_path, tag, "ok"))
        results = {e.result.name: e.result for e in events if isinstance(e, Finished)}
        assert (results["m0"].status, results["m1"].status) == ("crashed", "ok")
        error = results["m0"].error
        assert error is not None
        assert (error.code, error.stage) == ("NO_RESULT", "reference")
        assert "look for sys.exit, os._exit, a raised KeyboardInterrupt" in error.hint
        assert results["m0"].stages["load"].status == "ok"
        assert results["m0"].stages["reference"].status == "failed"

    def test_what_an_exporter_came_to_survives_the_process(self, tmp_path: Path) -> None:
        *_, last = self.events(self.jobs(tmp_path, "exit later"))
        assert isinstance(last, Finished)
        attempts = last.result.attempts_by_exporter
        assert [(a.exporter, a.status) for a in attempts] == [
            ("torchscript", "failed"),
            ("dynamo", "failed"),
        ]
        assert attempts[0].message == "no such node"
        assert last.result.error is not None
        assert "; torchscript had failed before: " in last.result.error.message

    def test_a_job_starts_enters_its_stages_and_finishes(self, tmp_path: Path) -> None:
        first, *middle, last = self.events(self.jobs(tmp_path, "ok"))
        assert isinstance(first, Started)
        assert (first.name, first.attempt) == ("m0", 1)
        assert middle == [StageEntered("m0", stage) for stage in STAGES]
        assert isinstance(last, Finished)

    def test_the_artifact_lies_alone_in_the_staging_folder(self, tmp_path: Path) -> None:
        (job,) = self.jobs(tmp_path, "ok")
        left = Path(job.staging_dir) / "left over"
        left.mkdir(parents=True)
        self.events([job])
        assert [path.name for path in Path(job.staging_dir).iterdir()] == ["m0.onnx"]

    def test_a_planted_link_fails_that_job_and_leaves_its_target(self, tmp_path: Path) -> None:
        target = tmp_path / "precious"
        target.mkdir()
        (target / "file").touch()
        first, second = self.jobs(tmp_path, "ok", "ok")
        Path(first.staging_dir).parent.mkdir()
        Path(first.staging_dir).symlink_to(target)
        events = self.events([first, second])
        results = {e.result.name: e.result for e in events if isinstance(e, Finished)}
        error = results["m0"].error
        assert error is not None
        assert error.code == "IO"
        assert first.staging_dir in error.message
        assert "remove it" in error.hint
        assert results["m1"].status == "ok"
        assert [path.name for path in target.iterdir()] == ["file"]

    def test_a_job_that_is_added_while_it_runs_comes_last(self, tmp_path: Path) -> None:
        first, second, third = self.jobs(tmp_path, "ok", "ok", "ok")
        waiting = deque([first, second])
        done = []
        for event in self.executor(ENTRY).run(waiting):
            if isinstance(event, Finished):
                done.append(event.result.name)
                if event.result.name == first.name:
                    waiting.append(third)
        assert sorted(done[:2]) == [first.name, second.name]
        assert done[2:] == [third.name]
        assert not waiting

    def test_no_jobs_no_events(self) -> None:
        assert self.events([]) == []

    def test_closing_early_is_no_error(self, tmp_path: Path) -> None:
        events = self.executor(ENTRY).run(self.jobs(tmp_path, "ok", "ok"))
        next(events)
        events.close()
