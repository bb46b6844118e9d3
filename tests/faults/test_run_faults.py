"""The whole command against models that crash, hang, exit or ask; signals; a killed runner."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import MARK, all_gone

from converter.layout import runfiles
from converter.model.manifest import ArtifactRow

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.faults, pytest.mark.e2e]

MODELS = """
import ctypes, os, signal, subprocess, sys, time
import torch

class Good(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(x)

class Segfault(Good):
    def forward(self, x):
        ctypes.string_at(0)

class Exits(Good):
    def forward(self, x):
        os._exit(0)

class Asks(Good):
    def forward(self, x):
        return self.linear(x) * float(input("by how much? "))

class Hangs(Good):
    def forward(self, x):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"],
                         start_new_session=True)
        time.sleep(300)
"""


def path() -> str:
    return os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))


class Runs:
    """Starts ``python -m converter`` on models of ``MODELS``, each process marked."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder = folder
        self.mark = mark
        self.directory = folder / "run"
        (folder / "models.py").write_text(MODELS)

    def command(self, models: dict[str, str], *overrides: str) -> list[str]:
        entries = [
            f"+models.{name}={{source: {{file: models.py, name: {kind}}}, "
            "inputs: {x: {shape: [2, 8]}}}"
            for name, kind in models.items()
        ]
        where = f"hydra.run.dir={self.directory}"
        words = [*entries, where, "benchmark=off", *overrides]
        return [sys.executable, "-m", "converter", *words]

    @contextmanager
    def started(self, command: list[str]) -> Iterator[subprocess.Popen[str]]:
        environment = {
            **os.environ,
            "PYTHONPATH": path(),
            "CONVERTER_TRUST": str(self.folder),
            MARK: self.mark,
        }
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def done(self, command: list[str], timeout: float = 120) -> tuple[int, str]:
        with self.started(command) as process:
            output, _ = process.communicate(timeout=timeout)
        assert all_gone(self.mark, set(), 2) == {}
        return process.returncode, output

    def rows(self) -> dict[str, ArtifactRow]:
        return {row.label: row for row in runfiles.read(self.directory).rows}

    def wait_for(self, path: str, timeout: float = 60) -> None:
        end = time.monotonic() + timeout
        while not (self.directory / path).exists():
            assert time.monotonic() < end, f"{path} never came"
            time.sleep(0.05)


@pytest.fixture
def runs(tmp_path: Path, request: pytest.FixtureRequest) -> Runs:
    return Runs(tmp_path, f"{os.getpid()}-{request.node.name}-{time.time_ns()}")


def test_bad_models_cost_only_themselves(runs: Runs) -> None:
    models = {
        "crash": "Segfault",
        "exits": "Exits",
        "asks": "Asks",
        "hang": "Hangs",
        "good": "Good",
    }
    limits = ["executor.timeout_s=8", "executor.grace_s=0.5", "executor.workers=2"]
    code, output = runs.done(runs.command(models, *limits))
    assert code == 1, output
    rows = runs.rows()
    found = {name: (row.status, row.error and row.error.code) for name, row in rows.items()}
    assert found == {
        "crash": ("crashed", "SIGNAL"),
        "exits": ("crashed", "NO_RESULT"),
        "asks": ("failed", "STDIN"),
        "hang": ("timeout", "TIMEOUT"),
        "good": ("ok", None),
    }
    assert rows["crash"].attempts == 2
    assert rows["crash"].error is not None
    assert rows["crash"].error.message.startswith("killed by SIGSEGV in stage reference; log: File")
    assert "models.py" in (runs.directory / "models/crash/log.txt").read_text()
    assert rows["crash"].error.stage == "reference"
    for name in ("crash", "exits", "asks", "hang"):
        assert not list((runs.directory / "models" / name).glob("*.onnx*"))
        assert str(runs.directory / "models" / name / "log.txt") in output
    assert "5 models: 1 ok, 2 crashed, 1 failed, 1 timeout" in output
    assert runfiles.read(runs.directory).run.complete


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_stops_cleanly(runs: Runs, number: signal.Signals, code: int) -> None:
    command = runs.command({"good": "Good", "hang": "Hangs", "last": "Good"}, "executor.workers=1")
    with runs.started(command) as process:
        runs.wait_for("models/good/result.json")
        runs.wait_for("models/hang/log.txt")
        before = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert time.monotonic() - before < 6
    assert process.returncode == code, output
    assert all_gone(runs.mark, set(), 2) == {}
    found = {name: row.status for name, row in runs.rows().items()}
    assert found == {"good": "ok", "hang": "not_run", "last": "not_run"}
    assert f"1 of 3 models finished; results in {runs.directory}" in output
    assert not (runs.directory / ".staging").exists()


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ("", " was removed while the run went on, with all that it had made: run it again."),
        (".lock", "/.lock was removed or replaced while the run went on"),
    ],
)
def test_a_run_directory_that_is_removed_ends_the_run(runs: Runs, removed: str, words: str) -> None:
    command = runs.command({"good": "Good", "hang": "Hangs"}, "executor.workers=1")
    with runs.started(command) as process:
        runs.wait_for("models/good/result.json")
        runs.wait_for("models/hang/log.txt")
        if removed:
            (runs.directory / removed).unlink()
        else:
            shutil.rmtree(runs.directory)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 3, output
    assert output.splitlines()[-1].startswith(f"run: {runs.directory}{words}")
    assert "Traceback" not in output
    assert all_gone(runs.mark, set(), 2) == {}
    # Nothing half is made anew, and what is there says that it is not complete.
    assert runs.directory.exists() == bool(removed)
    if removed:
        assert not runfiles.read(runs.directory).run.complete
        (line,) = (runs.directory / "results.jsonl").read_text().splitlines()
        assert json.loads(line)["name"] == "good"


