"""A sweep over three opsets, beside three separate runs of the same models.

What is the same job at every point, because its model pins its opset, is converted once in a
sweep: its points share a store. Each separate run starts with a store of its own. Whole
processes, with stores that are empty at the start; latencies are not measured::

    python benchmarks/sweep_against_runs.py [EXPERIMENT]     # zoo, unless another is named
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPSETS = (13, 15, 17)


def seconds(folder: Path, *words: str) -> float:
    """Wall-clock seconds of a command; some models may fail, but it must come to its end."""
    command = [sys.executable, "-m", "converter", *words, "benchmark=off"]
    command.append(f"store.path={folder / 'store'}")
    start = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def main() -> None:
    experiment = f"+experiment={sys.argv[1] if len(sys.argv) > 1 else 'zoo'}"
    separate = 0.0
    for opset in OPSETS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            words = (f"opset={opset}", f"hydra.run.dir={folder / 'run'}")
            took = seconds(folder, experiment, *words)
            print(f"run at opset {opset:2}       {took:8.1f} s", flush=True)
            separate += took
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opsets = ",".join(map(str, OPSETS))
        words = ("-m", f"opset={opsets}", f"hydra.sweep.dir={folder / 'sweep'}")
        sweep = seconds(folder, experiment, *words)
    print(f"three separate runs   {separate:8.1f} s")
    print(f"one sweep             {sweep:8.1f} s")
    print(f"sweep / runs          {sweep / separate:8.2f}")


if __name__ == "__main__":
    main()
