"""An experiment twice with one store: cold, then with nothing changed, then with one file touched.

Whole processes without latency measurements, on a copy of the project, so that a source can be
touched. The runs before the last one must agree in every row; of the last one, only the models of
the touched file may be built::

    python benchmarks/warm_against_cold.py [EXPERIMENT] [REGISTRY_FILE]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("converter", "registry", "configs")


def run(folder: Path, name: str, experiment: str) -> tuple[float, dict[str, Any]]:
    """Wall-clock seconds of a whole run, and its rows."""
    command = [
        sys.executable, "-m", "converter", f"+experiment={experiment}", "benchmark=off",
        f"hydra.run.dir={folder / name}", f"store.path={folder / 'store'}",
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    rows = json.loads((folder / name / "manifest.json").read_text())["models"]
    return seconds, {row["name"]: row for row in rows}


def hashing(folder: Path, rows: dict[str, Any]) -> tuple[float, int]:
    """Seconds that hashing the artifacts takes alone, and their bytes."""
    paths = [
        folder / part["path"]
        for row in rows.values()
        if row["artifact"]
        for part in [row["artifact"], *row["artifact"]["external_data"]]
    ]
    start = time.perf_counter()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - start, sum(path.stat().st_size for path in paths)


def built(rows: dict[str, Any]) -> list[str]:
    """The models that were not taken from the store; a failure never is."""
    return [name for name, row in rows.items() if row["status"] == "ok" and not row["cached"]]


def main() -> None:
    experiment = sys.argv[1] if len(sys.argv) > 1 else "zoo"
    touched = sys.argv[2] if len(sys.argv) > 2 else "simple_cnn"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PARTS:
            shutil.copytree(REPOSITORY / part, folder / part)
        cold, first = run(folder, "cold", experiment)
        warm, second = run(folder, "warm", experiment)
        alone, number = hashing(folder / "warm", second)
        source = folder / "registry" / f"{touched}.py"
        source.write_text(source.read_text() + "\n# touched\n")
        after, third = run(folder, "touched", experiment)
    print(f"{experiment}: {len(first)} models, {number / 1e6:.0f} MB of artifacts")
    print(f"cold     {cold:8.1f} s   {len(built(first))} built")
    print(f"warm     {warm:8.1f} s   {len(built(second))} built: {warm / cold:.1%} of cold")
    print(f"         {alone:8.1f} s   of that is hashing the artifacts")
    print(f"touched  {after:8.1f} s   {', '.join(built(third))} built")
    for model in built(third):
        print(f"         {model}: {third[model]['cache_miss_reason']}")


if __name__ == "__main__":
    main()
