"""Files that a point of a sweep makes for later ones: their time, and what goes wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.model.batch import ExecutorSpec
from converter.model.job import Job, Sibling
from converter.model.records import JobResult
from converter.plugins.executors import Finished
from converter.plugins.executors.process import ProcessExecutor

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.faults, pytest.mark.e2e]

MODELS = """
import os
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.linear(x))


class Crashes(Net):
    # Where it is exported in a fork of the process that has built it.
    def __init__(self):
        super().__init__()
        self.built_in = os.getpid()

    def forward(self, x):
        if os.getpid() != self.built_in:
            os.abort()
        return super().forward(x)
"""


def carried(job: Job, siblings: int, **limits: object) -> JobResult:
    other = {name: getattr(job, name) for name in Sibling.model_fields} | {"opset": 18}
    asked = [Sibling(**other)] * siblings
    given = job.model_copy(update={"siblings": asked, "sibling_s": 3.0})
    spec = ExecutorSpec(**{"name": "process", "grace_s": 0.5, **limits})
    events = ProcessExecutor(spec, "entries:by_tag").run([given])
    (result,) = [event.result for event in events if isinstance(event, Finished)]
    return result


def test_what_is_made_for_others_has_time_of_its_own(job: Callable[..., Job]) -> None:
    result = carried(job("makes_others", "makes_others"), 3, timeout_s=2.0)
    assert (result.status, result.error) == ("ok", None)


@pytest.mark.parametrize(("tag", "least"), [("hangs_behind_others", 4), ("hangs_at_others", 3)])
def test_a_hang_is_found_all_the_same(job: Callable[..., Job], tag: str, least: float) -> None:
    before = time.monotonic()
    result = carried(job(tag, tag), 2, timeout_s=2.0)
    assert result.status == "timeout"
    assert least <= time.monotonic() - before < 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweep")
    (made / "nets.py").write_text(MODELS)
    return made


Rows = dict[tuple[str, str], dict[str, Any]]


def sweep(folder: Path, name: str, *words: str, kind: str = "Net") -> Rows:
    """The rows by the names of their points and their own ids."""
    source = f"source: {{file: {folder}/nets.py, name: {kind}}}"
    model = f"{{{source}, inputs: {{x: {{shape: [2, 4]}}}}}}"
    command = [sys.executable, "-m", "converter", "-m", f"+models.net={model}", "opset=17,18,20"]
    command += ["benchmark=off", "exporter=torchscript", f"hydra.sweep.dir={name}", *words]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "CONVERTER_TRUST": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path in sorted((folder / name).glob("*/manifest.json")):
        (model_,) = json.loads(path.read_text())["models"]
        for row in model_["artifacts"]:
            content = (path.parent / row["files"][0]["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["files"][0]["sha256"]
            found[path.parent.name, row["id"]] = row
    return found


def test_points_share_a_model_and_come_to_the_files_of_runs_without(folder: Path) -> None:
    shared = sweep(folder, "shared", "store.path=store", "variant=fp16")
    alone = sweep(folder, "alone", "store.use=false", "variant=fp16")
    cached = {place: row["cached"] for place, row in shared.items() if place[1] == "onnx"}
    points = [("opset=17", "onnx"), ("opset=18", "onnx"), ("opset=20", "onnx")]
    assert cached == dict(zip(points, [False, True, True], strict=True))
    assert not any(row["cached"] for row in alone.values())
    # What derives from such a file is made at its own point.
    assert {*shared} == {*alone}
    for place, row in shared.items():
        assert row["files"][0]["sha256"] == alone[place]["files"][0]["sha256"]
        assert row["verify"] == alone[place]["verify"]
    assert [shared[point]["onnx"]["opset"] for point in points] == [17, 18, 20]


def test_a_crash_of_what_is_made_for_others_costs_the_first_point_nothing(folder: Path) -> None:
    rows = sweep(folder, "crash", "store.path=other", kind="Crashes")
    assert [row["cached"] for row in rows.values()] == [False] * 3
    log = (folder / "crash" / "opset=17" / "models/net/log.txt").read_text()
    assert "opset 18 of a later point was not made along with this one: crashed with SIG" in log
