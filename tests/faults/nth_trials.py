"""A run in which one call fails: set up, run, looked at, resumed, and looked at again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nth_server
from nth_shim import CHANGES, Shim
from test_resume_faults import REPOSITORY, normalised

from converter.cache.entries import TEMPORARY, DamagedError, Store
from converter.finalize.zoo_index import INDEX
from converter.layout import delivery, runfiles
from converter.model.manifest import Manifest
from tests.published import sound, stray

_EXPERIMENT = """\
# @package _global_
defaults:
  - override /exporter: torchscript
  - override /benchmark: "off"
models:
  one: {source: simple_cnn, export: {external_data: always}}
  half: {source: single_conv, variants: [fp16]}
store: {path: outputs/.store}
publish_to: zoo
executor: {workers: 1}
verify: {budget: 1}
reports: [csv]
"""
SCENARIOS = ("night", "second", "resume")
_NIGHTS = "outputs/nights"
_RUN = f"{_NIGHTS}/run"
# The second night: one model is in the store, the other has changed, and the oldest run goes.
_SECOND = ["++models.half.opset=18", "baseline=latest", "keep=2"]


@dataclass(frozen=True)
class Trial:
    """A call that fails, of a scenario.

    Attributes:
        at: counted from 1.
    """

    scenario: str
    mode: str
    error: str
    at: int

    def __str__(self) -> str:
        error = "" if self.mode == "kill" else f" {self.error}"
        return f"{self.scenario} {self.mode}{error} at {self.at}"


@dataclass
class Found:
    """What a trial came to.

    Attributes:
        ends: the exit code of the run, ``killed`` or ``hung``.
        call: that failed.
        wrong: what broke a promise.
    """

    trial: Trial
    ends: str = ""
    call: str = ""
    wrong: list[str] = field(default_factory=list)
    told: str = ""


class World:
    """All that a run leaves in the folder of a trial."""

    def __init__(self, folder: Path) -> None:
        self.run, self.zoo = folder / _RUN, folder / "zoo"
        self.store = Store(folder / "outputs/.store")
        self.nights = self.run.parent

    def state(self) -> dict[str, Any]:
        """What ``resume`` has to come to: all that is no id, no time and no attempt."""
        return {
            "manifest": normalised(self.run),
            "files": _names(self.run),
            "hashes": self.hashes(),
            "published": sound(self.zoo),
            "stray": stray(self.zoo),
            "zoo": _names(self.zoo),
            # The history of nights takes in with the next run what this one could not tell it.
            "runs": sorted(
                path.name for path in self.nights.iterdir() if not path.name.startswith("history.")
            ),
            "latest": os.readlink(self.nights / delivery.LATEST),
        }

    def hashes(self) -> dict[str, str]:
        """Those of all files under a final name in the run."""
        files = [path for path in (self.run / "models").rglob("*.onnx*") if path.is_file()]
        return {str(path.relative_to(self.run)): _sha256(path) for path in sorted(files)}

    def store_faults(self) -> list[str]:
        """What is not whole in the store."""
        wrong = []
        for key in self.store.held():
            try:
                stored = self.store.read(key)
                why = self.store.damage(stored) if stored else "is gone"
            except DamagedError as error:
                why = str(error)
            wrong += [f"P1: the store's {key[:8]}: {why}"] if why else []
        # An entry of the store that a kill left half made goes with `store gc`, an hour later.
        left = [path.name for path in self.store.path.glob("*") if len(path.name) != 64]
        if left := [name for name in left if not name.startswith(TEMPORARY)]:
            wrong.append(f"in the store is {left}")
        return wrong

    def record(self) -> Manifest | None:
        path = self.run / runfiles.MANIFEST
        return runfiles.read(self.run) if path.exists() else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class Trials:
    """Where trials take place: ``base/trial`` is set up for each of them anew.

    Args:
        real: jobs convert; else they lay down what a conversion gave.
        kinds: of the calls that count.
    """

    def __init__(
        self,
        base: Path,
        server: subprocess.Popen[str],
        shim: Shim,
        real: bool,
        kinds: Sequence[str],
    ) -> None:
        self.base, self.folder = base, base / "trial"
        self.world = World(self.folder)
        self._server, self._shim, self._real, self._kinds = server, shim, real, kinds
        self._whole: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, list[str]] = {}

    def do(self, words: Sequence[str], entry: str = "again", **more: str) -> tuple[int, str]:
        """Run a command; its wait status and what it printed."""
        output = self.base / "output"
        entry = "" if self._real and entry == "again" else f"nth_entries:{entry}"
        kept = {nth_server.KEPT: str(self.base / "kept"), nth_server.ENTRY: entry}
        places = {"folder": str(self.folder), "output": str(output)}
        order = {"words": list(words), "environment": kept, **places, **more}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline()), output.read_text(errors="replace")

    def done(self, words: Sequence[str], entry: str = "again", **more: str) -> None:
        status, told = self.do(words, entry, **more)
        assert os.waitstatus_to_exitcode(status) == 0, told

    def night(self, *words: str) -> list[str]:
        # A job keeps its result there, and the calls of all processes are counted there.
        writable = f"executor.writable=[{self.base}]"
        return ["--config-dir", str(self.base / "conf"), "+experiment=nights", writable, *words]

    def prepare(self) -> None:
        """The folders that scenarios begin with, and what each comes to without faults."""
        conf = self.base / "conf/experiment"
        conf.mkdir(parents=True)
        (conf / "nights.yaml").write_text(_EXPERIMENT)
        (self.base / "trial").mkdir()
        self._keep("night")
        # With the modules that a run needs; what the jobs give is kept.
        self.done(self._first(), "keeping", learned=str(self.base / "learned"))
        (self.folder / _RUN).rename(self.folder / _NIGHTS / "0")
        self.done(self._first())
        (self.folder / _RUN).rename(self.folder / _NIGHTS / "1")
        delivery.link_latest(self.folder / _NIGHTS / "1")
        self._keep("second")
        self.done(self._second(), "keeping")
        self._undisturbed("night")
        self._undisturbed("second")
        # A run that was killed with both models done, one of them in the store, and no variant.
        self.restore("night")
        self._shim.arm(self.folder, ("link",), "kill", 1, "EIO")
        self.do(self._first())
        self._shim.disarm()
        self._keep("resume")
        self._undisturbed("resume")
        assert self._whole["resume"] == self._whole["night"]

    def _first(self) -> list[str]:
        return self.night(f"hydra.run.dir={_RUN}")

    def _second(self) -> list[str]:
        return self.night(f"hydra.run.dir={_RUN}", *_SECOND)

    def words(self, scenario: str) -> list[str]:
        """The command that a scenario looks at."""
        first = {"night": self._first(), "second": self._second(), "resume": ["resume", _RUN]}
        return first[scenario]

    def _keep(self, scenario: str) -> None:
        target = self.base / "templates" / scenario
        target.parent.mkdir(exist_ok=True)
        # Hard links stay, and times: the store shares files with the runs.
        subprocess.run(["cp", "-a", self.folder, target], check=True)

    def restore(self, scenario: str) -> None:
        shutil.rmtree(self.folder)
        subprocess.run(["cp", "-a", self.base / "templates" / scenario, self.folder], check=True)

    def _undisturbed(self, scenario: str) -> None:
        self.restore(scenario)
        self._shim.arm(self.folder, self._kinds, "count", 0, "EIO")
        self.done(self.words(scenario))
        self.calls[scenario] = self._shim.disarm()
        self._whole[scenario] = self.world.state()

    def is_of_worker(self, trial: Trial) -> bool:
        """Whether a call is one of a job, or of what watches over it."""
        calls = self.calls[trial.scenario]
        return calls[trial.at - 1].split()[0] != calls[0].split()[0]

    def run(self, trial: Trial) -> Found:
        """Have a call fail, look at what is there, resume, and look again."""
        self.restore(trial.scenario)
        self._shim.arm(self.folder, self._kinds, trial.mode, trial.at, trial.error)
        status, told = self.do(self.words(trial.scenario))
        calls = self._shim.disarm()
        found = Found(trial, told=told)
        found.call = calls[trial.at - 1] if trial.at <= len(calls) else "0 none -"
        ended = os.waitstatus_to_exitcode(status) if status >= 0 else None
        found.ends = (
            "hung" if ended is None else "killed" if ended == -signal.SIGKILL else str(ended)
        )
        self._judge(found, ended, told)
        self._resumed(found)
        return found

    def _judge(self, found: Found, code: int | None, told: str) -> None:
        """What is there before anybody resumes."""
        wrong, allowed = found.wrong, {0, 1, 3}
        if found.trial.mode == "kill":
            allowed = {0, -signal.SIGKILL}
        if code not in allowed:
            wrong.append(f"exit code {code}")
        wrong += [f"printed {word}" for word in ("Traceback", "defect") if word in told]
        whole = self._whole[found.trial.scenario]
        for path, digest in self.world.hashes().items():
            if whole["hashes"].get(path) != digest:
                wrong.append(f"P1: {path} is not whole")
        wrong += self.world.store_faults()
        if (self.world.zoo / INDEX).exists():
            wrong += caught("published", lambda: sound(self.world.zoo, settled=False))
        try:
            record = self.world.record()
        except ValueError as error:
            wrong.append(f"the manifest cannot be read: {error}")
            return
        if record is not None:
            wrong += self._of_record(record, code, found.trial)
        elif code in (0, 1):
            wrong.append(f"exit code {code} without a manifest")

    def _of_record(self, record: Manifest, code: int | None, trial: Trial) -> list[str]:
        wrong, run, mode = [], record.run, trial.mode
        whole = self._whole[trial.scenario]
        names = [model["name"] for model in whole["manifest"]["models"]]
        if [model.name for model in record.models] != names:
            wrong.append(f"P2: rows of {[model.name for model in record.models]}")
        # One that could not be written any more says that it is not complete, and no more.
        said = run.finished_at is not None and (run.complete or mode == "once")
        if code in (0, 1, 3) and said and run.exit_code != code:
            wrong.append(f"exit code {code}, in the manifest {run.exit_code}")
        if run.complete:
            wrong += self._of_complete(record, whole)
        elif code in (0, 1):
            wrong.append(f"exit code {code}, and the run is not complete")
        for row in record.rows:
            error = row.error
            if error is not None and error.code != "IO":
                wrong.append(f"{row.label} is {row.status}: {error.code} {error.message}")
        if code == 0 and any(row.status != "ok" for row in record.rows):
            wrong.append("exit code 0, and not all is ok")
        return wrong

    def _of_complete(self, record: Manifest, whole: dict[str, Any]) -> list[str]:
        run, rows = record.run, record.rows
        fine = all(row.status == "ok" for row in rows)
        wrong = [f"complete, and {row.label} is not_run" for row in rows if row.status == "not_run"]
        if fine and sound(self.world.zoo) != whole["published"]:
            wrong.append("complete, and not all is published")
        if run.undone or (fine and run.exit_code != 0):
            wrong.append(f"complete with exit code {run.exit_code}, undone {run.undone}")
        return wrong

    def _resumed(self, found: Found) -> None:
        """P4: what a run without faults comes to, and nothing else."""
        words, begun = ["resume", _RUN], (self.world.run / ".hydra/hydra.yaml").exists()
        if not begun:
            # Killed or refused before it had begun: it is started again.
            shutil.rmtree(self.world.run, ignore_errors=True)
            words = self.words(found.trial.scenario)
        status, told = self.do(words)
        if status != 0:
            found.wrong.append(f"{words[0]}: exit code {os.waitstatus_to_exitcode(status)}")
            found.told += f"\n---- {words[0]}\n{told}"
            return
        whole, state = self._whole[found.trial.scenario], {}
        found.wrong += caught("resumed", lambda: state.update(self.world.state()))
        for key, value in state.items():
            if key == "files" and _cleans(found.call):
                value = [name for name in value if not name.startswith(delivery.STAGING)]
            if value != whole[key]:
                found.wrong.append(f"resumed: {key}: {difference(whole[key], value)}")
        found.wrong += [f"resumed: {line}" for line in self.world.store_faults()]
        if found.wrong:
            found.told += f"\n---- {words[0]}\n{told}"


def _cleans(call: str) -> bool:
    """Whether a call removes what jobs have left: what then stays is hidden, and is no harm."""
    return call.split()[1] in ("unlink", "rmdir") and f"/{delivery.STAGING}" in call


def caught(what: str, look: Callable[[], object]) -> list[str]:
    try:
        look()
    except (AssertionError, OSError, ValueError) as error:
        return [f"{what}: {' '.join(str(error).split())[:300]}"]
    return []


def difference(expected: Any, found: Any) -> str:
    """Where two values differ, in short."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *found]:
            if expected.get(key) != found.get(key):
                return f"{key}: {difference(expected.get(key), found.get(key))}"
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) == len(found):
            for one, other in zip(expected, found, strict=True):
                if one != other:
                    return difference(one, other)
        lost = [one for one in expected if one not in found]
        return f"lacks {lost}, has {[other for other in found if other not in expected]}"[:400]
    return f"{expected!r:.200} → {found!r:.200}"


@contextmanager
def opened(base: Path, *, real: bool = False, kinds: Sequence[str] = CHANGES) -> Iterator[Trials]:
    """Trials in a folder, which must be of no file system that anything else fills."""
    shim = Shim(base)
    path = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, "-m", "nth_server", *(["real"] if real else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **shim.environment, "PYTHONPATH": path},
    ) as server:
        try:
            trials = Trials(base, server, shim, real, kinds)
            trials.prepare()
            yield trials
        finally:
            assert server.stdin is not None
            server.stdin.close()
