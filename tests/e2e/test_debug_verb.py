"""``debug``: the node where a wrong file of a run begins to be wrong, and what shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

pytestmark = pytest.mark.e2e
WRONG = {
    # What was frozen is an operand of this node, or the branch that is not taken lies behind it.
    "python_number": ("Div", "pitfalls_values.py:"),
    "data_branch": ("Mul", "pitfalls_values.py:"),
    "negative_indices": ("Reshape", "pitfalls_operators.py:"),
    "batch_loop": ("Gather", "out of data bounds"),
}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("debug")
    names = ",".join([*WRONG, "data_branch_fixed"])
    words = ["+experiment=pitfalls", f"select=[{names}]", "benchmark=off", "hydra.run.dir=run"]
    done = run(made, "-m", "converter", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.mark.parametrize("name", WRONG)
def test_the_node_and_the_line_are_named(folder: Path, name: str) -> None:
    op, line = WRONG[name]
    done = run(folder, "-m", "converter", "debug", "run", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" = {op}" in done.stdout.splitlines()[1]
    assert "    Comparison: file against PyTorch." in done.stdout.splitlines()
    report = (folder / f"{name}-debug" / "report.md").read_text()
    assert line in report
    script = folder / f"{name}-debug" / "repro.py"
    if script.exists():  # where there is a value to compare with
        shown = run(folder, str(script))
        assert (shown.returncode, shown.stderr) == (1, "")


def test_a_file_that_is_right_has_no_such_node(folder: Path) -> None:
    done = run(folder, "-m", "converter", "debug", "run", "data_branch_fixed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "data_branch_fixed: the file is right now, on all cases\n"
    assert not (folder / "data_branch_fixed-debug").exists()


def test_the_graph_of_a_wrong_file_is_there_to_look_at(folder: Path) -> None:
    found = sorted((folder / "run/models").glob("*/wrong.*.pb"))
    assert {path.parent.name for path in found} == WRONG.keys()
    path = folder / "run/models/data_branch/wrong.torchscript.pb"
    assert onnx.load(path, format="protobuf", load_external_data=False).graph.node
    text = (folder / "run/report.html").read_text()
    assert f'<a href="{path.relative_to(folder / "run")}">' in text


def test_what_is_not_there_is_told(folder: Path) -> None:
    done = run(folder, "-m", "converter", "debug", "run", "data_brunch")
    assert done.returncode == 2
    assert "run has no model 'data_brunch'. Did you mean data_branch or" in done.stderr
