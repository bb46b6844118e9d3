"""The whole command with ``executor=slurm``: what it leaves, and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MARK, all_gone

from tests.faults.test_run_faults import Runs, path

NO_SLURM = pytest.mark.skipif(shutil.which("sbatch") is None, reason="needs Slurm")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.e2e,
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.parametrize("cluster", ["local", pytest.param("slurm", marks=NO_SLURM)]),
]
# Times, and what says which run it was; the cache is told of by name.
OF_THE_RUN = {
    "seconds", "peak_rss_bytes", "started_at", "finished_at", "failing_since", "node", "overrides",
    "config_sha256", "spent", "other_tries", "cost",
}  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path, request: pytest.FixtureRequest) -> Runs:
    return Runs(tmp_path, f"{os.getpid()}-{request.node.name}-{time.time_ns()}")


def different(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two manifests say something else that is not of the run."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        found = [(key, one[key], other[key]) for key in one if key not in OF_THE_RUN]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = [(place, *both) for place, both in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [f"{where}: {one} != {other}"]
    return [line for key, *both in found for line in different(*both, f"{where}/{key}")]


def test_the_manifest_is_that_of_process(runs: Runs, cluster: str) -> None:
    read = {}
    for executor in ("process", f"slurm executor.cluster={cluster} executor.poll_s=1"):
        models = {"good": "Good", "exits": "Exits", "other": "Good"}
        words = [f"executor={executor.split()[0]}", *executor.split()[1:], "store.use=false"]
        command = runs.command(models, "variant=fp16", *words)
        code, output = runs.done(command, timeout=300)
        assert code == 1, output  # one exits
        read[executor.split()[0]] = json.loads((runs.directory / "manifest.json").read_text())
        shutil.rmtree(runs.directory)
    nodes = {
        artifact["node"] and artifact["node"]["name"]
        for model in read["slurm"]["models"]
        for artifact in model["artifacts"]
        if artifact["attempts"]
    }
    assert nodes == {os.uname().nodename}
    assert read["slurm"]["run"].pop("id") != read["process"]["run"].pop("id")
    assert different(read["slurm"], read["process"]) == []


def test_control_c_cancels_tasks_and_waits_for_their_end(runs: Runs, cluster: str) -> None:
    models = {"good": "Good", "hang": "Hangs", "last": "Good"}
    words = ["executor=slurm", f"executor.cluster={cluster}", "executor.workers=1"]
    command = runs.command(models, *words, "executor.poll_s=1")
    environment = {
        **os.environ,
        "CONVERTER_TRUST": str(runs.folder),
        "PYTHONPATH": path(),
        MARK: runs.mark,
    }
    with subprocess.Popen(
        command,
        cwd=runs.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            runs.wait_for("models/good/result.json", timeout=120)
            runs.wait_for("models/hang/log.txt", timeout=120)
            # As a terminal does: to all processes that are in its foreground.
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"1 of 3 models finished; results in {runs.directory}" in output
    assert all_gone(runs.mark, set(), 5) == {}
    assert {name: row.status for name, row in runs.rows().items()} == {
        "good": "ok",
        "hang": "not_run",
        "last": "not_run",
    }
    assert not (runs.directory / ".staging").exists()
