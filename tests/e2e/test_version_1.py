"""What version 1 of the manifest left behind is read by every command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

pytestmark = pytest.mark.e2e

DATA = Path(__file__).resolve().parents[1] / "data" / "v1"
REPOSITORY = DATA.parents[2]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder in which version 1 was run, with the paths of this machine."""
    folder = tmp_path
    shutil.copytree(DATA, folder, dirs_exist_ok=True)
    names = {"@FOLDER@": str(folder), "@REPOSITORY@": str(REPOSITORY), "@PYTHON@": sys.executable}
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml", ".txt", ".log", ".md", ".xml", ".csv"):
            text = path.read_text(encoding="utf-8")
            for name, place in names.items():
                text = text.replace(name, place)
            path.write_text(text, encoding="utf-8")
    return folder


def test_reports_are_written_again(old: Path, converter_command: Command) -> None:
    done = converter_command("report", "outputs/old/night1")
    assert done.returncode == 0, done.stderr
    page = (old / "outputs/old/night1/report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("conv", "frozen", "later", "more", "INPUT_DROPPED"))


def test_a_file_is_verified_again(old: Path, converter_command: Command) -> None:
    done = converter_command("verify", "outputs/old/night1", "conv")
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_runs_are_compared(old: Path, converter_command: Command) -> None:
    runs = ("outputs/old/night1", "outputs/old_sweep/opset=17")
    done = converter_command("compare", *runs)
    assert done.returncode in (0, 4), done.stderr
    assert "frozen: removed" in done.stdout


def test_a_run_is_resumed(old: Path, converter_command: Command) -> None:
    """The model that was done keeps its row and its file."""
    manifest = old / "outputs/old/night2/manifest.json"
    before = {row["name"]: row for row in json.loads(manifest.read_text())["models"]}
    done = converter_command("resume", "outputs/old/night2")
    assert done.returncode == 1, done.stdout + done.stderr
    after = {row["name"]: row for row in json.loads(manifest.read_text())["models"]}
    assert {name: row["status"] for name, row in after.items()} == {
        "conv": "ok", "frozen": "failed", "later": "skipped", "more": "ok",
    }  # fmt: skip
    assert before["conv"]["status"] == "ok"
    assert "resumed: " in done.stdout


def test_a_run_is_a_baseline(old: Path, converter_command: Command) -> None:
    words = ("--config-dir", "conf", "+experiment=old", "benchmark=off", "store.use=false")
    night = ("baseline=outputs/old/night1", "hydra.run.dir=outputs/old/night3")
    done = converter_command(*words, *night)
    assert done.returncode in (1, 4), done.stdout + done.stderr
    written = json.loads((old / "outputs/old/night3/manifest.json").read_text())
    assert written["run"]["baseline"]
    changes = [change for change in written["comparison"]["changes"] if change["model"]]
    # A file says more of itself since (its `metadata_props`), which these few hundred bytes show.
    assert {change["kind"] for change in changes} <= {"size"}
    assert all(change["after"] - change["before"] < 512 for change in changes)