def test_a_signal_ends_a_sweep_and_its_record_is_true(runs: Runs) -> None:
    models = {"good": "Good", "hang": "Hangs"}
    command = runs.command(models, "-m", "seed=0,1", "executor.workers=1")
    command = [word.replace("hydra.run.dir", "hydra.sweep.dir") for word in command]
    record = runs.directory / "sweep.json"
    with runs.started(command) as process:
        runs.wait_for("seed=0/models/good/result.json")
        runs.wait_for("seed=0/models/hang/log.txt")
        begun = json.loads(record.read_text())
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert all_gone(runs.mark, set(), 2) == {}
    assert [point["state"] for point in begun["points"]] == ["started", "not_run"]
    ended = json.loads(record.read_text())
    assert [(point["state"], point["exit_code"]) for point in ended["points"]] == [
        ("done", 130),
        ("not_run", None),
    ]
    assert (ended["sweep"]["exit_code"], ended["sweep"]["complete"]) == (130, False)
    found = {
        model["name"]: [cell["status"] for cell in model["cells"]] for model in ended["models"]
    }
    assert found == {"good": ["ok", "not_run"], "hang": ["not_run", "not_run"]}
    assert f"Interrupted: 0 of 2 points finished; results in {runs.directory}." in output
    resume = f"Resume with: python -m converter resume {runs.directory / 'seed=0'}"
    assert output.splitlines()[-1].endswith(resume)
    assert (runs.directory / "sweep.html").is_file()


def test_a_signal_while_the_libraries_load_stops_at_once(runs: Runs) -> None:
    with runs.started(runs.command({"good": "Good"})) as process:
        runs.wait_for("models/good/job.json")
        before = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert time.monotonic() - before < 6
    assert process.returncode == 130, output
    assert all_gone(runs.mark, set(), 2) == {}


def test_nothing_survives_a_runner_that_is_killed(runs: Runs) -> None:
    with runs.started(runs.command({"a": "Hangs", "b": "Hangs"}, "executor.workers=2")) as process:
        runs.wait_for("models/a/log.txt")
        runs.wait_for("models/b/log.txt")
        time.sleep(1)
        process.kill()
        process.wait()
        assert all_gone(runs.mark, set(), 3) == {}
    assert {row.status for row in runs.rows().values()} == {"not_run"}
    assert not runfiles.read(runs.directory).run.complete


def test_a_second_runner_in_the_same_directory_says_who_holds_it(runs: Runs) -> None:
    with runs.started(runs.command({"hang": "Hangs"})) as first:
        runs.wait_for("models/hang/job.json")
        before = (runs.directory / "manifest.json").read_bytes()
        with runs.started(runs.command({"good": "Good"})) as second:
            output, _ = second.communicate(timeout=30)
        assert second.returncode == 3, output
        assert str(first.pid) in output
        assert (runs.directory / "manifest.json").read_bytes() == before
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=20)
    assert first.returncode == 130


def test_an_output_that_cannot_be_written_stops_before_any_work(runs: Runs) -> None:
    runs.directory.write_text("a file is in the way")
    code, output = runs.done(runs.command({"good": "Good"}))
    assert code == 3, output
    assert str(runs.directory) in output
    assert "hydra.run.dir=DIR" in output
