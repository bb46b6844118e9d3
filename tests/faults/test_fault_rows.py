"""The list of faults row by row: what is wrong with a configuration, and with a model.

Rows on processes, disks, clusters and the store have tests of their own; ``docs/faults.md`` says
which.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from row_configurations import MINE, WRONG, Wrong
from row_models import FAULTY, Faulty, net, write_files

from converter.cli import command_line
from converter.layout import runfiles
from converter.model.manifest import ArtifactRow

Command = Callable[..., "subprocess.CompletedProcess[str]"]
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.faults, pytest.mark.e2e]


def test_the_table_of_faults_names_the_rows_that_are_here() -> None:
    lines = (REPOSITORY / "docs/faults.md").read_text(encoding="utf-8").splitlines()
    for test, rows in (
        (test_a_wrong_configuration_is_refused, {one.row for one in WRONG}),
        (test_a_faulty_model_has_its_row, {one.row for one in FAULTY}),
    ):
        named = [line for line in lines if f"/{Path(__file__).name}::{test.__name__}`" in line]
        assert {int(line.split("|")[1]) for line in named} == rows


# Configurations


@pytest.fixture(scope="module")
def warm() -> None:
    """Hydra takes half a second to import, which is no part of a row."""
    command_line.main(["seed=x"])


def refused(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> str:
    """What a command says that is refused; it leaves nothing."""
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    code = command_line.main(words)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.startswith("configuration: ")
    assert list(work.iterdir()) == []
    return err


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.row}-{wrong.name}")
def test_a_wrong_configuration_is_refused(
    wrong: Wrong,
    warm: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    mine = tmp_path / "mine"
    for name, text in {**MINE, **dict([wrong.file] if wrong.file else [])}.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    err = refused(["--config-dir", str(mine), *wrong.words], tmp_path, monkeypatch, capfd)
    took = time.process_time() - began
    assert [part for part in wrong.said if part.replace("{mine}", str(mine)) not in err] == []
    assert took < (wrong.seconds or 60)
    assert "hunter2" not in err
    assert "x" * 201 not in err
    assert "9" * 201 not in err


@pytest.mark.parametrize("content", ["{", '{"schema_version": "99"}', "[" * 100_000])
@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["report", "{run}"], "manifest.json"),
        (["compare", "{run}", "{run}"], "manifest.json"),
        (["+models.m={source: srcnn}", "baseline={run}"], "manifest.json"),
        (["+models.m={source: srcnn}", "publish_to={run}"], "index.json"),
        (["verify", "{run}"], "index.json"),
    ],
    ids=lambda value: value[-1].split("=")[0] if isinstance(value, list) else "",
)
def test_row_66_a_record_that_is_damaged_is_named(
    words: list[str],
    file: str,
    content: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / file).write_text(content)
    asked = [word.format(run=run) if "{run}" in word else word for word in words]
    assert f"{run}/{file}" in refused(asked, tmp_path, monkeypatch, capfd)
    assert os.listdir(run) == [file]


def test_row_17_a_point_of_a_sweep_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-m", "+models.m={source: srcnn}", "exporter=dynamo", "opset=12,13", "benchmark=off"]
    assert command_line.main([*words, "hydra.sweep.dir=sweep"]) == 0
    for opset in (12, 13):
        (row,) = runfiles.read(tmp_path / f"sweep/opset={opset}").rows
        assert row.status == "skipped"
        assert f"opset {opset} was requested, but dynamo supports opsets" in str(row.model_dump())
    assert "Traceback" not in "".join(capfd.readouterr())


# Models


@dataclass(frozen=True)
class Batch:
    """One run of all models, and what it left."""

    folder: Path
    code: int
    printed: str
    rows: dict[str, ArtifactRow]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("rows") / "zoo"
    folder.mkdir()
    write_files(folder)
    closed = "http://127.0.0.1:9"  # a port that nothing listens at
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "CONVERTER_TRUST": str(folder),
        "TORCH_HOME": str(folder / "cache"),
        **dict.fromkeys(("https_proxy", "HTTPS_PROXY"), closed),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
    }
    good = f"+models.good={{{net('Net')}, inputs: {{x: {{shape: [2, 3]}}}}}}"
    limits = ["executor.workers=2", "executor.timeout_s=200", "benchmark=off", "store.use=false"]
    limits.append("executor.writable=[.]")  # row 58 plants a link
    models = [one.override for one in FAULTY]
    command = [sys.executable, "-m", "converter", *models, good, *limits, "hydra.run.dir=run"]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=500, check=False,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    rows = {row.name: row for row in runfiles.read(folder / "run").rows}
    return Batch(folder, done.returncode, printed, rows)


def test_a_batch_of_faults_has_a_row_for_each_and_its_good_model(batch: Batch) -> None:
    assert batch.code == 1, batch.printed
    assert list(batch.rows) == [*(one.name for one in FAULTY), "good"]
    assert "Traceback" not in batch.printed
    good = batch.rows["good"]
    assert (good.status, good.error) == ("ok", None)
    assert runfiles.read(batch.folder / "run").run.complete
    named = {path.name for path in batch.folder.glob("run/models/*/*.onnx*")}
    assert named == {"good.onnx", "planted.onnx"}  # the latter is the link that row 58 planted


@pytest.mark.parametrize("one", FAULTY, ids=lambda one: f"{one.row}-{one.name}")
def test_a_faulty_model_has_its_row(one: Faulty, batch: Batch) -> None:
    row = batch.rows[one.name]
    assert row.error is not None, row.status
    assert (row.status, row.error.code, row.error.stage) == (one.status, one.code, one.stage)
    said = f"{row.error.message}\n{row.error.hint}"
    wanted = [part.replace("{folder}", str(batch.folder)) for part in one.words]
    assert [part for part in wanted if part not in said] == [], said
    assert len(said.splitlines()) == 2
    # It is told at the end of the run as well, with its code.
    assert f"{one.name}: {one.code}: " in batch.printed
    # Nothing that it left may be taken for a result.
    assert (row.files, row.onnx) == ([], None)
    left = (batch.folder / "run/models" / one.name).iterdir()
    assert {path.suffix for path in left if not path.is_symlink()} <= {".txt", ".json", ".pb"}


def test_rows_21_26_58_nothing_was_run_or_overwritten(batch: Batch) -> None:
    assert list(batch.folder.glob("canary*")) == []
    assert (batch.folder / "precious").read_bytes() == b"precious"
    assert (batch.folder.parent / "outside/secret").read_bytes() == b"\1" * 16


def test_row_67_what_is_no_file_is_told_at_once(batch: Batch) -> None:
    for one in FAULTY:
        if one.row == 67:
            spent = batch.rows[one.name].stages
            assert sum(stage.seconds or 0 for stage in spent.values()) < 20


# The clock

MOVED = """
import os, time

