"""A runner that is killed at a random moment, then resumed: nothing lost, nothing false (P1-P4)."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import MARK, all_gone

from converter.layout import runfiles

REPOSITORY = Path(__file__).resolve().parents[2]
SEED = 20260
pytestmark = [pytest.mark.faults, pytest.mark.e2e]

MODELS = [
    "+models.one={source: single_conv}",
    "+models.cnn={source: simple_cnn, export: {external_data: always}}",
    "+models.wrong={source: simple_cnn, inputs: {image: {shape: [1, 3, 7, 7]}}, variants: [fp16]}",
    "+models.half={source: simple_cnn, variants: [fp16]}",
    "+models.two={source: single_conv, simplify: false}",
    "+models.known={source: simple_cnn, inputs: {image: {shape: [1, 3, 7, 7]}},"
    " expect: {status: failed, code: FORWARD, reason: too small}}",
    "+models.skipped={source: single_conv, opset: {min: 19}}",
]
OPTIONS = ["exporter=torchscript", "executor.workers=2"]
VARIANTS = {
    "plain": ["store.use=false", "benchmark=off"],
    "stored": ["benchmark=off"],
    "timed": ["benchmark.budget_s=0.1", "benchmark.torch=false"],
}


class Folder:
    """Where runs of ``MODELS`` happen, each process marked with ``mark``."""

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        self.mark = mark

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "converter", *words],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, variant: str, store: str | None = None) -> list[str]:
        """A run in a folder of that name, with a store of its own unless one is named."""
        places = [f"hydra.run.dir={name}", f"store.path=stores/{store or name}"]
        return [*MODELS, *OPTIONS, *places, *VARIANTS[variant]]

    def done(self, *words: str) -> tuple[int, str]:
        with self.start(*words) as process:
            output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def killed(self, words: list[str], after_s: float) -> bool:
        """Kill the runner; whether it was still running. All of its processes end with it."""
        with self.start(*words) as process:
            try:
                process.communicate(timeout=after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        assert all_gone(self.mark, set(), 5) == {}
        return process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("resume"), f"{os.getpid()}-resume-{time.time_ns()}")


class Whole:
    """Uninterrupted runs, with an empty store and without one: each is run when asked for."""

    def __init__(self, home: Folder) -> None:
        self._home = home
        self._found: dict[str, tuple[dict[str, Any], float]] = {}

    def _run(self, variant: str) -> tuple[dict[str, Any], float]:
        if variant not in self._found:
            name, start = f"whole-{variant}", time.monotonic()
            code, output = self._home.done(*self._home.run(name, variant))
            assert code == 1, output
            seconds = time.monotonic() - start
            self._found[variant] = normalised(self._home.path / name), seconds
        return self._found[variant]

    def manifest(self, variant: str) -> dict[str, Any]:
        return self._run(variant)[0]

    def seconds(self, variant: str) -> float:
        return self._run(variant)[1]

    def took(self, variant: str, seconds: float) -> None:
        """A run that was not killed in time tells how long one takes on this machine now."""
        self._found[variant] = self.manifest(variant), min(seconds, self.seconds(variant))


@pytest.fixture(scope="module")
def whole(home: Folder) -> Whole:
    return Whole(home)


def normalised(directory: Path) -> dict[str, Any]:
    """What P4 promises to be equal: all but ids, times, attempts, memory and latency."""
    found: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    for key in ("id", "started_at", "finished_at", "overrides", "config_sha256"):
        del found["run"][key]
    del found["cost"]
    for model in found["models"]:
        del model["failing_since"]
        for row in model["artifacts"]:
            del row["attempts"], row["latency"], row["failing_since"], row["spent"]
            del row["other_tries"]
            row["stages"]["benchmark"]["warnings"] = []  # such as of a busy machine
            for stage in row["stages"].values():
                del stage["seconds"], stage["peak_rss_bytes"]
    return found


def check_files(directory: Path) -> None:
    """P1: a file under a final name has the hash that its row, or its result, records."""
    rows = {}
    if (directory / "manifest.json").exists():
        rows = {row.label: row for row in runfiles.read(directory).rows}
    models = directory / "models"
    for folder in [*models.glob("*"), *models.glob("*/*/")]:
        for path in folder.glob("*.json"):
            json.loads(path.read_text())
        row = rows.get(str(folder.relative_to(models)))
        if row is not None and row.status == "ok":
            assert row.files
            for part in row.files:
                data = (directory / part.path).read_bytes()
                assert (len(data), hashlib.sha256(data).hexdigest()) == (part.bytes, part.sha256)


def check_resumed(directory: Path, whole: dict[str, Any]) -> None:
    """P2 and P4, and nothing of the interruption is left."""
    check_files(directory)
    rows = runfiles.read(directory).models
    assert Counter(row.name for row in rows) == Counter(m.split("=")[0][8:] for m in MODELS)
    names = {path.name for path in directory.iterdir()}
    assert names <= {path.name for path in next(directory.parent.glob("whole-*/")).iterdir()}
    found = normalised(directory)
    for row, other in zip(found.pop("models"), whole["models"], strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            assert (row["name"], key, value) == (row["name"], key, other[key])
    assert found == {key: value for key, value in whole.items() if key != "models"}


def kill_and_resume(home: Folder, whole: Whole, name: str, part: float, variant: str) -> str:
    """Kill a run after a part of its time, resume it, compare; says when it was killed."""
    directory = home.path / name
    after_s = part * whole.seconds(variant)
    start = time.monotonic()
    running = home.killed(home.run(name, variant), after_s)
    if not running:
        whole.took(variant, time.monotonic() - start)
    check_files(directory)
    if not (directory / ".hydra/hydra.yaml").exists():
        assert not (directory / "models").exists()
        return "before it began"
    code, output = home.done("resume", name)
    assert code == 1, f"killed after {after_s:.2f} s\n{output}"
    check_resumed(directory, whole.manifest(variant))
    return "while it ran" if running else "after its end"


def moments(number: int) -> list[float]:
    draw = random.Random(SEED)
    return [draw.uniform(0.05, 1) for _ in range(number)]


@pytest.mark.parametrize(("variant", "part"), [("stored", 0.8), ("timed", 0.9)])
def test_a_runner_killed_at_any_moment_is_resumed(
    home: Folder, whole: Whole, variant: str, part: float
) -> None:
    kill_and_resume(home, whole, f"killed-{variant}", part, variant)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("variant", ["plain", "stored"])
def test_fifty_kills_each_resumed(home: Folder, whole: Whole, variant: str) -> None:
    found: Counter[str] = Counter()
    for index, part in enumerate(moments(500)):
        found[kill_and_resume(home, whole, f"{variant}-{index}", part, variant)] += 1
        shutil.rmtree(home.path / f"{variant}-{index}", ignore_errors=True)
        shutil.rmtree(home.path / "stores" / f"{variant}-{index}", ignore_errors=True)
        if found["while it ran"] == 50:
            break
    print(variant, found)
    assert found["while it ran"] == 50


def test_a_resume_that_is_killed_is_resumed_again(home: Folder, whole: Whole) -> None:
    seconds = whole.seconds("plain")
    home.killed(home.run("again", "plain"), seconds * 0.7)
    home.killed(["resume", "again"], seconds * 0.6)
    check_files(home.path / "again")
    code, output = home.done("resume", "again")
    assert code == 1, output
    check_resumed(home.path / "again", whole.manifest("plain"))


def test_a_store_that_a_killed_run_shared_is_whole(home: Folder, whole: Whole) -> None:
    home.killed(home.run("first", "stored", "shared"), 0.8 * whole.seconds("stored"))
    code, output = home.done(*home.run("second", "stored", "shared"))
    assert code == 1, output
    expected, found = whole.manifest("stored"), normalised(home.path / "second")
    for model in [*expected["models"], *found["models"]]:
        for row in model["artifacts"]:
            del row["cached"], row["cache_miss_reason"]
    assert found == expected
    code, output = home.done("store", "verify", "--path", "stores/shared")
    assert (code, output) == (0, "5 entries: 5 whole, 0 damaged\n")
