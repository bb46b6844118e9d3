"""Nodes that share no folder with the driver: they have mount namespaces in which its own is empty.

What they need and what they make goes through a server that speaks S3.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import MARK, all_gone, marked

from converter.storage import objects
from converter.storage.location import Url
from tests import objectstore
from tests.faults.test_cluster_faults import Cluster, unmarked
from tests.faults.test_run_faults import path
from tests.faults.test_slurm_command import different
from tests.objectstore import BUCKET, Store

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.slow]
NET = """
import os
import time

import torch
from parts import WIDTH

FOLDER = os.path.dirname(__file__)


class Net(torch.nn.Module):
    def __init__(self, words="words.txt"):
        super().__init__()
        self.linear = torch.nn.Linear(8, WIDTH)
        with open(os.path.join(FOLDER, "words.txt")) as file:
            self.words = len(file.read().split())
        print(f"{__file__} of {os.environ['DRIVER']} there: {os.path.isdir(os.environ['DRIVER'])}")

    def forward(self, x):
        return self.linear(x) * self.words


class Meeting(torch.nn.Module):
    # Says where it is, and stays there the first time.
    def __init__(self, width=8, stays=True):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
        place = os.path.join(os.environ["MEETING"], "begun")
        if not os.path.exists(place):
            with open(f"{place}.new", "w") as file:
                file.write(os.environ["HOME"])
            os.rename(f"{place}.new", place)
            time.sleep(60 if stays else 0)

    def forward(self, x):
        return self.linear(x)


class Wrecker(torch.nn.Module):
    # Of the first node that it comes to the disk takes nothing any more.
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
        own = os.path.join(os.environ["TMPDIR"], f"converter-{os.getuid()}", "blobs")
        try:
            os.mkdir(os.path.join(os.environ["MEETING"], "wrecked"))
        except FileExistsError:
            return
        os.rename(own, f"{own}.gone")
        open(own, "w").close()

    def forward(self, x):
        return self.linear(x)
