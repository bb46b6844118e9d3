"""A command one of whose processes gets a signal: set up, run, looked at, and done to its end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kill_server
import nth_server
from kill_server import RUNNER
from nth_trials import caught, difference
from test_resume_faults import REPOSITORY, normalised

from converter.cache.entries import Store
from converter.finalize.zoo_index import INDEX
from converter.layout import delivery, files, runfiles
from converter.model.manifest import ArtifactRow, Manifest
from converter.sweep.record import SWEEP
from tests.published import sound, stray

SCENARIOS = ("benchmark", "sweep", "publication")
SIGNALS = ("SIGKILL", "SIGSTOP")
_EXPERIMENT = """\
# @package _global_
defaults:
  - override /exporter: torchscript
  - override /benchmark: "off"
models:
  one: {source: simple_cnn, export: {external_data: always}}
  half: {source: single_conv, variants: [fp16]}
  two: {source: single_conv, simplify: false}
store: {path: outputs/.store}
verify: {budget: 1}
reports: [csv]
"""
_TRIES = 3
_OF_A_JOB = ("log.txt", "job.json", "result.json")
_RUNS = "outputs/runs"
_RUN = f"{_RUNS}/run"
_PUBLISHES = "publish_to=zoo"
# In the second night one model has changed, the others are in the store, and the oldest run goes.
_SECOND = [_PUBLISHES, "++models.half.opset=18", "baseline=latest", "keep=2"]
_POINTS = ("opset=17", "opset=18")
_TIMED = ["benchmark=cpu", "benchmark.budget_s=0.05", "benchmark.torch=false"]


@dataclass(frozen=True)
class Trial:
    """A signal at a moment of a scenario.

    Attributes:
        part: of the time that the command takes without a fault.
        seed: of the choice among what is alive then.
    """

    number: int
    scenario: str
    signal: str
    part: float
    seed: int

    def __str__(self) -> str:
        return f"{self.number} {self.scenario} {self.signal} at {self.part:.3f}"


@dataclass
class Found:
    """What a trial came to.

    Attributes:
        role: of the process that got the signal; empty: the command had ended by then.
        ends: the exit code of the command, ``killed`` or ``hung``.
        wrong: what broke a promise.
    """

    trial: Trial
    role: str = ""
    ends: str = ""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    told: str = ""


def drawn(seed: int, number: int) -> list[Trial]:
    """Trials by chance; each is the same whatever else is asked for."""
    found = []
    for index in range(number):
        draw = random.Random(f"{seed} {index}")
        choice = draw.choice(SCENARIOS), draw.choice(SIGNALS)
        found.append(Trial(index, *choice, draw.uniform(0, 1), draw.randrange(1 << 30)))
    return found


class World:
    """All that the commands leave in the folder of a trial."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.zoo = folder / _RUNS, folder / "zoo"
        self.store = Store(folder / "outputs/.store")

    def folders(self, name: str) -> dict[str, Path]:
        """The run of that name, or the points of the sweep; with what has begun there."""
        top = self.runs / name
        places = {"": top} | {point: top / point for point in _POINTS}
        return {key: path for key, path in places.items() if (path / ".hydra/hydra.yaml").exists()}

    def state(self, name: str) -> dict[str, Any]:
        """What an interrupted command has to come to: all that is no id, no time and no attempt."""
        found: dict[str, Any] = {"store": sorted(self.store.held())}
        for key, path in self.folders(name).items():
            found[f"run {key}"] = normalised(path)
            names = sorted(str(each.relative_to(path)) for each in path.rglob("*"))
            found[f"files {key}"] = _of_either(found[f"run {key}"], names) if key else names
            found[f"hashes {key}"] = self.hashes(path)
        if (self.runs / name / SWEEP).exists():
            sweep = json.loads((self.runs / name / SWEEP).read_text())
            found["points"] = [(point["name"], point["state"]) for point in sweep["points"]]
        elif (self.runs / name).exists():
            latest = self.runs / delivery.LATEST
            found["latest"] = latest.is_symlink() and os.readlink(latest)
            # The history of nights takes in with the next run what this one could not tell it.
            names = (path.name for path in self.runs.iterdir())
            found["runs"] = sorted(name for name in names if not name.startswith("history."))
        if self.zoo.exists():
            found["published"], found["stray"] = sound(self.zoo), stray(self.zoo)
        return found

    def gist(self, name: str) -> dict[str, Any]:
        """What a command comes to that finds the store of another one."""
        found: dict[str, Any] = {"store": sorted(self.store.held())}
        for key, path in self.folders(name).items():
            rows = runfiles.read(path).rows
            found[f"rows {key}"] = {row.label: row.status for row in rows}
            found[f"timed {key}"] = {row.label: [e.status for e in row.latency] for row in rows}
            found[f"hashes {key}"] = self.hashes(path)
        if self.zoo.exists():
            found["published"], found["stray"] = sound(self.zoo), stray(self.zoo)
        return found

    def hashes(self, run: Path) -> dict[str, str]:
        """Those of all files under a final name in a run."""
        found = [path for path in (run / "models").rglob("*.onnx*") if path.is_file()]
        return {str(path.relative_to(run)): files.sha256(path) for path in sorted(found)}

    def store_faults(self) -> list[str]:
        """What is not whole in the store."""
        wrong = []
        for key in self.store.held():
            stored = self.store.read(key)
            why = self.store.damage(stored) if stored else "is gone"
            wrong += [f"P1: the store's {key[:8]}: {why}"] if why else []
        return wrong


