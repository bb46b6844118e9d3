"""Mutated ONNX files through inspect, diff, check, simplify and verify.

    python tests/fuzz/onnx_files.py --count 10000           # two forks a file, 20 to 40 minutes
    python tests/fuzz/onnx_files.py --seed 7 --count 500
    python tests/fuzz/onnx_files.py --at 4711 --keep out    # one of them, and its file

Each file is small and real, and then has bytes, messages or its meaning changed. What reads it in
the process of a command (inspect, diff) must neither crash nor hang there; what a job does to it
(check, simplify, verify) is bounded by a supervisor, and must come to a verdict that can be
recorded. A file that is called ok, right or equal must compute what it is compared with, on inputs
that are drawn here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from forked import shortened
from onnx_trials import SEED, Found, Trials


def asked_for() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0, help="the number of the first")
    parser.add_argument("--at", type=int, nargs="*", help="only these numbers")
    parser.add_argument(
        "--typed",
        type=int,
        default=100,
        help="of so many one through the commands as they are typed",
    )
    parser.add_argument("--keep", type=Path, help="a folder for the files that broke something")
    parser.add_argument("--folder", type=Path, help="where trials take place")
    return parser.parse_args()


def show(found: Found) -> None:
    """Tell of a file that broke a promise."""
    print(f"{found.number} {found.seed}: {found.ends}")
    print("".join(f"    {line}\n" for line in found.wrong), end="")
    print(shortened(found.told), flush=True)


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    asked = asked_for()
    ends: Counter[str] = Counter()
    unworded: Counter[str] = Counter()
    slow: list[tuple[float, int]] = []
    start, broken, done = time.monotonic(), 0, 0
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as base:
        trials = Trials(Path(base), asked.seed)
        for number in asked.at or range(asked.start, asked.start + asked.count):
            typed = bool(asked.at) or number % asked.typed == 0
            found = trials.run(number, commands=typed)
            done += 1
            ends.update(f"{step} {end}" for step, end in found.ends.items())
            unworded.update(found.unworded)
            slow = sorted([*slow, (found.seconds, number)])[-10:]
            if found.wrong or asked.at:
                broken += bool(found.wrong)
                show(found)
            if asked.keep and (found.wrong or asked.at):
                asked.keep.mkdir(parents=True, exist_ok=True)
                path = asked.keep / f"{found.number}-{found.seed}.onnx"
                path.write_bytes(trials.mutant(number)[1])
            if done % 500 == 0:
                print(f"{done} files, {broken} broke a promise, {time.monotonic() - start:.0f} s",
                      flush=True)  # fmt: skip
        trials.close()
    for name, count in sorted(ends.items()):
        print(f"{count:6} {name}")
    for name, count in unworded.most_common(40):
        print(f"{count:6} in a library's words: {shortened(name, 300)}")
    print("slowest:", *(f"{number} ({seconds:.1f} s)" for seconds, number in reversed(slow)))
    seconds = time.monotonic() - start
    print(f"{done} files, {broken} broke a promise, {seconds:.0f} s, seed {asked.seed}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
