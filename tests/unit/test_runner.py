"""The runner, with an executor that plays a script in place of workers."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from converter.config import standard
from converter.layout import delivery, lockfile, runfiles
from converter.layout.runlock import locked
from converter.model import manifest
from converter.model.errors import Code, ConfigError, ExitCode, RunError
from converter.model.job import Job
from converter.model.manifest import ArtifactRow, Manifest, ModelRecord, request_of
from converter.model.records import STAGES, ErrorRecord, FileInfo, JobResult, OnnxInfo, StageRecord
from converter.model.spec import Expect
from converter.plan.jobs import Plan
from converter.plugins.executors import Events, Finished, StageEntered, Started, Tick
from converter.plugins.reports import html
from converter.runner.context import RunContext
from converter.runner.loop import execute

CONTENT = b"a whole file"
Act = Callable[[Job], JobResult]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ok(job: Job) -> JobResult:
    """Stage a file with external data, as a worker does."""
    staging = Path(job.staging_dir)
    staging.mkdir(parents=True, exist_ok=True)
    (staging / f"{job.name}.onnx").write_bytes(CONTENT)
    (staging / f"{job.name}.onnx.data").write_bytes(CONTENT * 2)
    return JobResult(
        name=job.name,
        status="ok",
        stages={stage: StageRecord(status="ok", seconds=0.5) for stage in STAGES},
        files=[
            FileInfo(path=f"{job.name}.onnx", bytes=len(CONTENT), sha256=sha256(CONTENT)),
            FileInfo(path=f"{job.name}.onnx.data", bytes=24, sha256=sha256(CONTENT * 2)),
        ],
        onnx=OnnxInfo(
            exporter="torchscript",
            opset=17,
            opsets={"": 17},
            ir_version=8,
            producer="pytorch",
            parameters=1,
            inputs=[],
            outputs=[],
            nodes=1,
            ops={"Conv": 1},
        ),
    )


def failed(job: Job) -> JobResult:
    (Path(job.model_dir) / "log.txt").write_text("what it printed")
    error = ErrorRecord(stage="export", code=Code.EXPORT, message="no such operator", hint="Do x.")
    return ok(job).model_copy(update={"status": "failed", "error": error})


class Script:
    """Plays one act per job; ``between`` is called before each."""

    def __init__(self, acts: dict[str, Act], between: Callable[[Job], None] | None = None) -> None:
        self.acts = acts
        self.between = between
        self.closed = False

    def run(self, jobs: Sequence[Job]) -> Events:
        try:
            for job in jobs:
                if self.between is not None:
                    self.between(job)
                    yield Tick()
                yield Started(job.name, 1, os.getpid())
                yield StageEntered(job.name, "load")
                yield Finished(self.acts.get(job.name, ok)(job))
        finally:
            self.closed = True


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "zoo" / "run"


@pytest.fixture
def context(directory: Path) -> RunContext:
    return RunContext(
        directory,
        "zoo",
        ["opset=17"],
        "0" * 64,
        "python -m converter +experiment=zoo",
        standard.spec(benchmark={"providers": []}, reports=["csv"]),
    )


def make_job(directory: Path, name: str, expect: Expect | None = None) -> Job:
    return Job(
        name=name,
        source={"registry": name},
        inputs={},
        opset=17,
        exporters=["torchscript"],
        expect=expect,
        model_dir=str(directory / "models" / name),
        staging_dir=str(directory / ".staging" / name),
    )


def make_plan(directory: Path, *names: str, expect: Expect | None = None) -> Plan:
    jobs = [make_job(directory, name, expect) for name in names]
    return Plan(jobs, [], [job.name for job in jobs])


def rows(directory: Path) -> dict[str, ArtifactRow]:
    return {row.label: row for row in runfiles.read(directory).rows}


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_good_run_leaves_exactly_the_promised_files(
    directory: Path, context: RunContext, capsys: pytest.CaptureFixture[str]
) -> None:
    context = dataclasses.replace(context, spec=standard.spec(benchmark={"providers": []}))
    assert execute(make_plan(directory, "a"), Script({}), context) is ExitCode.OK
    assert files(directory) == {
        "manifest.json",
        "manifest.csv",
        "matrix.csv",
        "report.html",
        "summary.md",
        "junit.xml",
        "results.jsonl",
        "run.log",
        "models/a/a.onnx",
        "models/a/a.onnx.data",
        "models/a/job.json",
        "models/a/result.json",
    }
    read = runfiles.read(directory)
    assert read.run.complete
    assert (read.run.exit_code, read.run.counts) == (0, {"ok": 1})
    assert (read.run.experiment, read.run.overrides) == ("zoo", ["opset=17"])
    (artifact,) = read.models[0].artifacts
    paths = [part.path for part in artifact.files]
    assert paths == ["models/a/a.onnx", "models/a/a.onnx.data"]
    assert artifact.onnx is not None
    assert Path(os.readlink(directory.parent / "latest")) == Path("run")
    assert str(directory) in capsys.readouterr().out
    (line,) = (directory / "results.jsonl").read_text().splitlines()
    assert ModelRecord.model_validate_json(line) == read.models[0]
    assert Job.model_validate_json((directory / "models/a/job.json").read_bytes()).name == "a"


def test_rows_keep_the_order_of_the_configuration(directory: Path, context: RunContext) -> None:
    job = make_job(directory, "b")
    skipped = ArtifactRow(
        name="b",
        source="b",
        status="skipped",
        request=request_of(job),
        stages=manifest.not_run_stages(STAGES),
    )
    plan = Plan([make_job(directory, "a"), make_job(directory, "c")], [skipped], ["c", "b", "a"])
    assert execute(plan, Script({}), context) is ExitCode.OK
    assert list(rows(directory)) == ["c", "b", "a"]


def test_a_failed_model_leaves_no_file_under_its_final_name(
    directory: Path, context: RunContext, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(directory, "a", "b")
    assert execute(plan, Script({"a": failed}), context) is ExitCode.MODELS_FAILED
    assert not (directory / "models/a/a.onnx").exists()
    assert (directory / "models/b/b.onnx").exists()
    row = rows(directory)["a"]
    assert (row.files, row.onnx) == ([], None)
    assert row.error is not None
    assert row.error.log == "models/a/log.txt"
    printed = capsys.readouterr().out
    assert "failed a: EXPORT: no such operator" in printed
    assert "Do x." in printed
    assert str(directory / "models/a/log.txt") in printed
    assert runfiles.read(directory).run.complete


def test_the_graph_of_a_failed_model_is_kept_and_led_to(
    directory: Path, context: RunContext, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")

    def wrong(job: Job) -> JobResult:
        staging = Path(job.staging_dir)
        result = failed(job)
        (staging / "wrong.dynamo.pb").write_bytes(b"graph")
        (staging / "wrong.link.pb").symlink_to(tmp_path / "secret")
        (staging / "raw.onnx").write_bytes(b"weights")
        return result

    execute(make_plan(directory, "a", "b"), Script({"a": wrong}), context)
    left = {name for name in files(directory) if name.startswith("models/a/")}
    assert {name.removeprefix("models/a/") for name in left} == {
        "job.json", "log.txt", "result.json", "wrong.dynamo.pb"
    }  # fmt: skip
    text = html.render(runfiles.read(directory), directory)
    assert '<a href="models/a/wrong.dynamo.pb">wrong graph of dynamo</a>' in text
    assert "models/a/wrong.dynamo.pb</code>" in text
    assert "wrong.link" not in text
    # A model that is run once more begins without it.
    delivery.prepare(make_job(directory, "a"), directory)
    assert not (directory / "models/a/wrong.dynamo.pb").exists()


@pytest.mark.parametrize(
    ("act", "expected", "status", "code"),
    [
        (failed, ("failed", "EXPORT"), "xfail", ExitCode.OK),
        (failed, ("failed", "CHECKER"), "failed", ExitCode.MODELS_FAILED),
        (failed, ("crashed", "EXPORT"), "failed", ExitCode.MODELS_FAILED),
        (ok, ("failed", "EXPORT"), "xpass", ExitCode.MODELS_FAILED),
    ],
)
def test_expectations(
    directory: Path,
    context: RunContext,
    act: Act,
    expected: tuple[str, str],
    status: str,
    code: ExitCode,
) -> None:
    expect = Expect(status=expected[0], code=expected[1], reason="known")
    plan = make_plan(directory, "a", expect=expect)
    assert execute(plan, Script({"a": act}), context) is code
    assert rows(directory)["a"].status == status
    assert (directory / "models/a/a.onnx").exists() == (status == "xpass")


def alter(job: Job) -> JobResult:
    result = ok(job)
    (Path(job.staging_dir) / f"{job.name}.onnx").write_bytes(CONTENT[::-1])
    return result


def lose(job: Job) -> JobResult:
    result = ok(job)
    (Path(job.staging_dir) / f"{job.name}.onnx.data").unlink()
    return result


def link(job: Job) -> JobResult:
    result = ok(job)
    path = Path(job.staging_dir) / f"{job.name}.onnx"
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    return result


def claim(job: Job) -> JobResult:
    result = ok(job)
    main, *data = result.files
    return result.model_copy(
        update={"files": [main.model_copy(update={"path": "job.json"}), *data]}
    )


def nothing(job: Job) -> JobResult:
    return ok(job).model_copy(update={"files": []})


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (alter, "checksum mismatch"),
        (lose, "No such file"),
        (link, "not a plain file"),
        (claim, "a file that is not its own"),
        (nothing, "ok without a file"),
    ],
)
def test_only_what_was_hashed_is_let_in(
    directory: Path, context: RunContext, act: Act, words: str
) -> None:
    assert execute(make_plan(directory, "a"), Script({"a": act}), context) is (
        ExitCode.MODELS_FAILED
    )
    row = rows(directory)["a"]
    assert (row.status, row.files, row.onnx) == ("failed", [], None)
    assert row.error is not None
    assert row.error.code == "IO"
    assert words in row.error.message
    assert row.stages["publish"].status == "failed"
    assert not list((directory / "models/a").glob("a.onnx*"))


@pytest.mark.parametrize(
    "planted", ["models/a", "models/a/a.onnx", "models/a/job.json", ".staging/a"]
)
def test_a_planted_link_is_refused_and_its_target_untouched(
    tmp_path: Path, directory: Path, context: RunContext, planted: str
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("precious")
    path = directory / planted
    path.parent.mkdir(parents=True)
    path.symlink_to(target if planted.endswith("/a") else target / "precious")
    code = execute(make_plan(directory, "a", "b"), Script({}), context)
    assert code is ExitCode.MODELS_FAILED
    row = rows(directory)["a"]
    assert row.error is not None
    assert row.error.code == "IO"
    assert str(path) in row.error.message
    assert "remove it" in row.error.hint
    assert rows(directory)["b"].status == "ok"
    assert len((directory / "results.jsonl").read_text().splitlines()) == 2
    assert [file.read_text() for file in target.iterdir()] == ["precious"]


def test_a_planted_folder_of_models_is_refused(
    tmp_path: Path, directory: Path, context: RunContext
) -> None:
    (tmp_path / "target").mkdir()
    directory.mkdir(parents=True)
    (directory / "models").symlink_to(tmp_path / "target")
    code = execute(make_plan(directory, "a"), Script({}), context)
    assert code is ExitCode.MODELS_FAILED
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_a_signal_ends_the_run_with_every_model_in_the_manifest(
    directory: Path,
    context: RunContext,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: ExitCode,
) -> None:
    before = signal.getsignal(number)

    def interrupt(job: Job) -> None:
        if job.name == "b":
            os.kill(os.getpid(), number)

    script = Script({}, interrupt)
    assert execute(make_plan(directory, "a", "b", "c"), script, context) is code
    assert script.closed
    assert signal.getsignal(number) is before
    assert {name: row.status for name, row in rows(directory).items()} == {
        "a": "ok",
        "b": "not_run",
        "c": "not_run",
    }
    run = runfiles.read(directory).run
    assert (run.complete, run.exit_code) == (False, int(code))
    printed = capsys.readouterr().out
    assert (
        f"Interrupted by {number.name}: 1 of 3 models finished; results in {directory}" in printed
    )
    assert f"Resume with: python -m converter resume {directory}" in printed
    assert not (directory.parent / "latest").exists()
    assert not (directory / ".staging").exists()
    assert not (directory / ".lock").exists()


@pytest.mark.parametrize(("providers", "stage"), [([], "not_requested"), (["cpu"], "not_run")])
def test_a_row_says_whether_its_latency_was_asked_for_whatever_became_of_it(
    directory: Path, context: RunContext, providers: list[str], stage: str
) -> None:
    def crashed(job: Job) -> JobResult:
        result = failed(job)
        return result.model_copy(
            update={"status": "crashed", "stages": manifest.not_run_stages(STAGES)}
        )

    def interrupt(job: Job) -> None:
        if job.name == "b":
            os.kill(os.getpid(), signal.SIGTERM)

    spec = standard.spec(benchmark={"providers": providers})
    asked = dataclasses.replace(context, spec=spec)
    execute(make_plan(directory, "a", "b"), Script({"a": crashed}, interrupt), asked)
    found = rows(directory)
    assert [row.status for row in found.values()] == ["crashed", "not_run"]
    assert {row.stages["benchmark"].status for row in found.values()} == {stage}


def test_a_crash_that_comes_with_the_signal_is_not_the_models_fault(
    directory: Path, context: RunContext
) -> None:
    def interrupted(job: Job) -> JobResult:
        os.kill(os.getpid(), signal.SIGINT)
        return failed(job)

    execute(make_plan(directory, "a"), Script({"a": interrupted}), context)
    assert rows(directory)["a"].status == "not_run"


def test_a_signal_after_the_last_model_ends_the_run_too(
    directory: Path, context: RunContext, capsys: pytest.CaptureFixture[str]
) -> None:
    class Late(Script):
        def run(self, jobs: Sequence[Job]) -> Events:
            yield from super().run(jobs)
            signal.raise_signal(signal.SIGINT)

    code = execute(make_plan(directory, "a"), Late({}), context)
    assert code is ExitCode.INTERRUPTED
    assert rows(directory)["a"].status == "ok"
    run = runfiles.read(directory).run
    assert (run.complete, run.exit_code, run.ended_by) == (False, 130, "signal")
    assert "Interrupted by SIGINT: 1 of 1 models finished" in capsys.readouterr().out
    assert not (directory.parent / "latest").exists()


def test_a_full_disk_stops_the_run_and_keeps_the_record(
    directory: Path,
    context: RunContext,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = runfiles.append_result

    def full(folder: Path, row: ModelRecord) -> None:
        if row.name == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "results.jsonl"))
        append(folder, row)

    monkeypatch.setattr(runfiles, "append_result", full)
    plan = make_plan(directory, "a", "b", "c")
    assert execute(plan, Script({}), context) is ExitCode.RUN_FAILED
    assert [row.status for row in rows(directory).values()] == ["ok", "failed", "not_run"]
    error = rows(directory)["b"].error
    assert error is not None
    assert error.code == "IO"
    assert "free space" in error.hint
    assert not list((directory / "models/b").glob("b.onnx*"))
    assert f"No space left on device: {directory}/results.jsonl" in capsys.readouterr().out
    assert runfiles.read(directory).run.exit_code == 3


def test_a_file_system_that_becomes_read_only_ends_the_run(
    directory: Path,
    context: RunContext,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = runfiles.append_result

    def read_only(folder: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    def turning(folder: Path, row: ModelRecord) -> None:
        if row.name == "b":
            monkeypatch.setattr(runfiles, "append_result", read_only)
            monkeypatch.setattr("converter.layout.files.write_atomic", read_only)
            read_only(folder / "results.jsonl")
        append(folder, row)

    monkeypatch.setattr(runfiles, "append_result", turning)
    code = execute(make_plan(directory, "a", "b", "c"), Script({}), context)
    assert code is ExitCode.RUN_FAILED
    assert f"Read-only file system: {directory}" in capsys.readouterr().out
    monkeypatch.undo()
    assert not runfiles.read(directory).run.complete
    assert not list((directory / "models/b").glob("b.onnx*"))


def test_a_report_that_cannot_be_written_leaves_the_manifest(
    directory: Path, context: RunContext, capsys: pytest.CaptureFixture[str]
) -> None:
    def blocked(job: Job) -> JobResult:
        (directory / "manifest.csv").mkdir()
        return ok(job)

    script = Script({"a": blocked})
    assert execute(make_plan(directory, "a"), script, context) is ExitCode.RUN_FAILED
    assert "manifest.csv" in capsys.readouterr().out
    assert rows(directory)["a"].status == "ok"
    run = runfiles.read(directory).run
    assert (run.complete, run.exit_code, run.ended_by) == (False, 3, "failure")


def test_a_worker_that_reports_a_full_disk_stops_the_run(
    directory: Path, context: RunContext
) -> None:
    def full(job: Job) -> JobResult:
        message = f"cannot write {job.staging_dir}: {os.strerror(errno.ENOSPC)}"
        return failed(job).model_copy(
            update={"error": ErrorRecord(stage="publish", code=Code.IO, message=message)}
        )

    plan = make_plan(directory, "a", "b")
    assert execute(plan, Script({"a": full}), context) is ExitCode.RUN_FAILED
    assert [row.status for row in rows(directory).values()] == ["failed", "not_run"]


@pytest.mark.parametrize("error", [SystemExit(0), RuntimeError("a bug")])
def test_an_executor_that_raises_never_ends_in_success(
    directory: Path, context: RunContext, error: BaseException
) -> None:
    def broken(job: Job) -> JobResult:
        raise error

    raised = RunError if isinstance(error, SystemExit) else RuntimeError
    with pytest.raises(raised, match=r"SystemExit\(0\)|a bug"):
        execute(make_plan(directory, "a", "b", "c"), Script({"b": broken}), context)
    assert [row.status for row in rows(directory).values()] == ["ok", "not_run", "not_run"]
    run = runfiles.read(directory).run
    assert (run.complete, run.exit_code) == (False, int(ExitCode.RUN_FAILED))
    assert run.finished_at is not None
    assert not (directory / ".staging").exists()


def test_an_executor_that_forgets_a_job_is_no_success(directory: Path, context: RunContext) -> None:
    plan = make_plan(directory, "a", "b")
    forgetful = Script({})
    forgetful.run = lambda jobs: Script({}).run(list(jobs)[:1])  # type: ignore[method-assign]
    assert execute(plan, forgetful, context) is ExitCode.MODELS_FAILED
    assert rows(directory)["b"].status == "not_run"


def test_the_run_log_holds_what_was_printed_with_times(
    directory: Path, context: RunContext, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def look(job: Job) -> None:
        seen.append((directory / "run.log").read_text())

    execute(make_plan(directory, "a", "b"), Script({"b": failed}, look), context)
    lines = (directory / "run.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", line) for line in lines)
    told = [line[21:] for line in lines]
    assert told[0] == "started: python -m converter +experiment=zoo"
    assert told[1:3] == [
        "[1/2] ok       a  3.5 s",
        "[2/2] failed   b  3.5 s  EXPORT",
    ]
    assert told[3] == "finished: exit code 1"
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line for line in told[4:] if line] == printed[2:]
    assert [len(text.splitlines()) for text in seen] == [1, 2]  # a killed run has its lines


def test_the_run_log_of_an_interrupted_run_says_how_to_go_on(
    directory: Path, context: RunContext
) -> None:
    def interrupt(job: Job) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    execute(make_plan(directory, "a"), Script({}, interrupt), context)
    text = (directory / "run.log").read_text()
    assert "finished: exit code 143" in text
    assert f"Interrupted by SIGTERM: 0 of 1 models finished; results in {directory}. " in text
    assert f"Resume with: python -m converter resume {directory}\n" in text


def test_a_link_in_place_of_the_run_log_is_not_followed(
    tmp_path: Path, directory: Path, context: RunContext
) -> None:
    directory.mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    (directory / "run.log").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"run\.log belongs: remove it"):
        execute(make_plan(directory, "a"), Script({}), context)
    assert (tmp_path / "precious").read_text() == "precious"


def test_while_it_runs_the_manifest_says_what_is_planned(
    directory: Path, context: RunContext
) -> None:
    seen: list[Manifest] = []
    script = Script({}, lambda _: seen.append(runfiles.read(directory)))
    execute(make_plan(directory, "a"), script, context)
    assert [row.status for row in seen[0].models] == ["not_run"]
    assert (seen[0].run.complete, seen[0].run.exit_code) == (False, None)


def test_a_directory_that_another_process_holds_is_left_alone(
    directory: Path, context: RunContext
) -> None:
    code = (
        "import sys; from pathlib import Path; from converter.layout.runlock import locked\n"
        f"with locked(Path({str(directory)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=rf"held by process {holder.pid} on .*hydra.run.dir=DIR"):
            execute(make_plan(directory, "a"), Script({}), context)
        assert files(directory) == {".lock"}
        holder.communicate()


def test_a_lock_whose_holder_was_killed_is_free(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / ".lock").write_text("process 1 on nowhere\n")
    with locked(directory):
        assert f"process {os.getpid()} on " in (directory / ".lock").read_text()


def test_a_lock_on_a_file_system_that_cannot_be_written_any_more_is_left(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir(parents=True)

    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "unlink", read_only)
    with locked(directory) as held:
        held.check()
    assert (directory / ".lock").exists()
    monkeypatch.undo()
    with locked(directory):  # and is nobody's
        pass


def test_a_directory_that_holds_a_run_is_refused(directory: Path, context: RunContext) -> None:
    execute(make_plan(directory, "a"), Script({}), context)
    before = (directory / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match=r"already holds a run\. Resume it with `python -m"):
        execute(make_plan(directory, "a"), Script({}), context)
    assert (directory / "manifest.json").read_bytes() == before
    assert not (directory / ".lock").exists()


def test_a_directory_that_cannot_be_written_stops_before_any_work(
    tmp_path: Path, context: RunContext
) -> None:
    (tmp_path / "zoo").write_text("a file")
    script = Script({})
    with pytest.raises(RunError, match=r"cannot be written: .*zoo.*hydra.run.dir=DIR"):
        execute(make_plan(context.directory, "a"), script, context)
    assert not script.closed


def test_latest_moves_on_and_leaves_alone_what_is_no_link(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        delivery.link_latest(tmp_path / name)
        assert os.readlink(tmp_path / "latest") == name
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    delivery.link_latest(tmp_path / "one")
    assert not (tmp_path / "latest").is_symlink()


def test_a_directory_elsewhere_gets_no_link(tmp_path: Path) -> None:
    spec = standard.spec(benchmark={"providers": []}, reports=[])
    elsewhere = RunContext(tmp_path / "chosen" / "run", "zoo", [], "0" * 64, "", spec)
    assert execute(make_plan(elsewhere.directory, "a"), Script({}), elsewhere) is ExitCode.OK
    assert not (tmp_path / "chosen" / "latest").is_symlink()


def test_the_manifest_is_plain_json(directory: Path, context: RunContext) -> None:
    execute(make_plan(directory, "a"), Script({}), context)
    data = json.loads((directory / "manifest.json").read_text())
    assert data["schema_version"] == "2"
    assert data["environment"]["packages"]["pydantic"]
    (model,) = data["models"]
    assert (model["status"], model["decided_by"]) == ("ok", "onnx")
    assert model["artifacts"][0]["stages"]["load"]["status"] == "ok"


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be held by a file that no third process can see."""
    path, flock = tmp_path / "lock", fcntl.flock
    removed = []

    def slow(descriptor: int, operation: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    descriptor = lockfile.taken(path, str)
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    with pytest.raises(lockfile.HeldError, match=f"process {os.getpid()} on "):
        lockfile.taken(path, str)
    os.close(descriptor)


def test_a_run_in_a_thread_leaves_signals_alone() -> None:
    """Python takes handlers from the main thread only."""
    from converter.layout.interrupts import Interrupts

    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def run() -> None:
        with Interrupts() as interrupts:
            seen.append((interrupts.received, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
