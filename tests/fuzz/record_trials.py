"""One damaged record, and every command that reads it: never a traceback, never served as ok."""

from __future__ import annotations

import gc
import json
import os
import random
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import forked
import mutations
from forked import Tell
from record_world import NIGHTS, STORE, World

from converter.cli import command_line
from converter.plugins import loader
from converter.processes import local

SEED = 20265
_CPU_S, _KILL_S, _MEMORY = 3.0, 120.0, 1 << 30
_NEXT = 4
_MODULES = (
    "converter.cli.commands.compare", "converter.cli.commands.inspect",
    "converter.cli.commands.plan", "converter.cli.commands.report",
    "converter.cli.commands.resume", "converter.cli.commands.store",
    "converter.cli.commands.verify", "converter.cli.unforeseen", "converter.display.runlog",
    "converter.plugins.executors.process", "converter.runner.start", "converter.sweep.launch",
)  # fmt: skip

# What reads each kind, with the exit codes that DESIGN.md has for it. A next run may end with 1
# where what was damaged is of one model, 3 where what it writes to cannot be read, 4 never: what
# is damaged is no baseline.
_REPORT, _RESUME = ["report", f"{NIGHTS}/2"], ["resume", f"{NIGHTS}/3"]
_COMPARE = [["compare", f"{NIGHTS}/1", f"{NIGHTS}/2"], ["compare", f"{NIGHTS}/2", f"{NIGHTS}/1"]]
_RUN = ["RUN"]
_STORE = [["store", verb, "--path", STORE, *more] for verb in ("ls", "verify", "gc")
          for more in ([], ["--json"])]  # fmt: skip
_PLAN = ["PLAN"]
_READERS: dict[str, list[list[str]]] = {
    "manifest": [_REPORT, *_COMPARE, ["resume", f"{NIGHTS}/2"], _RUN, ["verify", f"{NIGHTS}/2",
    "one"]], "begun": [["report", f"{NIGHTS}/3"], _RESUME, ["compare", f"{NIGHTS}/1",
    f"{NIGHTS}/3"]], "results": [["report", f"{NIGHTS}/3"], _RESUME],
    "index": [["verify", "zoo"], _RUN],
    "entry": [*_STORE, _PLAN, _RUN],
    "result": [*_STORE, _PLAN, _RUN],
    "file": [*_STORE[2:4], _PLAN, _RUN],
    "configuration": [_RESUME],
    "job": [["inspect", f"{NIGHTS}/2", "one"], ["inspect", f"{NIGHTS}/2", "half/fp16"],
            ["verify", f"{NIGHTS}/2", "one"], ["verify", f"{NIGHTS}/2", "half/fp16"]],
    "ended": [["verify", f"{NIGHTS}/2", "one"], ["resume", f"{NIGHTS}/2"]],
    "published": [["verify", "zoo"], _RUN],
}  # fmt: skip
_WEIGHTS = {"manifest": 4, "begun": 2, "results": 3, "index": 4, "entry": 3, "result": 2, "file": 1,
            "configuration": 3, "job": 2, "ended": 1, "published": 1}  # fmt: skip
_CODES = {"report": {0, 2, 3}, "compare": {0, 2, 4}, "resume": {0, 1, 2, 3, 4}, "run": {0, 1, 3, 4},
          "store": {0, 1}, "plan": {0}, "verify": {0, 1, 2}, "inspect": {0, 2}}  # fmt: skip


@dataclass
class Found:
    """What one damaged record came to."""

    number: int
    path: str
    words: list[str]
    ends: str = ""
    wrong: list[str] = field(default_factory=list)
    told: str = ""
    cpu_s: float = 0.0


class Trials:
    """Records of one world, damaged one after the other."""

    def __init__(self, base: Path, seed: int) -> None:
        for name in _MODULES:
            import_module(name)
        loader.every()
        # Shared by all trials: it has imported the libraries once.
        self._servers = [local.server(False), local.server(True)]
        self.world = World(base)
        self._base, self._seed = base, seed
        self._texts = self.world.texts()
        self._kinds = list(_WEIGHTS)
        self._whole = {path: (self.world.folder / path).read_bytes()
                       for paths in self._texts.values() for path in paths}  # fmt: skip
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        """End the servers that jobs are forked from."""
        while local.servers:
            local.servers.popitem()[1].close()

    def damaged(self, number: int) -> tuple[str, str, bytes, list[str]]:
        """What a number stands for: a kind, a file, its content, and what reads it."""
        rng = random.Random(f"{self._seed}:{number}")
        (kind,) = rng.choices(self._kinds, list(_WEIGHTS.values()))
        path = rng.choice(self._texts[kind])
        whole = self._whole[path]
        words = rng.choice(_READERS[kind])
        if rng.random() < 0.03:  # deeper than any reader follows
            place, deep = rng.randrange(len(whole)), rng.choice((b"[", b'{"a":')) * 20_000
            return kind, path, whole[:place] + deep + whole[place:], words
        if path.endswith(".yaml") or ".onnx" in path or rng.random() < 0.3:
            return kind, path, mutations.of_bytes(whole, rng, list(self._whole.values())[:9]), words
        if path.endswith(".jsonl"):
            lines = [json.loads(line) for line in whole.splitlines()]
            lines = [mutations.of_plain(line, rng) for line in lines]
            return kind, path, "".join(f"{json.dumps(line)}\n" for line in lines).encode(), words
        try:
            value: Any = json.loads(whole)
        except ValueError:
            return kind, path, mutations.of_bytes(whole, rng), words
        for _ in range(rng.choice((1, 1, 2, 3))):
            value = mutations.of_plain(value, rng)
        return kind, path, json.dumps(value, indent=rng.choice((None, 2))).encode(), words

    def run(self, number: int) -> Found:
        """Damage one record, have one command read it, and judge."""
        kind, path, data, words = self.damaged(number)
        self.world.restore()
        place = self.world.folder / path
        place.unlink()  # it may be one file with that of a run
        place.write_bytes(data)
        line = words
        if words in (_RUN, _PLAN):
            line = [*(["plan"] if words == _PLAN else []), *self.world.night(_NEXT)]
            if words == _PLAN:
                line = [word for word in line if not word.startswith("hydra.run.dir")]

        def work(tell: Tell) -> int:
            os.chdir(self.world.folder)
            return command_line.main(line)

        ended = forked.call(work, self._base, seconds=_KILL_S, memory=_MEMORY)
        verb = "run" if words == _RUN else "plan" if words == _PLAN else words[0]
        found = Found(number, path, line, told=ended.told, cpu_s=ended.cpu_s)
        found.ends = f"{kind} {verb} {ended.why if ended.code is None else ended.code}"
        # What a run is to publish to, or is compared with, cannot be read: nothing is started.
        codes = _CODES[verb] | ({2} if kind in ("configuration", "index", "manifest") else set())
        found.wrong += forked.promises(ended, codes, _CPU_S)
        if verb == "run" and ended.code in (0, 1, 4):
            found.wrong += self.world.served(_NEXT)
        if verb == "resume" and ended.code == 0 and kind in ("begun", "results"):
            found.wrong += self.world.served(3)
        if kind in ("entry", "result", "file") and verb == "run" and ended.code != 0:
            found.wrong.append(f"a damaged entry ended a run with {ended.code}")
        looks = kind in ("published", "file") and verb in ("verify", "store") and ended.code == 0
        # `.holder` says who publishes, and is no part of what is published.
        if looks and data != self._whole[path] and not Path(path).name.startswith("."):
            found.wrong.append("a file that was changed is called right")
        return found
