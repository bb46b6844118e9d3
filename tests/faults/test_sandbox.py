"""What the code of a model does to its machine: refused with a row that says so, or allowed."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import all_gone

from converter.layout import landlock
from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.plugins.executors import Finished, StageEntered, Started
from converter.plugins.executors.process import ProcessExecutor, servers
from converter.processes import proctree

REPOSITORY = Path(__file__).resolve().parents[2]
WITHOUT = Path(__file__).with_name("without_landlock.py")
OFFER = landlock.offered()
pytestmark = [pytest.mark.faults, pytest.mark.e2e]
needs_landlock = pytest.mark.skipif(not OFFER.version, reason=OFFER.reason)
needs_tcp = pytest.mark.skipif(not OFFER.tcp, reason=OFFER.reason or landlock.NO_TCP)

MODELS = """
import os, socket, subprocess, sys, tempfile
from pathlib import Path
import torch

HERE = Path(__file__).parent


class Good(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.early()

    def early(self):
        pass

    def forward(self, x):
        self.late()
        return self.linear(x)

    def late(self):
        pass


class Writes(Good):
    def early(self):
        (HERE / "outside" / "written").write_text("x")


class WritesLate(Good):
    def late(self):
        (HERE / "outside" / "written_late").write_text("x")


class Deletes(Good):
    def early(self):
        (HERE / "outside" / "precious").unlink()


class Truncates(Good):
    def early(self):
        os.truncate(HERE / "outside" / "precious", 0)


class Takes(Good):
    def early(self):
        os.rename(HERE / "outside" / "precious", Path(tempfile.gettempdir(), "mine"))


class Child(Good):
    def early(self):
        line = "open('outside/by_child', 'w')"
        subprocess.run([sys.executable, "-c", line], cwd=HERE, check=True, capture_output=True)


class Quiet(Good):
    # Nobody is told: what matters is that nothing was done.
    def early(self):
        try:
            (HERE / "outside" / "quiet").write_text("x")
        except OSError:
            pass


class Kills(Good):
    def early(self):
        os.kill(os.getppid(), 9)


class Own(Good):
    def early(self):
        made = Path(tempfile.mkdtemp())
        assert str(made).startswith(os.environ["TMPDIR"])
        (made / "a").write_text("a")
        (made / "folder").mkdir()
        os.rename(made / "a", made / "folder" / "b")
        staging = Path(os.environ["RUN"], ".staging", "own")
        (staging / "c").write_text("c")
        os.rename(staging / "c", made / "c")
        (staging / "link").symlink_to("c")
        (staging / "link").unlink()
        (HERE / "writable" / "kept").write_text("kept")
        (Path(os.environ["XDG_CACHE_HOME"]) / "cached").write_text("cached")
        (Path(os.environ["HF_HOME"]) / "cached").write_text("cached")
        (Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])).mkdir(parents=True, exist_ok=True)
        Path(os.devnull).write_text("gone")
        # Reading and executing are free.
        assert (HERE / "outside" / "precious").read_text() == "precious"
        subprocess.run(["ls", str(HERE)], check=True, stdout=subprocess.DEVNULL)
        import multiprocessing
        multiprocessing.Lock()
        # Where a stage begins to count its memory.
        Path("/proc/self/clear_refs").write_text("5")
        print("TMPDIR", os.environ["TMPDIR"])


class Keeps(Good):
    def early(self):
        (HERE / "writable" / "kept_by").write_text("x")


class Connects(Good):
    def early(self):
        socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 5).close()