"""


@dataclass
class Driver:
    """A folder that no node sees, and the commands that are started in it."""

    folder: Path
    cluster: Cluster
    store: Store
    mark: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.store.environment,
            "PYTHONPATH": path(),
            "CONVERTER_TRUST": str(self.folder / "zoo"),
            "DRIVER": str(self.folder / "zoo"),
            "MEETING": f"{self.folder}.meeting",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            MARK: self.mark,
        }

    def command(self, name: str, *words: str, executor: str = "ray") -> list[str]:
        own = [f"executor.address={self.cluster.address}", "executor.shared=false"]
        own += ["executor.lease_s=2", "executor.grace_s=0.5"]
        own += [f"executor.writable=[{self.folder}.meeting]"]
        where = [f"hydra.run.dir={self.folder / name}", f"store.path=s3://{BUCKET}/{name}"]
        chosen = [f"executor={executor}", *(own if executor == "ray" else [])]
        return [sys.executable, "-m", "converter", *where, *chosen, *words]

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def done(self, command: list[str]) -> tuple[int, str]:
        with self.start(command) as process:
            try:
                output, _ = process.communicate(timeout=400)
            finally:
                process.kill()
        return process.returncode, output

    def manifest(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "manifest.json").read_text())
        return found

    def met(self, process: subprocess.Popen[str], timeout_s: float = 200.0) -> str:
        """The node that a model of ``Meeting`` has begun on."""
        place = Path(f"{self.folder}.meeting", "begun")
        end = time.monotonic() + timeout_s
        while not place.exists():
            assert process.stdout is not None
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end, "no model has begun"
            time.sleep(0.02)
        return place.read_text().rpartition(".")[2]

    def kill(self, node: str) -> None:
        """All processes of a node, as a machine does that loses its power."""
        os.kill(self.cluster.raylets[int(node.removeprefix("n"))], signal.SIGKILL)
        home = f"HOME={self.folder}.{node}"
        while left := marked(home):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def objects(self, name: str) -> objects.Objects:
        return objects.opened(Url("s3", f"{BUCKET}/{name}"))


def started_driver(folder: Path, mark: str) -> Iterator[Driver]:
    zoo = folder / "zoo"
    zoo.mkdir(parents=True)
    Path(f"{folder}.meeting").mkdir()
    (zoo / "net.py").write_text(NET)
    (zoo / "parts").mkdir()
    (zoo / "parts" / "__init__.py").write_text("WIDTH = 4\n")
    (zoo / "words.txt").write_text("a b c")
    with objectstore.running() as store, unmarked(str(folder)) as cluster:
        yield Driver(folder, cluster, store, mark)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, mark: str) -> Iterator[Driver]:
    yield from started_driver(tmp_path_factory.mktemp("unshared") / "driver", mark)


@pytest.fixture
def doomed(
    tmp_path_factory: pytest.TempPathFactory, mark: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Driver]:
    # Its names are short: a socket lies in the TMPDIR of each node.
    for driver in started_driver(tmp_path_factory.mktemp("doomed") / "driver", mark):
        objectstore.used(driver.store, monkeypatch)
        yield driver


def checkpoint(place: Path) -> None:
    """Beyond what travels in an archive: an optimizer's state that nobody asks for lies beside."""
    code = (
        "import sys, torch; torch.manual_seed(1); torch.save({'net': {"
        "'linear.weight': torch.randn(4, 8), 'linear.bias': torch.randn(4)},"
        "'rest': torch.randn(1000, 400)}, sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=True)


def test_the_manifest_is_that_of_process(driver: Driver) -> None:
    (driver.folder / "weights").mkdir()
    checkpoint(driver.folder / "weights" / "net.pth")
    mine = (
        "+models.mine={source: {file: zoo/net.py, name: Net}, inputs: {x: {shape: [2, 8]}},"
        "weights: {checkpoint: weights/net.pth, key: net}, kwargs: {words: zoo/words.txt}}"
    )
    broken = "+models.broken={source: {file: zoo/net.py, name: No}, inputs: {x: {shape: [1]}}}"
    words = ["+experiment=smoke", mine, broken, "variant=fp16", "benchmark=off"]
    read = {}
    for executor in ("process", "ray"):
        code, output = driver.done(driver.command(executor, *words, executor=executor))
        assert code == 1, output  # one is broken
        read[executor] = driver.manifest(executor)
    rows = [row for model in read["ray"]["models"] for row in model["artifacts"]]
    assert {row["node"] is not None for row in rows if row["attempts"]} == {True}
    assert read["ray"]["run"].pop("id") != read["process"]["run"].pop("id")
    assert different(read["ray"], read["process"]) == []
    # It was real: the node has not seen the folder, and had the files in its own.
    log = (driver.folder / "ray" / "models" / "mine" / "log.txt").read_text()
    assert log.startswith(f"{driver.folder}.n")
    assert f"of {driver.folder}/zoo there: False" in log
    log = (driver.folder / "process" / "models" / "mine" / "log.txt").read_text()
    assert f"of {driver.folder}/zoo there: True" in log


def test_what_the_store_has_is_taken_from_there_and_latencies_find_their_files(
    driver: Driver,
) -> None:
    words = ["+experiment=smoke", "select=[single_conv]", "benchmark.providers=[cpu]"]
    code, output = driver.done(driver.command("ray", *words, "hydra.run.dir=again"))
    assert code == 0, output
    (model,) = driver.manifest("again")["models"]
    assert model["artifacts"][0]["cached"]
    assert [one["status"] for one in model["artifacts"][0]["latency"]] == ["measured"]
    assert model["artifacts"][0]["latency"][0]["node"]["id"]


def test_a_full_store_costs_the_row_with_a_sentence(driver: Driver) -> None:
    model = (
        "+models.m={source: {file: zoo/net.py, name: Meeting}, inputs: {x: {shape: [2, 8]}},"
        "kwargs: {stays: false}}"
    )
    with driver.start(driver.command("full", model, "benchmark=off")) as process:
        try:
            driver.met(process)
            driver.store.faults.answer = ("507 Insufficient Storage", "QuotaExceeded", "Full.")
            output, _ = process.communicate(timeout=200)
        finally:
            process.kill()
            driver.store.faults.mend()
            Path(f"{driver.folder}.meeting", "begun").unlink(missing_ok=True)
    assert process.returncode == 1, output
    (row,) = driver.manifest("full")["models"][0]["artifacts"]
    assert (row["status"], row["error"]["code"]) == ("failed", "IO")
    assert row["error"]["message"].startswith("the object store is full, or over its quota: s3://")
    assert "executor.shared=false" in row["error"]["hint"]


def test_a_node_whose_disk_fails_costs_its_jobs_a_try(doomed: Driver) -> None:
    models = [
        f"+models.m{number}={{source: {{file: zoo/net.py, name: {kind}}},"
        "inputs: {x: {shape: [2, 8]}}}"
        for number, kind in enumerate(["Wrecker", *["Net"] * 7])
    ]
    # In a sandbox it would not reach the folder of the node.
    words = ["variant=fp16", "benchmark=off", "executor.sandbox=off"]
    code, output = doomed.done(doomed.command("disk", *models, *words))
    assert code == 0, output
    rows = [row for model in doomed.manifest("disk")["models"] for row in model["artifacts"]]
    assert [row["status"] for row in rows] == ["ok"] * 16
    lost = [one for row in rows for one in row["other_tries"]]
    assert lost
    assert all(one["reason"].startswith("IO: File exists: ") for one in lost)
    assert max(row["attempts"] for row in rows) == 2  # the other node took them


def test_a_node_that_is_killed_costs_its_jobs_a_try(doomed: Driver) -> None:
    models = [
        f"+models.m{number}={{source: {{file: zoo/net.py, name: {kind}}},"
        "inputs: {x: {shape: [2, 8]}}}"
        for number, kind in enumerate(["Meeting", "Net", "Net", "Net"])
    ]
    with doomed.start(
        doomed.command("killed", *models, "variant=fp16", "benchmark=off")
    ) as process:
        try:
            doomed.kill(doomed.met(process))
            output, _ = process.communicate(timeout=400)
        finally:
            process.kill()
    assert process.returncode == 0, output
    models_of = {model["name"]: model["artifacts"] for model in doomed.manifest("killed")["models"]}
    found = {name: [(row["id"], row["status"]) for row in models_of[name]] for name in models_of}
    assert found == {f"m{number}": [("onnx", "ok"), ("fp16", "ok")] for number in range(4)}
    assert max(row["attempts"] for rows in models_of.values() for row in rows) == 2
    assert all_gone(doomed.mark, set(), 10) == {}
    # Nothing is left on the node that lives but what it may need again.
    left = list(doomed.folder.parent.glob("driver.n*/converter-*/runs/*"))
    assert len(left) <= 1  # of the daemon of the node that was killed, which had no time


def test_a_node_that_is_killed_while_it_sends_leaves_nothing_half(doomed: Driver) -> None:
    model = (
        "+models.m={source: {file: zoo/net.py, name: Meeting}, inputs: {x: {shape: [2, 1200]}},"
        "kwargs: {width: 1200, stays: false}}"
    )
    sent = doomed.objects("sending")
    with doomed.start(doomed.command("sending", model, "benchmark=off")) as process:
        try:
            node = doomed.met(process)
            doomed.store.faults.delay_s = 8.0
            while not any(key.startswith("sending/.tmp/") for key in objectstore.held()):
                assert process.poll() is None
                time.sleep(0.02)
            doomed.kill(node)
            doomed.store.faults.delay_s = 0.0
            output, _ = process.communicate(timeout=400)
        finally:
            process.kill()
    assert process.returncode == 0, output
    (row,) = doomed.manifest("sending")["models"][0]["artifacts"]
    assert (row["status"], row["attempts"]) == ("ok", 2)
    there = [each.key for each in sent.list("files/")]
    assert there
    for key in there:
        content = sent.read(key)
        assert content is not None
        assert hashlib.sha256(content.data).hexdigest() == key.rpartition("/")[2]