class Trials:
    """Where trials take place: ``base/trial`` is set up for each of them anew.

    Args:
        real: jobs convert; else they lay down what a conversion gave.
    """

    def __init__(self, base: Path, server: subprocess.Popen[str], *, real: bool) -> None:
        self._base, self._folder = base, base / "trial"
        self._world = World(self._folder)
        self._server, self._real = server, real
        self._timeout_s = 300
        self._whole: dict[str, dict[str, Any]] = {}
        self._gist: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}

    def do(self, words: Sequence[str], entry: str = "again", **more: Any) -> dict[str, Any]:
        """Run a command; what the server says of it, and what it printed."""
        output = self._base / "output"
        environment = {nth_server.KEPT: str(self._base / "kept")}
        if entry == "keeping":
            environment[nth_server.ENTRY] = f"kill_entries:{entry}"
        elif not self._real:
            environment[kill_server.ENTRY] = f"kill_entries:{entry}"
        places = {"folder": str(self._folder), "output": str(output), "own_servers": True}
        order = {"words": list(words), "environment": environment, **places, **more}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        found: dict[str, Any] = json.loads(self._server.stdout.readline())
        status = found["status"]
        found["code"] = None if status is None else os.waitstatus_to_exitcode(status)
        return {**found, "told": output.read_text(errors="replace")}

    def _done(self, words: Sequence[str], entry: str = "again", **more: Any) -> float:
        found = self.do(words, entry, **more)
        assert (found["code"], found["left"]) == (0, []), found["told"]
        return float(found["seconds"])

    def words(self, scenario: str, name: str = "run") -> list[str]:
        """The command that a scenario looks at.

        Args:
            name: of the folder of its run, or of its sweep.
        """
        # A job that is kept writes there.
        limits = [f"executor.timeout_s={self._timeout_s}", "executor.grace_s=0.5"]
        usual = [f"executor.writable=[{self._base}]", "executor.workers=2", *limits]
        first = ["--config-dir", str(self._base / "conf"), "+experiment=kills", *usual]
        place = f"{_RUNS}/{name}"
        if scenario == "sweep":
            return ["-m", *first, "opset=17,18", f"hydra.sweep.dir={place}"]
        own = {"benchmark": _TIMED, "publication": _SECOND, "first": [_PUBLISHES]}
        return [*first, *own[scenario], f"hydra.run.dir={place}"]

    def prepare(self) -> None:
        """The folders that scenarios begin with, and what each comes to without faults."""
        conf = self._base / "conf/experiment"
        conf.mkdir(parents=True)
        (conf / "kills.yaml").write_text(_EXPERIMENT)
        self._folder.mkdir()
        self._keep("benchmark")
        self._keep("sweep")
        # With the modules that a run needs; what the jobs give is kept.
        self._done(self.words("benchmark"), "keeping", learned=str(self._base / "learned"))
        # Each point for itself, and the first one with what it makes for the other.
        for store in ("store.use=false", "store.use=true"):
            self._restore("sweep")
            self._done([*self.words("sweep"), store], "keeping")
        self._restore("benchmark")
        # Of models and opsets that are kept by now.
        for night in ("0", "1"):
            self._done(self.words("first", night))
        self._keep("publication")
        # A job that is stopped takes as long.
        self._timeout_s = 30 if self._real else 4
        for scenario in SCENARIOS:
            self._restore(scenario)
            self.seconds[scenario] = self._done(self.words(scenario))
            self._whole[scenario] = self._world.state("run")
            self._gist[scenario] = self._world.gist("run")

    def _keep(self, scenario: str) -> None:
        target = self._base / "templates" / scenario
        target.parent.mkdir(exist_ok=True)
        # Hard links stay, and times: the store shares files with the runs.
        subprocess.run(["cp", "-a", self._folder, target], check=True)

    def _restore(self, scenario: str) -> None:
        shutil.rmtree(self._folder)
        subprocess.run(["cp", "-a", self._base / "templates" / scenario, self._folder], check=True)

    def run(self, trial: Trial) -> Found:
        """Send the signal, look at what is there, do the command to its end, and look again."""
        for _ in range(_TRIES):
            self._restore(trial.scenario)
            after = trial.part * self.seconds[trial.scenario]
            fault = {"after_s": after, "signal": trial.signal, "seed": trial.seed}
            ran = self.do(self.words(trial.scenario), fault=fault)
            if ran["role"]:
                break
            # It ended before: the machine is less busy than it was, and this is what it takes now.
            self.seconds[trial.scenario] = min(self.seconds[trial.scenario], ran["seconds"])
        code = ran["code"]
        ends = "hung" if code is None else "killed" if code == -signal.SIGKILL else str(code)
        found = Found(trial, ran["role"], ends, ran["seconds"], told=ran["told"])
        costs = self._judge(found, ran)
        if costs:
            self._once_more(found)
        elif found.ends == "killed" or found.wrong:
            self._resumed(found)
        else:
            self._is_whole(found)
        return found

    def _judge(self, found: Found, ran: dict[str, Any]) -> bool:
        """What is there before anybody resumes; whether the fault cost a model or a latency."""
        trial, wrong, world = found.trial, found.wrong, self._world
        wrong += [f"P6: {line} is left" for line in ran["left"]]
        wrong += [f"printed {word}" for word in ("Traceback", "defect") if word in ran["told"]]
        costs = False
        for key, folder in world.folders("run").items():
            whole = self._whole[trial.scenario][f"hashes {key}"]
            for path, digest in world.hashes(folder).items():
                if whole.get(path) != digest:
                    wrong.append(f"P1: {path} is not whole")
            if not (folder / runfiles.MANIFEST).exists():
                continue
            try:
                record = runfiles.read(folder)
            except ValueError as error:
                wrong.append(f"the manifest cannot be read: {error}")
                continue
            rows = self._whole[trial.scenario][f"run {key}"]["models"]
            if [model.name for model in record.models] != [row["name"] for row in rows]:
                wrong.append(f"P2: rows of {[model.name for model in record.models]}")
            costs |= _costs(found, record)
        wrong += caught("store", lambda: wrong.extend(world.store_faults()))
        if (world.zoo / INDEX).exists():
            wrong += caught("published", lambda: sound(world.zoo, settled=False))
        killed = (trial.signal, found.role) == ("SIGKILL", RUNNER)
        failed = costs and not found.role.startswith("latency")
        if ran["code"] != (-signal.SIGKILL if killed else int(failed)):
            wrong.append(f"exit code {ran['code']}")
        return costs

    def _resumed(self, found: Found) -> None:
        """P4: what a run without faults comes to, and nothing else."""
        world, scenario = self._world, found.trial.scenario
        begun = world.folders("run")
        for folder in begun.values():
            self._to_its_end(found, ["resume", str(folder.relative_to(self._folder))])
        if not begun:
            # Killed before it had begun: it is started again.
            shutil.rmtree(world.runs / "run", ignore_errors=True)
            self._to_its_end(found, self.words(scenario))
        elif scenario == "sweep" and begun.keys() != set(_POINTS):
            # Points that had not begun: the sweep again, in a folder of its own.
            self._compare(found, "run", keys=begun)
            self._once_more(found)
            return
        self._is_whole(found)

    def _to_its_end(self, found: Found, words: Sequence[str]) -> None:
        ran = self.do(words)
        found.told += f"\n---- {words[:2]}\n{ran['told']}"
        if ran["code"] != 0:
            found.wrong.append(f"{words[0]}: exit code {ran['code']}")
        found.wrong += [f"{words[0]}: P6: {line} is left" for line in ran["left"]]

    def _is_whole(self, found: Found) -> None:
        self._compare(found, "run")
        found.wrong += caught("store", lambda: found.wrong.extend(self._world.store_faults()))

    def _compare(self, found: Found, name: str, keys: Sequence[str] | dict[str, Path] = ()) -> None:
        whole, state = self._whole[found.trial.scenario], {}
        found.wrong += caught("afterwards", lambda: state.update(self._world.state(name)))
        # Of a sweep whose points have not all begun, those that have.
        some = {f"{kind} {key}" for kind in ("run", "files", "hashes") for key in keys}
        for key, value in whole.items():
            if (not keys or key in some) and state.get(key) != value:
                found.wrong.append(f"afterwards: {key}: {difference(value, state.get(key))}")

    def _once_more(self, found: Found) -> None:
        """The same command in another folder, which has the store of the one before."""
        self._to_its_end(found, self.words(found.trial.scenario, "more"))
        whole, gist = self._gist[found.trial.scenario], {}
        found.wrong += caught("once more", lambda: gist.update(self._world.gist("more")))
        for key, value in whole.items():
            if gist.get(key) != value:
                found.wrong.append(f"once more: {key}: {difference(value, gist.get(key))}")


