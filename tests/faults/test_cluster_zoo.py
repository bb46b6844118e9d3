"""All of the zoo on a cluster of Ray: its manifest is that of this machine, whatever is lost.

Takes half an hour on two cores: ``python -m pytest -m cluster tests/faults/test_cluster_zoo.py``.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import MARK, all_gone
from ray_cluster import Cluster, kill_node, started

from tests.faults.test_run_faults import REPOSITORY, path
from tests.faults.test_slurm_command import different

MODELS = 38
LEASE_S = 5.0
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.e2e,
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def here(home: Path) -> dict[str, Any]:
    """The manifest of a run on this machine."""
    directory = home / "here"
    with run(command(directory, "executor=process")) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return read(directory)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    environ = {key: value for key, value in os.environ.items() if key != MARK}
    with started(environ) as cluster:
        yield cluster


def command(directory: Path, *words: str) -> list[str]:
    usual = ["benchmark=off", "store.use=false", "reports=[]", f"hydra.run.dir={directory}"]
    return [sys.executable, "-m", "converter", "+experiment=zoo", *usual, *words]


def on(cluster: Cluster) -> list[str]:
    return [
        "executor=ray",
        f"executor.address={cluster.address}",
        f"executor.lease_s={LEASE_S:g}",
    ]


def run(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    del found["run"]["id"]
    return found


def await_rows(directory: Path, rows: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        lines = directory / "results.jsonl"
        if lines.is_file() and lines.read_text().count("\n") >= rows:
            return
        time.sleep(0.2)
    pytest.fail(f"the run ended before it had {rows} rows")


def lost(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The tries of which nothing was taken; the manifest is one without them from here on."""
    gone = []
    for model in found["models"]:
        for artifact in model["artifacts"]:
            gone += [one for one in artifact["other_tries"] if one["reason"]]
            assert artifact.pop("attempts") == len(artifact.pop("other_tries")) + 1
    return gone


def test_the_manifest_is_that_of_this_machine(
    here: dict[str, Any], home: Path, cluster: Cluster, mark: str
) -> None:
    directory = home / "cluster"
    with run(command(directory, *on(cluster))) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    found = read(directory)
    ran = {model["artifacts"][0]["node"]["id"] for model in found["models"]}
    assert ran == set(cluster.ids)
    assert different(found, here) == []
    assert all_gone(mark, set(), LEASE_S) == {}


def test_a_node_that_is_killed_costs_tries_and_no_row(
    here: dict[str, Any], home: Path, cluster: Cluster, mark: str
) -> None:
    directory = home / "node"
    with run(command(directory, *on(cluster))) as process:
        await_rows(directory, MODELS // 3, process)
        kill_node(cluster, 1)
        said, _ = process.communicate()
    assert process.returncode == 0, said
    found = read(directory)
    assert len(found["models"]) == MODELS
    gone = lost(found)
    assert gone
    for one in gone:
        assert one["node"]
        assert one["reason"] in (directory / "run.log").read_text()
    usual = copy.deepcopy(here)
    lost(usual)
    assert different(found, usual) == []
    assert all_gone(mark, set(), LEASE_S) == {}


def test_a_driver_that_is_killed_is_resumed(
    here: dict[str, Any], home: Path, cluster: Cluster, mark: str
) -> None:
    directory = home / "driver"
    with run(command(directory, *on(cluster))) as process:
        await_rows(directory, MODELS // 3, process)
        process.kill()
        process.communicate()
    assert not read(directory)["run"]["complete"]
    # Ray takes some seconds to see that an owner has gone; then the lease runs.
    assert all_gone(mark, set(), 20 + LEASE_S) == {}
    with run([sys.executable, "-m", "converter", "resume", str(directory)]) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert different(read(directory), here) == []
    assert all_gone(mark, set(), LEASE_S) == {}
