"""SIGKILL or SIGSTOP to any process of a command at any moment, then `resume`.

    python tests/faults/random_kills.py                        # 500
    python tests/faults/random_kills.py --first 200            # all from the 201st on
    python tests/faults/random_kills.py --only 17 --seed 3     # one, with what it printed
    python tests/faults/random_kills.py --jobs real --number 40

A command is a small batch with latencies, a sweep, or a night that publishes. Killed or stopped is
its runner, a fork server, a supervisor, a job or what that has started, whichever is drawn of what
is alive then. After each signal the promises of docs/reliability.md are looked at, and the run that
is resumed has to come to what a run without faults comes to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kill_trials import SCENARIOS, Found, drawn, opened

SEED = 20262
NUMBER = 500
NOTHING = "nothing: it had ended"


def asked_for() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--number", type=int, default=NUMBER, help="of trials, with those left out")
    parser.add_argument("--first", type=int, default=0, help="leave out those before")
    parser.add_argument("--only", nargs="*", type=int, help="only trials of these numbers")
    parser.add_argument("--scenario", nargs="*", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--seconds", type=float, help="as many as that allows")
    parser.add_argument("--jobs", choices=("kept", "real"), default="kept")
    parser.add_argument("--folder", type=Path, default=None, help="where trials take place")
    return parser.parse_args()


def kind(found: Found) -> str:
    """What a trial counts as."""
    return f"{found.trial.scenario:12} {found.trial.signal} {found.role or NOTHING}"


def show(found: Found, *, in_full: bool) -> None:
    """Tell of a trial that broke a promise."""
    print(f"{found.trial} to {found.role or NOTHING}: ended {found.ends}, {found.seconds:.1f} s")
    print("".join(f"    {line}\n" for line in found.wrong), end="", flush=True)
    if in_full:
        print(found.told, flush=True)


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    asked = asked_for()
    counts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    start, broken = time.monotonic(), 0
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as base,
        opened(Path(base), real=asked.jobs == "real") as trials,
    ):
        print(f"seed {asked.seed}; without a fault:", trials.seconds, flush=True)
        for trial in drawn(asked.seed, asked.number)[asked.first :]:
            if asked.seconds and time.monotonic() > start + asked.seconds:
                print(f"go on with --seed {asked.seed} --first {trial.number}")
                break
            left_out = asked.only and trial.number not in asked.only
            if left_out or trial.scenario not in asked.scenario:
                continue
            found = trials.run(trial)
            counts[kind(found)] += 1
            ends[f"ended {found.ends}"] += 1
            if found.wrong or asked.only:
                broken += int(bool(found.wrong))
                show(found, in_full=bool(asked.only))
            if counts.total() % 50 == 0:
                print(f"{counts.total()} trials, {time.monotonic() - start:.0f} s", flush=True)
                print(f"    {dict(sorted(counts.items()))}", flush=True)
    for name, count in (*sorted(counts.items()), *sorted(ends.items())):
        print(f"{count:6} {name}")
    seconds = time.monotonic() - start
    print(f"{counts.total()} trials, {broken} broke a promise, {seconds:.0f} s")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
