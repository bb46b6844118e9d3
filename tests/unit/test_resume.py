"""``python -m converter resume``: runs that end early, with a script in place of workers."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.cli import command_line
from converter.layout import runfiles
from converter.model.batch import ExecutorSpec
from converter.model.errors import Code, ExitCode
from converter.model.job import Job
from converter.model.manifest import ArtifactRow, Manifest, ModelRecord, model_of
from converter.model.records import ErrorRecord, JobResult
from converter.plan import contents, packages
from converter.plan.keys import Keys
from converter.plugins import executors, reports
from converter.plugins.executors import Executor
from converter.sweep.record import Sweep
from tests.unit.test_runner import Act, Script, failed, ok

MODELS = [f"+models.{name}={{source: conv_bn_relu}}" for name in ("a", "b", "c")]
MODELS += ["benchmark=off", "reports=[csv]"]
DIRECTORY = "runs/night"


class Stage:
    """The command in this process; which models it ran is in ``ran``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.ran: list[str] = []
        self.acts: dict[str, Act] = {}
        self.stop_before: str | None = None
        self._capsys = capsys
        monkeypatch.setattr(executors, "create", self._create)

    def _create(self, spec: ExecutorSpec) -> Executor:
        return Script(self.acts, self._between)

    def _between(self, job: Job) -> None:
        if job.name == self.stop_before:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.ran.append(job.name)

    def command(self, *words: str) -> tuple[int, str, str]:
        self.ran.clear()
        code = command_line.main(words)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def run(self, *words: str) -> tuple[int, str, str]:
        return self.command(*MODELS, f"hydra.run.dir={DIRECTORY}", *words)

    def resume(self) -> tuple[int, str, str]:
        self.stop_before = None
        return self.command("resume", DIRECTORY)


@pytest.fixture
def stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Stage:
    monkeypatch.chdir(tmp_path)
    return Stage(monkeypatch, capsys)


@pytest.fixture
def interrupted(stage: Stage) -> Stage:
    """Stopped before the last of three models."""
    stage.stop_before = "c"
    assert stage.run("store.use=false")[0] == ExitCode.TERMINATED
    assert stage.ran == ["a", "b"]
    return stage


def rows() -> dict[str, ArtifactRow]:
    return {row.label: row for row in runfiles.read(Path(DIRECTORY)).rows}


def normalised(directory: Path) -> dict[str, Any]:
    """A manifest without what may differ: ids, times, attempts, memory, latency."""
    text = json.loads((directory / "manifest.json").read_text())
    for key in ("id", "started_at", "finished_at", "overrides", "config_sha256"):
        del text["run"][key]
    for model in text["models"]:
        for artifact in model["artifacts"]:
            artifact["attempts"] = 0
            for record in artifact["stages"].values():
                record["seconds"] = record["peak_rss_bytes"] = None
    found: dict[str, Any] = text
    return found


