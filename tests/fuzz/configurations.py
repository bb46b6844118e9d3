"""Configurations and overrides that Hypothesis draws: exit 0, 1 or 2, soon, in few plain words.

    python tests/fuzz/configurations.py --count 3000          # each in a fork: minutes
    python tests/fuzz/configurations.py --seed 7 --count 500
    python tests/fuzz/configurations.py --real 30             # in processes of their own, too

An experiment has any YAML value at any key of the schema, keys that nobody knows, aliases, tags,
interpolations, bytes of real files changed; the command line has overrides of every form. `plan`,
`validate` and `--cfg` read them by the same way as a run does, and no job starts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import hypothesis
from configuration_strategies import Asked, command, commands
from forked import Ended, shortened
from hypothesis import HealthCheck, Phase, given, settings

from converter.cli import command_line, unforeseen
from converter.cli.commands import plan, validate
from converter.config import zoo_files
from converter.runner import reuse
from converter.sweep import launch

SEED = 20264
CPU_S = 2.0
_KILL_S, _MEMORY = 20.0, 512 << 20
# They are there before the first fork.
IMPORTED = (plan, validate, zoo_files, launch, reuse, unforeseen)


def tried(asked: Asked, folder: Path) -> tuple[Ended, list[str]]:
    """One command in a fork, and what it has broken."""
    words = command(asked, folder)

    def work(tell: forked.Tell) -> int:
        os.chdir(folder)
        return command_line.main(words)

    ended = forked.call(work, folder, seconds=_KILL_S, memory=_MEMORY)
    # What `--cfg` prints is the configuration itself, as it was given.
    most = forked.MOST_TOLD if asked.verb != "--cfg" or ended.code else 10**7
    allowed_s = CPU_S + len(asked.text) / 1e6
    wrong = forked.promises(ended, {0, 1, 2}, allowed_s, most)
    if asked.verb == "--cfg" and not ended.code:
        wrong = [line for line in wrong if not line.startswith("printed the character")]
    return ended, wrong


def real(asked: Asked, folder: Path) -> tuple[str, list[str]]:
    """One command in a process of its own: what it printed, and what it has broken."""
    words = [os.fsencode(word) for word in command(asked, folder)]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "converter", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    told = done.stdout.decode(errors="replace")
    code = done.returncode if done.returncode >= 0 else None
    seconds = time.monotonic() - start
    ended = Ended(code, "signal", seconds, 0.0, 0, told)
    most = forked.MOST_TOLD if asked.verb != "--cfg" or code else 10**7
    return told, forked.promises(ended, {0, 1, 2}, CPU_S, most)


def drawn(seed: int, count: int, look: Callable[[Asked], None]) -> None:
    """Call ``look`` for so many commands: the same ones for the same seed."""

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(commands())
    def each(asked: Asked) -> None:
        look(asked)

    each()


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--real", type=int, default=30, help="so many in processes, too")
    parser.add_argument("--folder", type=Path)
    asked_for = parser.parse_args()
    ends: Counter[str] = Counter()
    slow: list[tuple[float, str]] = []
    peaks: list[int] = []
    broken, start = 0, time.monotonic()
    print(f"seed {asked_for.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=asked_for.folder) as base:
        folder = Path(base)
        taken: list[Asked] = []

        def look(asked: Asked) -> None:
            nonlocal broken
            ended, wrong = tried(asked, folder)
            ends[f"{asked.verb} {ended.why if ended.code is None else ended.code}"] += 1
            slow.append((ended.cpu_s, f"{asked.verb} {asked.words} {asked.text[:200]!r}"))
            peaks.append(ended.peak_bytes)
            if len(taken) < asked_for.real and ends.total() % 7 == 0:
                taken.append(asked)
            if wrong:
                broken += 1
                show(asked, wrong, ended.told)

        drawn(asked_for.seed, asked_for.count, look)
        for asked in taken:
            told, wrong = real(asked, folder)
            ends["real"] += 1
            if wrong:
                broken += 1
                show(asked, ["in a process of its own", *wrong], told)
    for name, count in sorted(ends.items()):
        print(f"{count:6} {name}")
    for seconds, what in sorted(slow)[-5:]:
        print(f"{seconds:.2f} s of CPU: {shortened(what, 300)}")
    print(f"most memory: {max(peaks) >> 20} MiB")
    told = f"{ends.total()} commands, {broken} broke a promise"
    print(f"{told}, {time.monotonic() - start:.0f} s, seed {asked_for.seed}")
    return int(broken > 0)


def show(asked: Any, wrong: list[str], told: str) -> None:
    """Tell of a command that broke a promise."""
    print(f"{asked.verb} {asked.words!r}: {wrong}")
    print(f"    file: {shortened(repr(asked.text), 700)}")
    print(f"    told: {shortened(told, 1200)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
