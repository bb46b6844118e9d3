"""What the keys of a run cost where the models' code is a large code base.

    python benchmarks/planning.py [--files 20000] [--models 50]

Makes a monorepo of that many Python files in a temporary folder, which import one another and
libraries, on PYTHONPATH; its models are built by functions of it (`_target_`). Prints seconds for
the first key and milliseconds for each further one: without an index, with one, after one file was
edited, and for the look at the files after each job.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from converter.layout import environment
from converter.model.job import Job
from converter.plan import packages
from converter.plan.keys import Keys
from converter.runner import reuse

T = TypeVar("T")
LIBRARIES = ("torch", "numpy", "json", "os", "dataclasses", "typing", "collections", "math")


def monorepo(root: Path, count: int) -> None:
    """A package `mono` of that many files, 50 in a folder, each with some 60 lines of code."""
    draw = random.Random(0)
    names = [f"mono.part_{n // 1000}.team_{n // 50}.module_{n}" for n in range(count)]
    body = "\n".join(
        f"    def method_{n}(self, x, y=({n}, 2)):\n"
        f"        z = [v * {n} for v in x if v > y[0]]\n        return self.f(z, key={n})"
        for n in range(20)
    )
    for number, name in enumerate(names):
        path = root / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (path.parent, path.parent.parent, root / "mono"):
            (folder / "__init__.py").touch()
        imports = [f"import {library}" for library in draw.sample(LIBRARIES, 3)]
        imports += [
            f"from {other} import Thing as T{n}"
            for n, other in enumerate(
                draw.sample(names[max(0, number - 500) : number + 1], min(4, number + 1))
            )
        ]
        imports.append("from . import helper")
        path.write_text("\n".join(imports) + f"\n\n\nclass Thing:\n{body}\n\n\ndef build(): ...\n")
        (path.parent / "helper.py").touch()


def jobs(root: Path, files: int, count: int) -> list[Job]:
    made = []
    for number in range(count):
        n = number * files // count
        target = f"mono.part_{n // 1000}.team_{n // 50}.module_{n}.build"
        made.append(
            Job(
                name=f"m{number}", source={"_target_": target},
                inputs={"x": {"shape": [1, 3, 32, 32]}}, opset=17, exporters=["torchscript"],
                trust=[str(root)], model_dir=str(root / "run/models" / f"m{number}"),
                staging_dir=str(root / "run/.staging" / f"m{number}"),
            )
        )  # fmt: skip
    return made


def timed(work: Callable[[], T]) -> tuple[float, float, T]:
    """Seconds of time and of CPU: what else runs on the machine counts in the first alone."""
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - began, time.process_time() - cpu, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "src"
        monorepo(root, asked.files)
        sys.path.insert(0, str(root))
        os.chdir(name)
        found = environment.collect(packages.versions())
        for title in ("no index yet", "nothing changed", "one file edited"):
            if title == "one file edited":
                edited = root / "mono/part_0/team_0/module_0.py"
                edited.write_text(edited.read_text() + "\nimport socket\n")
            time.sleep(0.2)  # out of the tick in which the files were written
            store = Path(name, "store")
            store.mkdir(exist_ok=True)
            made = jobs(root, asked.files, asked.models)
            # Twice: what is read for the first time comes from the disk.
            for _ in range(1 if title == "no index yet" else 2):
                measure(title, made, reuse.keys_for(found, store))


def measure(title: str, asked: list[Job], keys: Keys) -> None:
    first, first_cpu, key = timed(lambda: keys.of(asked[0]).digest)
    others, others_cpu, _ = timed(lambda: [keys.of(job).digest for job in asked[1:]])
    count = max(len(asked) - 1, 1)
    made = keys.of(asked[-1])
    again, again_cpu, changed = timed(lambda: keys.changed_files(asked[-1], made))
    print(
        f"{title}: first key {first:.2f} s ({first_cpu:.2f} of CPU), each further "
        f"{1000 * others / count:.1f} ms ({1000 * others_cpu / count:.1f}), look after a job "
        f"{1000 * again:.0f} ms ({1000 * again_cpu:.0f}; {len(changed)} changed), "
        f"{len(made.parts)} parts, {key[:8]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