def test_what_is_finished_stays_and_the_rest_is_done(interrupted: Stage) -> None:
    before = rows()
    published = Path(DIRECTORY, "models/a/a.onnx").stat().st_ctime_ns
    begun = runfiles.read(Path(DIRECTORY)).run
    code, out, _ = interrupted.resume()
    assert (code, interrupted.ran) == (0, ["c"])
    assert "resumed: 2 of 3 models are done" in out
    assert Path(DIRECTORY, "models/a/a.onnx").stat().st_ctime_ns == published
    assert rows()["a"] == before["a"]
    run = runfiles.read(Path(DIRECTORY)).run
    assert (run.complete, run.exit_code, run.counts) == (True, 0, {"ok": 3})
    assert (run.id, run.started_at) == (begun.id, begun.started_at)
    assert "resumed: 2 of 3" in Path(DIRECTORY, "run.log").read_text()
    lines = Path(DIRECTORY, "results.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines) == ["a", "b", "c"]


def test_a_run_has_the_least_sandbox_of_its_parts(interrupted: Stage) -> None:
    path = Path(DIRECTORY, "manifest.json")
    record = json.loads(path.read_text())
    # Its first part was on another kernel.
    record["run"]["sandbox"] = "not offered"
    path.write_text(json.dumps(record))
    interrupted.resume()
    assert runfiles.read(Path(DIRECTORY)).run.sandbox == "not offered"


def test_the_manifest_is_that_of_an_uninterrupted_run(interrupted: Stage) -> None:
    interrupted.resume()
    code, _, _ = interrupted.command(*MODELS, "hydra.run.dir=whole", "store.use=false")
    assert code == 0
    assert normalised(Path(DIRECTORY)) == normalised(Path("whole"))


def test_the_farewell_of_an_interrupted_run_is_the_command_that_resumes_it(stage: Stage) -> None:
    stage.stop_before = "b"
    _, out, _ = stage.run()
    told = re.search(r"Resume with: python -m converter (resume .*)$", out, re.MULTILINE)
    assert told is not None
    stage.stop_before = None
    assert stage.command(*told[1].split())[0] == 0


def test_a_run_that_is_started_again_in_its_folder_names_resume(interrupted: Stage) -> None:
    code, _, err = interrupted.run()
    assert code == ExitCode.CONFIG
    assert f"Resume it with `python -m converter resume {Path(DIRECTORY).absolute()}`" in err


def test_a_complete_run_says_so_and_keeps_its_exit_code(stage: Stage) -> None:
    stage.acts = {"b": failed}
    assert stage.run()[0] == ExitCode.MODELS_FAILED
    before = Path(DIRECTORY, "manifest.json").read_bytes()
    code, out, _ = stage.resume()
    assert (code, stage.ran) == (1, [])
    assert out.startswith("complete, nothing to resume: 3 models: 2 ok, 1 failed\n")
    assert Path(DIRECTORY, "manifest.json").read_bytes() == before


def test_a_run_that_was_killed_after_its_manifest_gets_its_reports(stage: Stage) -> None:
    stage.run()
    whole = sorted(Path(DIRECTORY).rglob("*"))
    Path(DIRECTORY, "manifest.csv").unlink()
    Path(DIRECTORY, ".lock").write_text("process 1 on nowhere\n")
    code, out, _ = stage.resume()
    assert (code, stage.ran) == (0, [])
    assert "resumed: 3 of 3 models are done" in out
    assert sorted(Path(DIRECTORY).rglob("*")) == whole


def test_a_disk_that_fills_up_after_the_manifest_leaves_a_run_to_resume(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(reports, "write", full)
        code, out, _ = stage.run()
    assert code == ExitCode.RUN_FAILED
    assert "Resume with: python -m converter resume" in out
    run = runfiles.read(Path(DIRECTORY)).run
    assert (run.complete, run.exit_code, run.ended_by) == (False, 3, "failure")
    code, out, _ = stage.resume()
    assert (code, stage.ran) == (0, [])
    assert "resumed: 3 of 3 models are done" in out
    assert Path(DIRECTORY, "manifest.csv").is_file()
    run = runfiles.read(Path(DIRECTORY)).run
    assert (run.complete, run.exit_code, run.ended_by) == (True, 0, None)


def test_a_failed_model_is_finished(stage: Stage) -> None:
    stage.acts, stage.stop_before = {"a": failed}, "b"
    stage.run()
    stage.acts = {}
    code, _, _ = stage.resume()
    assert (code, stage.ran) == (1, ["b", "c"])
    error = rows()["a"].error
    assert error is not None
    assert (Path(DIRECTORY) / str(error.log)).is_file()


def test_a_model_that_found_the_disk_full_is_done_again(stage: Stage) -> None:
    def full(job: Job) -> JobResult:
        message = f"cannot write {job.staging_dir}: {os.strerror(errno.ENOSPC)}"
        error = ErrorRecord(stage="publish", code=Code.IO, message=message)
        return failed(job).model_copy(update={"error": error})

    stage.acts = {"b": full}
    code, out, _ = stage.run()
    assert code == ExitCode.RUN_FAILED
    assert "Resume with: python -m converter resume" in out
    stage.acts = {}
    code, out, _ = stage.resume()
    assert (code, stage.ran) == (0, ["b", "c"])
    assert "again  b: it could not be written: " in out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (Code.NO_NODE, "no node ran it to its end: gone"),
        (Code.IO, "it could not be written: gone"),
    ],
)
def test_what_a_cluster_did_to_a_model_of_a_complete_run_is_done_again(
    stage: Stage, code: Code, said: str
) -> None:
    def lost(job: Job) -> JobResult:
        return failed(job).model_copy(
            update={"error": ErrorRecord(stage="publish", code=code, message="gone")}
        )

    stage.acts = {"b": lost}
    stage.run()
    path = Path(DIRECTORY, "manifest.json")
    run = json.loads(path.read_text())
    # On a cluster a row of IO ends no run: it may be the node's.
    run["run"] |= {"complete": True, "ended_by": None, "exit_code": 1}
    path.write_text(json.dumps(run))
    stage.acts = {}
    exit_code, out, _ = stage.resume()
    assert exit_code == 0
    assert "b" in stage.ran
    assert f"again  b: {said}" in out


