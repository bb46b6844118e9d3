"""Damaged manifests, results, indices, store entries and job records, before all that reads them.

python tests/fuzz/records.py --count 2000        # each in a fork
python tests/fuzz/records.py --seed 7 --count 200
python tests/fuzz/records.py --at 123            # one of them, with all that it printed
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from forked import shortened
from record_trials import SEED, Found, Trials


def show(found: Found) -> None:
    """Tell of a record that broke a promise."""
    print(f"{found.number} {found.path}: {' '.join(found.words)}: {found.ends}")
    print("".join(f"    {line}\n" for line in found.wrong), end="")
    print(shortened(found.told), flush=True)


def main() -> int:
    """Run what was asked for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0, help="the number of the first")
    parser.add_argument("--at", type=int, nargs="*", help="only these numbers")
    parser.add_argument("--folder", type=Path, help="where trials take place")
    asked = parser.parse_args()
    ends: Counter[str] = Counter()
    slowest, broken, start = (0.0, 0), 0, time.monotonic()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as base:
        trials = Trials(Path(base), asked.seed)
        try:
            print(f"the world was made in {time.monotonic() - start:.0f} s", flush=True)
            for number in asked.at or range(asked.start, asked.start + asked.count):
                found = trials.run(number)
                ends[found.ends] += 1
                slowest = max(slowest, (found.cpu_s, number))
                broken += bool(found.wrong)
                if found.wrong or asked.at:
                    show(found)
                if ends.total() % 500 == 0:
                    seconds = time.monotonic() - start
                    print(f"{ends.total()}, {broken} broke a promise, {seconds:.0f} s", flush=True)
        finally:
            trials.close()
    for name, count in sorted(ends.items()):
        print(f"{count:6} {name}")
    print(f"slowest: {slowest[1]} ({slowest[0]:.1f} s of CPU)")
    seconds = time.monotonic() - start
    print(f"{ends.total()} records, {broken} broke a promise, {seconds:.0f} s, seed {asked.seed}")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
