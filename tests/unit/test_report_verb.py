"""``python -m converter report RUN_DIR``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from converter.cli import command_line
from converter.layout import runfiles
from converter.model.manifest import model_of
from tests.manifests import failed, manifest_of, ok


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "night"
    directory.mkdir()
    runfiles.write(manifest_of(ok("a"), failed("b")), directory)
    return directory


def test_it_renders_all_reports_and_prints_their_paths(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["report", str(run)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert {str(run / name) for name in ("report.html", "manifest.csv", "summary.md")} <= set(
        printed
    )
    assert all(Path(path).is_file() for path in printed)


def test_a_killed_run_shows_the_models_that_it_finished(run: Path) -> None:
    left = manifest_of(failed("a"), failed("b"))
    killed = left.run.model_copy(update={"finished_at": None, "complete": False})
    runfiles.write(left.model_copy(update={"run": killed}), run)
    runfiles.append_result(run, model_of([ok("a")]))
    assert command_line.main(["report", str(run)]) == 0
    assert "2 models: 1 ok, 1 failed" in (run / "summary.md").read_text()


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("nigt", "there is no run directory {0}/nigt. Did you mean night?"),
        (".", "{0} holds no run: there is no manifest.json. Take one of the runs in it: night."),
        ("empty", "Name the folder of a run, such as outputs/zoo/latest."),
    ],
)
def test_a_wrong_folder_is_exit_2(
    run: Path, capsys: pytest.CaptureFixture[str], folder: str, said: str
) -> None:
    (run.parent / "empty").mkdir()
    assert command_line.main(["report", str(run.parent / folder)]) == 2
    assert said.format(run.parent) in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", json.dumps({"schema_version": "2"})])
def test_a_manifest_that_cannot_be_read_is_exit_2(
    run: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (run / "manifest.json").write_text(text)
    assert command_line.main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"{run}/manifest.json cannot be read: " in error
    assert "It must be as this version of the converter wrote it." in error
    assert not (run / "report.html").exists()


def test_a_report_that_cannot_be_written_is_exit_3(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report.html").mkdir()
    assert command_line.main(["report", str(run)]) == 3
    assert f"run: cannot write into {run}: " in capsys.readouterr().err


def test_it_imports_nothing_heavy(run: Path) -> None:
    code = (
        "import sys; from converter.cli import command_line; command_line.main(sys.argv[1:]); "
        "print({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "report", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