@pytest.mark.parametrize("torn", [b"", b'{"name": "b", "stat', b"\xff\x00\n", b"[]\n{}\n"])
def test_a_torn_line_is_a_model_that_is_done_again(interrupted: Stage, torn: bytes) -> None:
    path = Path(DIRECTORY, "results.jsonl")
    first = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(first + torn)
    code, _, _ = interrupted.resume()
    assert (code, interrupted.ran) == (0, ["b", "c"])
    for line in path.read_bytes().splitlines():
        ModelRecord.model_validate_json(line)


def test_of_two_lines_of_a_model_the_last_counts(interrupted: Stage) -> None:
    path = Path(DIRECTORY, "results.jsonl")
    row = rows()["a"]
    earlier = row.model_copy(update={"tags": ["earlier"]})
    path.write_text(f"{model_of([earlier]).model_dump_json()}\n" + path.read_text())
    interrupted.resume()
    assert rows()["a"] == row


def flip(folder: Path) -> None:
    (folder / "a.onnx").write_bytes(b"a whole lie!")


def lose(folder: Path) -> None:
    (folder / "a.onnx.data").unlink()


def link(folder: Path) -> None:
    (folder / "a.onnx").rename(folder / "b")
    (folder / "a.onnx").symlink_to("b")


@pytest.mark.parametrize("damage", [flip, lose, link])
def test_a_finished_file_that_was_damaged_is_made_again(
    interrupted: Stage, damage: Callable[[Path], None]
) -> None:
    damage(Path(DIRECTORY, "models/a"))
    code, out, _ = interrupted.resume()
    assert (code, interrupted.ran) == (0, ["a", "c"])
    assert re.search(r"again  a: models/a/a\.onnx\S* is not as recorded", out)
    assert Path(DIRECTORY, "models/a/a.onnx").read_bytes() == b"a whole file"


@pytest.mark.parametrize("use", ["true", "false"])
def test_an_upgrade_in_between_builds_again_and_says_what_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    stage.stop_before = "c"
    stage.run(f"store.use={use}")
    installed = packages.versions()
    monkeypatch.setattr(packages, "versions", lambda: {**installed, "torch": "99.0"})
    code, out, _ = stage.resume()
    assert (code, stage.ran) == (0, ["a", "b", "c"])
    assert f"again  a: torch {installed['torch']} → 99.0" in out
    assert runfiles.read(Path(DIRECTORY)).environment.packages["torch"] == "99.0"


@pytest.mark.parametrize(
    ("use", "why"), [("true", "own.py changed"), ("false", r"\S*/own\.py was edited since")]
)
def test_a_source_that_was_edited_in_between_is_built_again(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str, why: str
) -> None:
    monkeypatch.setenv("CONVERTER_TRUST", str(tmp_path))
    (tmp_path / "own.py").write_text("old = 1")
    own = "+models.own={source: {file: own.py, name: M}, inputs: {x: {shape: [1]}}}"
    stage.stop_before = "b"
    words = [own, *MODELS, "select=[own, a, b]", f"hydra.run.dir={DIRECTORY}"]
    stage.command(*words, f"store.use={use}")
    (tmp_path / "own.py").write_text("new = 2")
    code, out, _ = stage.resume()
    assert code == 0
    assert re.search(f"again  own: {why}", out)
    assert sorted(stage.ran) == ["b", "own"]


def test_without_a_store_no_key_is_made(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keys, "of", lambda *_: pytest.fail("a key was made"))
    assert stage.run("store.use=false")[0] == 0
    assert rows()["a"].job_key is None


@pytest.mark.parametrize("use", ["true", "false"])
def test_a_source_that_is_edited_while_its_job_runs_fails_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setenv("CONVERTER_TRUST", str(tmp_path))
    (tmp_path / "own.py").write_text("import helper")
    (tmp_path / "helper.py").write_text("old = 1")
    time.sleep(0.06)

    def editing(job: Job) -> JobResult:
        (tmp_path / "helper.py").write_text("new = 2")
        read = [str(tmp_path / name) for name in ("own.py", "helper.py")]
        return ok(job).model_copy(update={"files_read": read})

    stage.acts = {"own": editing}
    own = "+models.own={source: {file: own.py, name: M}, inputs: {x: {shape: [1]}}}"
    assert stage.command(own, f"hydra.run.dir={DIRECTORY}", f"store.use={use}")[0] == 1
    error = rows()["own"].error
    assert error is not None
    assert error.code is Code.INPUT_CHANGED
    assert "helper.py" in error.message


