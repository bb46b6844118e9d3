"""Every call that changes a file fails once, or from then on, or ends its process: then `resume`.

    python tests/faults/nth_call.py                       # every N, every errno, every mode
    python tests/faults/nth_call.py --scenario night --errno EIO --mode once --every 7
    python tests/faults/nth_call.py --jobs real --errno ENOSPC   # real conversions

The calls of the runner and of its workers are counted together (``nth_call.c``), of those below one
folder, which holds the run, the store and the place that is published to. After each trial the
promises are looked at: what is under a final name is whole, nothing calls itself complete that is
not, no exit code is wrong, nothing prints a traceback; and ``resume`` comes to what a run without
faults comes to.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nth_shim import CHANGES, ERRORS, KINDS, MODES, why_not
from nth_trials import SCENARIOS, Found, Trial, Trials, opened

SEED = 20261


def matrix(
    calls: Mapping[str, Sequence[str]],
    modes: Sequence[str] = MODES[1:],
    errors: Sequence[str] = ERRORS,
    every: int = 1,
) -> Iterator[Trial]:
    """All trials, or of each kind every so many.

    Args:
        calls: of each scenario.
    """
    kinds = [(mode, error) for mode in modes if mode != "kill" for error in errors]
    kinds += [("kill", ERRORS[0])] if "kill" in modes else []
    for scenario, made in calls.items():
        numbers = range(1, len(made) + 1)
        for shift, (mode, error) in enumerate(kinds):
            for at in numbers[shift % every :: every]:
                yield Trial(scenario, mode, error, at)


def asked_for() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", nargs="*", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--mode", nargs="*", choices=MODES[1:], default=MODES[1:])
    parser.add_argument("--errno", nargs="*", default=ERRORS)
    parser.add_argument("--calls", nargs="*", choices=KINDS, default=CHANGES)
    parser.add_argument("--of", choices=("all", "workers"), default="all", help="whose calls")
    parser.add_argument("--at", nargs="*", type=int, help="only these N")
    parser.add_argument("--every", type=int, default=1, help="only each so many of them")
    parser.add_argument("--part", default="0/1", help="1/4: the second quarter of the trials")
    parser.add_argument("--seconds", type=float, help="as many, in any order, as that allows")
    parser.add_argument("--jobs", choices=("kept", "real"), default="kept")
    parser.add_argument("--folder", type=Path, default=None, help="where trials take place")
    return parser.parse_args()


def chosen(asked: argparse.Namespace, trials: Trials) -> list[Trial]:
    """The trials that were asked for, in the order in which they are made."""
    calls = {name: trials.calls[name] for name in asked.scenario}
    each = list(matrix(calls, asked.mode, asked.errno, asked.every))
    if asked.seconds:
        random.Random(SEED).shuffle(each)
    part, parts = map(int, asked.part.split("/"))
    return [
        trial
        for trial in each[part::parts]
        if not asked.at or trial.at in asked.at
        if asked.of == "all" or trials.is_of_worker(trial)
    ]


def show(found: Found, *, in_full: bool) -> None:
    """Tell of a trial that broke a promise."""
    print(f"{found.trial}: {found.call}: ended {found.ends}")
    print("".join(f"    {line}\n" for line in found.wrong), end="", flush=True)
    if in_full:
        print(found.told, flush=True)


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    asked = asked_for()
    if why := why_not():
        print(why)
        return 2
    counts: Counter[str] = Counter()
    start, broken = time.monotonic(), 0
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as base,
        opened(Path(base), real=asked.jobs == "real", kinds=asked.calls) as trials,
    ):
        for name, calls in trials.calls.items():
            print(f"{name}: {len(calls)} calls", dict(Counter(c.split()[1] for c in calls)))
        each = chosen(asked, trials)
        print(f"{len(each)} trials", flush=True)
        for trial in each:
            if asked.seconds and time.monotonic() > start + asked.seconds:
                break
            found = trials.run(trial)
            counts[f"{trial.scenario} {trial.mode} {found.ends}"] += 1
            if found.wrong:
                broken += 1
                show(found, in_full=bool(asked.at))
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    seconds = time.monotonic() - start
    print(f"{counts.total()} trials, {broken} broke a promise, {seconds:.0f} s")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