def _of_either(run: dict[str, Any], names: list[str]) -> list[str]:
    """The files of a point that its models have whether an earlier point made them or this one.

    What says which is removed from the run.
    """
    for model in run["models"]:
        for row in model["artifacts"]:
            del row["cached"], row["cache_miss_reason"]
    return [name for name in names if Path(name).name not in _OF_A_JOB]


def _costs(found: Found, record: Manifest) -> bool:
    """Whether a signal cost a model or a latency, as it may; any other loss is noted.

    A job that is stopped runs out of time, and one of a latency is not tried again.
    """
    stopped = found.trial.signal == "SIGSTOP" and found.role in ("job", "child of a job")
    costs = False
    for row in record.rows:
        failed = [entry for entry in row.latency if entry.status != "measured"]
        if failed and found.role.startswith("latency "):
            costs = True
        elif failed and record.run.complete:
            found.wrong.append(f"latency of {row.label}: {failed[0].reason}")
        if row.status in ("ok", "not_run"):
            continue
        if stopped and _is_of_time(row, record):
            costs = True
        else:
            error = row.error
            found.wrong.append(f"{row.label} is {row.status}: {error and error.message}")
    return costs


def _is_of_time(row: ArtifactRow, record: Manifest) -> bool:
    """Whether a row ran out of time, or is made from one that did."""
    if row.status == "timeout":
        return True
    parent = next(other for other in record.rows if other.label == row.name)
    return parent is not row and parent.status == "timeout"


@contextmanager
def opened(base: Path, *, real: bool = False) -> Iterator[Trials]:
    """Trials in a folder."""
    path = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
    # A stopped job of a real conversion costs as much time as one that hangs may take.
    limits = (5.0, 45.0) if real else (3.0, 8.0)
    environment = dict(zip((kill_server.MARGIN, kill_server.START), map(str, limits), strict=True))
    with subprocess.Popen(
        [sys.executable, "-m", "kill_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment, "PYTHONPATH": path},
    ) as server:
        try:
            trials = Trials(base, server, real=real)
            trials.prepare()
            yield trials
        finally:
            assert server.stdin is not None
            server.stdin.close()