class Listens(Good):
    def early(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
"""
REFUSED = ("Writes", "WritesLate", "Deletes", "Truncates", "Takes", "Child", "Quiet", "Kills")


@dataclass
class Zoo:
    """A folder with models, and a loopback server that has weights for them."""

    folder: Path
    port: int
    sha256: str

    @property
    def outside(self) -> dict[str, str]:
        """What lies where no model may write."""
        return {path.name: path.read_text() for path in (self.folder / "outside").iterdir()}

    def model(self, kind: str, more: str = "") -> str:
        source = f"source: {{file: {self.folder}/nets.py, name: {kind}}}"
        return f"+models.{kind.lower()}={{{source}, inputs: {{x: {{shape: [2, 4]}}}}{more}}}"

    def downloaded(self, kind: str) -> str:
        url = f"http://127.0.0.1:{self.port}/net.pth"
        weights = f"{{checkpoint: '{url}', sha256: {self.sha256}}}"
        return self.model(kind, f", weights: {weights}")

    def run(
        self, name: str, *words: str, before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        command = [*before, sys.executable, "-m", "converter", f"hydra.run.dir={name}"]
        environ = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": "",  # torch itself sets it in the process that tests
            "PYTHONPATH": str(REPOSITORY),
            "CONVERTER_TRUST": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "HF_HOME": str(self.folder / "hf"),
            "TMPDIR": str(self.folder / "tmp"),
            "RUN": str(self.folder / name),
            "PORT": str(self.port),
        }
        return subprocess.run(
            [*command, "benchmark=off", "exporter=torchscript", "store.use=false", *words],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def manifest(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "manifest.json").read_text())
        return found

    def rows(self, name: str) -> dict[str, dict[str, Any]]:
        return {model["name"]: model["artifacts"][0] for model in self.manifest(name)["models"]}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("outside", "writable", "tmp", "served"):
        (folder / name).mkdir()
    (folder / "outside" / "precious").write_text("precious")
    (folder / "nets.py").write_text(MODELS)
    code = "import nets, torch; torch.save(nets.Good().state_dict(), 'served/net.pth')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    digest = hashlib.sha256((folder / "served" / "net.pth").read_bytes()).hexdigest()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder / "served"))

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Zoo(folder, server.server_address[1], digest)
        server.shutdown()


@pytest.fixture(scope="module")
def rows(zoo: Zoo) -> dict[str, dict[str, Any]]:
    """Of one run, with the sandbox that is usual."""
    models = [zoo.model(kind) for kind in (*REFUSED, "Own", "Connects", "Listens")]
    models += [zoo.downloaded("Connects").replace("connects", "downloads", 1)]
    done = zoo.run("usual", *models, "executor.writable=[writable]")
    assert done.returncode == 1, done.stdout + done.stderr
    return zoo.rows("usual")


Failed = Callable[[str], tuple[str, str, str]]


@pytest.fixture
def failed(rows: dict[str, dict[str, Any]]) -> Failed:
    def of(name: str) -> tuple[str, str, str]:
        error = rows[name]["error"]
        assert error is not None, f"{name} is {rows[name]['status']}"
        return error["code"], error["message"], error["hint"]

    return of


@needs_landlock
@pytest.mark.parametrize(
    ("name", "code"),
    [("writes", "LOAD"), ("writeslate", "FORWARD"), ("deletes", "LOAD"), ("truncates", "LOAD")],
)
def test_what_is_outside_is_not_written(failed: Failed, zoo: Zoo, name: str, code: str) -> None:
    found, message, hint = failed(name)
    assert (found, zoo.outside) == (code, {"precious": "precious"})
    assert "Permission denied" in message
    assert hint.startswith("executor.sandbox lets a job write only to its staging folder")
    assert f"'executor.writable=[{zoo.folder}/outside]'" in hint
    assert "or write executor.sandbox=off" in hint


@needs_landlock
def test_what_is_outside_is_not_taken_from_there(failed: Failed, zoo: Zoo) -> None:
    found, message, hint = failed("takes")
    assert (found, zoo.outside) == ("LOAD", {"precious": "precious"})
    assert "executor.writable" in hint, message


@needs_landlock
def test_what_a_model_starts_is_in_the_sandbox_too(failed: Failed, zoo: Zoo) -> None:
    assert failed("child")[0] == "LOAD"
    assert zoo.outside == {"precious": "precious"}


@needs_landlock
def test_what_a_model_keeps_to_itself_is_refused_all_the_same(
    rows: dict[str, dict[str, Any]], zoo: Zoo
) -> None:
    assert rows["quiet"]["status"] == "ok"
    assert zoo.outside == {"precious": "precious"}


@pytest.mark.skipif(OFFER.version < 6, reason="signals are kept in from version 6 of Landlock")
def test_a_model_does_not_end_its_supervisor(failed: Failed) -> None:
    code, message, _ = failed("kills")
    assert code == "LOAD"
    assert "Operation not permitted" in message


@needs_landlock
def test_its_own_folders_and_caches_are_a_job_s(rows: dict[str, dict[str, Any]], zoo: Zoo) -> None:
    assert rows["own"]["status"] == "ok", rows["own"]["error"]
    assert (zoo.folder / "writable" / "kept").read_text() == "kept"
    assert (zoo.folder / "cache" / "cached").is_file()
    assert (zoo.folder / "hf" / "cached").is_file()
    assert (zoo.folder / "cache" / "torchinductor").is_dir()
    log = (zoo.folder / "usual" / "models" / "own" / "log.txt").read_text()
    (temporary,) = {line.split()[1] for line in log.splitlines() if line.startswith("TMPDIR ")}
    assert Path(temporary).parent == zoo.folder / "tmp"
    assert list((zoo.folder / "tmp").glob("converter-job-*")) == []  # it goes with its job


@needs_landlock
def test_what_a_killed_supervisor_leaves_is_removed(
    mark: str, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The job dies with it, in a sandbox too, and the runner removes its temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spec = ExecutorSpec(name="process", workers=1, retries=0)
    for event in ProcessExecutor(spec, "entries:by_tag").run([job("a", "keeps_a_file")]):
        if isinstance(event, Started):
            supervisor = proctree.parent(event.pid)
            assert supervisor is not None
        elif isinstance(event, StageEntered):
            (kept,) = tmp_path.glob("converter-job-*/kept")
            os.kill(supervisor, signal.SIGKILL)
        elif isinstance(event, Finished):
            result = event.result
    assert result.error is not None
    assert result.error.message == "its supervisor was killed"
    assert not kept.parent.exists()
    assert all_gone(mark, {servers[True].pid}, 0.5) == {}


@needs_tcp
@pytest.mark.parametrize("name", ["connects", "listens"])
def test_a_model_without_downloads_has_no_network(failed: Failed, name: str) -> None:
    code, message, hint = failed(name)
    assert (code, "Permission denied" in message) == ("LOAD", True)
    assert hint.startswith("executor.sandbox lets a job connect only where its weights or inputs")


def test_weights_that_are_downloaded_come(rows: dict[str, dict[str, Any]]) -> None:
    """The file by the converter, and a connection of the model's own code."""
    assert rows["downloads"]["status"] == "ok", rows["downloads"]["error"]


def test_the_manifest_says_what_jobs_were_kept_from(
    rows: dict[str, dict[str, Any]], zoo: Zoo
) -> None:
    made = zoo.manifest("usual")
    expected = "files and network" if OFFER.tcp else "files" if OFFER.version else "not offered"
    assert made["run"]["sandbox"] == expected
    assert made["environment"]["landlock"] == OFFER.version


def test_without_a_sandbox_all_of_it_happens(zoo: Zoo) -> None:
    kinds = ("Writes", "WritesLate", "Child", "Connects", "Listens")
    done = zoo.run("off", *map(zoo.model, kinds), "executor.sandbox=off")
    assert done.returncode == 0, done.stdout + done.stderr
    made = {"written", "written_late", "by_child"}
    assert zoo.outside.keys() == {"precious", *made}
    assert zoo.manifest("off")["run"]["sandbox"] == "off"
    for name in made:
        (zoo.folder / "outside" / name).unlink()


@needs_landlock
def test_who_looks_at_a_run_again_has_its_sandbox(zoo: Zoo, tmp_path: Path) -> None:
    """Relative folders count from where the run was started."""
    done = zoo.run("keeps", zoo.model("Keeps"), "executor.writable=[writable]")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (["verify"], ["debug"]):
        again = subprocess.run(
            [sys.executable, "-m", "converter", *words, str(zoo.folder / "keeps"), "keeps"],
            cwd=tmp_path,
            env={**os.environ, "CONVERTER_TRUST": str(zoo.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert again.returncode == 0, again.stdout + again.stderr


def test_where_there_is_none_auto_says_so_once_and_runs(zoo: Zoo) -> None:
    hidden = (sys.executable, str(WITHOUT))
    done = zoo.run("without", zoo.model("Writes"), before=hidden)
    (zoo.folder / "outside" / "written").unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    note = "note: jobs run without a sandbox: this kernel has no Landlock"
    assert done.stdout.count(note) == 1
    assert (zoo.folder / "without" / "run.log").read_text().count(note) == 1
    assert zoo.manifest("without")["run"]["sandbox"] == "not offered"
    assert zoo.manifest("without")["environment"]["landlock"] == 0


def test_where_there_is_none_on_starts_nothing(zoo: Zoo) -> None:
    hidden = (sys.executable, str(WITHOUT))
    done = zoo.run("on", zoo.model("Writes"), "executor.sandbox=on", before=hidden)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "executor.sandbox: found on, and this kernel has no Landlock" in done.stderr
    assert "Write executor.sandbox=auto" in done.stderr
    assert not (zoo.folder / "on").exists()
    assert zoo.outside == {"precious": "precious"}


@needs_landlock
def test_an_older_kernel_keeps_files_and_leaves_the_network(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a newer kernel shows it: it is asked for what version 2 knows, and no more."""
    monkeypatch.setattr(landlock, "offered", lambda: landlock.Offer(2))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            landlock.restrict([str(zoo.folder / "writable")], tcp=True)
            socket.create_connection(("127.0.0.1", zoo.port), 5).close()
            (zoo.folder / "writable" / "by_version_2").write_text("x")
            try:
                (zoo.folder / "outside" / "by_version_2").write_text("x")
            except PermissionError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert zoo.outside == {"precious": "precious"}
    assert (zoo.folder / "writable" / "by_version_2").is_file()