def test_a_signal_ends_the_look_at_the_code_of_the_models(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVERTER_TRUST", str(tmp_path))
    (tmp_path / "own.py").write_text("import helper")
    (tmp_path / "helper.py").touch()
    own = "+models.own={source: {file: own.py, name: M}, inputs: {x: {shape: [1]}}}"
    parse = contents._imports

    def pressing(data: bytes) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return parse(data)

    with monkeypatch.context() as patched:
        patched.setattr(contents, "_imports", pressing)
        code, out, _ = stage.command(own, *MODELS[3:], f"hydra.run.dir={DIRECTORY}")
    assert (code, stage.ran) == (ExitCode.INTERRUPTED, [])
    assert "Interrupted by SIGINT: 0 of 1 models finished" in out
    code, out, err = stage.resume()
    assert (code, stage.ran) == (0, ["own"]), out + err


def test_what_a_killed_run_left_half_done_is_gone(interrupted: Stage) -> None:
    directory = Path(DIRECTORY)
    left = [
        "models/c/c.onnx.data",
        ".staging/c/c.onnx",
        ".manifest.json.x1",
        "models/c/.result.json.y",
    ]
    for name in left:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("half")

    def without_data(job: Job) -> JobResult:
        result = ok(job)
        return result.model_copy(update={"files": result.files[:1]})

    interrupted.acts = {"c": without_data}
    assert interrupted.resume()[0] == 0
    assert [name for name in left if (directory / name).exists()] == []
    assert Path(DIRECTORY, "models/c/c.onnx").is_file()


def test_a_run_that_is_killed_before_its_first_row_is_resumed(interrupted: Stage) -> None:
    for name in ("results.jsonl", "manifest.json", "run.log"):
        Path(DIRECTORY, name).unlink()
    code, _, _ = interrupted.resume()
    assert (code, interrupted.ran) == (0, ["a", "b", "c"])


def test_a_run_resumes_from_another_folder(
    interrupted: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    interrupted.stop_before = None
    assert interrupted.command("resume", f"../{DIRECTORY}")[0] == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_point_of_a_sweep_is_resumed_and_a_sweep_names_its_points(stage: Stage) -> None:
    stage.stop_before = "b"
    code, _, _ = stage.command(*MODELS, "-m", "opset=17,18", "hydra.sweep.dir=sweep")
    assert code == ExitCode.TERMINATED
    code, _, err = stage.command("resume", "sweep")
    assert code == ExitCode.CONFIG
    assert "is a sweep: resume a point. Those that are not complete: opset=17." in err
    assert "Never begun: opset=18. Start the sweep again for them, in a new folder;" in err
    again = shlex.join(["python", "-m", "converter", "-m", *MODELS, "opset=17,18"])
    assert " ".join(again.split()) in " ".join(err.split())
    stage.stop_before = None
    assert stage.command("resume", "sweep/opset=17")[0] == 0
    assert stage.ran == ["b", "c"]
    sweep = record_of("sweep")
    assert [(point.state, point.exit_code) for point in sweep.points] == [
        ("done", 0),
        ("not_run", None),
    ]
    assert (sweep.sweep.complete, sweep.sweep.exit_code) == (False, ExitCode.TERMINATED)


def test_a_sweep_that_began_no_point_says_how_to_start_it(stage: Stage) -> None:
    stage.stop_before = "a"
    stage.command(*MODELS, "-m", "opset=17,18", "hydra.sweep.dir=sweep")
    record = record_of("sweep")
    never = [point.model_copy(update={"state": "not_run"}) for point in record.points]
    Path("sweep/sweep.json").write_text(
        record.model_copy(update={"points": never}).model_dump_json()
    )
    shutil.rmtree("sweep/opset=17")
    code, _, err = stage.command("resume", "sweep")
    assert code == ExitCode.CONFIG
    assert "Never begun: opset=17, opset=18. Start the sweep again" in err


def test_a_sweep_is_complete_when_its_last_point_was_resumed(stage: Stage) -> None:
    stage.stop_before = "c"
    code, _, _ = stage.command(*MODELS, "-m", "opset=17", "hydra.sweep.dir=sweep")
    assert (code, record_of("sweep").sweep.complete) == (ExitCode.TERMINATED, False)
    stage.stop_before, stage.acts = None, {"c": failed}
    (point,) = record_of("sweep").points
    assert stage.command("resume", f"sweep/{point.directory}")[0] == ExitCode.MODELS_FAILED
    sweep = record_of("sweep")
    assert (sweep.sweep.complete, sweep.sweep.exit_code) == (True, ExitCode.MODELS_FAILED)
    assert [model.cells[0].status for model in sweep.models] == ["ok", "ok", "failed"]
    assert "failed" in Path("sweep/sweep.html").read_text()


def record_of(sweep: str) -> Sweep:
    return Sweep.model_validate_json(Path(sweep, "sweep.json").read_bytes())


def test_a_folder_of_runs_names_those_that_are_not_complete(interrupted: Stage) -> None:
    Path("runs/latest").symlink_to("night")
    code, _, err = interrupted.command("resume", "runs")
    assert code == ExitCode.CONFIG
    assert "runs holds several runs. Those that are not complete: night." in err


def test_a_folder_that_is_no_run_is_answered_with_those_there_are(stage: Stage) -> None:
    for name in ("zoo/2026-01-01", "zoo/2026-01-02"):
        Path("outputs", name, ".hydra").mkdir(parents=True)
    Path("empty").mkdir()
    code, _, err = stage.command("resume", "empty")
    assert code == ExitCode.CONFIG
    assert "There are outputs/zoo/2026-01-02, outputs/zoo/2026-01-01." in err
    assert "Delete" not in err


@pytest.mark.parametrize("name", ["none", "empty", "unstarted"])
def test_without_a_run_there_is_nothing_to_resume(stage: Stage, name: str) -> None:
    Path("empty").mkdir()
    Path("unstarted/.hydra").mkdir(parents=True)
    Path("unstarted/.hydra/config.yaml").write_text("opset: 17\n")
    code, _, err = stage.command("resume", name)
    assert code == ExitCode.CONFIG
    told = {
        "none": "there is no run directory",
        "empty": "is not a run directory: it has no folder .hydra. Name the folder of a run",
        "unstarted": "holds no run that has begun. Delete the folder and start again.",
    }
    assert told[name] in err


def test_a_saved_configuration_that_cannot_be_read_is_named(interrupted: Stage) -> None:
    Path(DIRECTORY, ".hydra/config.yaml").write_text("models: {a: [\n")
    code, _, err = interrupted.resume()
    assert code == ExitCode.CONFIG
    assert ".hydra: cannot be read" in err


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("sweep:", "swept:"),
        ("choices:", "chosen:"),
        ("cwd: /", "cwd: 7 # "),
        ("cwd: /", 'cwd: "\\0" # '),
        ("subdir: ''", "subdir: {a: 1}"),
        ("hydra:", "- hydra:"),
        ("hydra:", "hydra: 5 #"),
        ("hydra:", "[" * 5000),
    ],
)
def test_a_part_of_hydras_own_that_was_damaged_is_named(
    interrupted: Stage, written: str, text: str
) -> None:
    path = Path(DIRECTORY, ".hydra/hydra.yaml")
    whole = path.read_text()
    assert written in whole
    path.write_text(whole.replace(written, text, 1))
    code, _, err = interrupted.resume()
    assert code == ExitCode.CONFIG, err
    assert ".hydra: cannot be read" in err


def test_a_run_that_goes_on_is_left_alone(interrupted: Stage) -> None:
    code = (
        "import sys; from pathlib import Path; from converter.layout.runlock import locked\n"
        f"with locked(Path({DIRECTORY!r}), holds_run=True): print('held', flush=True); input()"
    )
    before = Path(DIRECTORY, "manifest.json").read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        exit_code, _, err = interrupted.resume()
        holder.communicate("\n")
    assert exit_code == ExitCode.RUN_FAILED
    assert f"is held by process {holder.pid} on " in err
    assert Path(DIRECTORY, "manifest.json").read_bytes() == before


def test_a_resumed_run_can_be_interrupted_again(interrupted: Stage) -> None:
    interrupted.stop_before = "c"
    assert interrupted.command("resume", DIRECTORY)[0] == ExitCode.TERMINATED
    found: Manifest = runfiles.read(Path(DIRECTORY))
    assert [row.status for row in found.models] == ["ok", "ok", "not_run"]
    assert interrupted.resume()[0] == 0