open("imported", "a").close()

def moved(clock, year):
    return lambda: clock() - (year if os.path.exists("moved") else 0)

time.time = moved(time.time, 365 * 86400)
time.time_ns = moved(time.time_ns, 365 * 86400 * 10**9)
"""
MOVES = """
import pathlib, torch

class Moves(torch.nn.Linear):
    def __init__(self):
        super().__init__(3, 4)

    def forward(self, x):
        pathlib.Path("moved").touch()
        return super().forward(x)
"""


def test_row_55_a_clock_that_is_put_back_by_a_year_while_a_model_runs(
    converter_command: Command, tmp_path: Path
) -> None:
    """In each process of the run: Python imports ``sitecustomize`` before anything else."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(MOVED)
    (tmp_path / "moves.py").write_text(MOVES)
    model = "+models.m={source: {file: moves.py, name: Moves}, inputs: {x: {shape: [2, 3]}}}"
    path = os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)])
    environment = {"CONVERTER_TRUST": str(tmp_path), "PYTHONPATH": path}
    for name in ("first", "second"):
        words = ["benchmark=off", f"hydra.run.dir={name}", "executor.writable=[.]"]
        done = converter_command(model, *words, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
    assert {"imported", "moved"} <= {*os.listdir(tmp_path)}
    first, second = (runfiles.read(tmp_path / name) for name in ("first", "second"))
    assert [made.rows[0].cached for made in (first, second)] == [False, True]
    spent = first.rows[0].spent
    assert spent is not None
    assert spent.seconds > 0
    times = [stage.seconds for stage in first.rows[0].stages.values() if stage.seconds is not None]
    assert times
    assert min(times) >= 0
