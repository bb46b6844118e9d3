"""What a run of many models costs the parent process: fake jobs, no torch.

    python benchmarks/scale.py [--jobs 100 1000 10000] [--failing 0.2]

Each size runs in a process of its own, over the whole road of a real run: a configuration in YAML,
its validation, the plan, the keys, a store, rows, comparison with the run before, reports,
manifest, and what is printed. Only the executor is played: it stages a file of a few bytes in no
time of its own (that time is shown, and not counted). The first run finds an empty store, the
second one finds all of its files there; prints milliseconds of parent CPU time a job by stage, the
peak memory, and how many bytes the run printed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

STAGES = ("load", "reference", "export", "check", "simplify", "verify", "publish")
CONTENT = b"a whole file"


class Clock:
    """CPU and wall seconds by name; what runs within another one is taken off it."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}
        self._inner: list[list[float]] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._inner.append([0.0, 0.0])
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            spent = time.process_time() - cpu, time.perf_counter() - wall
            inner = self._inner.pop()
            for found, took, within in zip((self.cpu, self.wall), spent, inner, strict=True):
                found[name] = found.get(name, 0.0) + took - within
            if self._inner:
                self._inner[-1][0] += spent[0]
                self._inner[-1][1] += spent[1]

    def around(self, home: Any, name: str, told: str) -> Any:
        """A patch that measures a function."""
        work = getattr(home, name)

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self(told):
                return work(*args, **kwargs)

        return mock.patch.object(home, name, measured)


def configured(folder: Path, count: int) -> None:
    """An experiment of that many models."""
    models = {
        f"model_{number:05}": {
            "source": "conv_bn_relu",
            "inputs": {"input": {"shape": [2, 3, 32 + number % 7, 32]}},
            "outputs": ["output"],
            "dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}},
            "tags": ["fake"],
        }
        for number in range(count)
    }
    path = folder / "configs/experiment/many.yaml"
    path.parent.mkdir(parents=True)
    text = yaml.safe_dump({"models": models}, sort_keys=False)
    path.write_text(f"# @package _global_\n{text}", encoding="utf-8")


class Played:
    """An executor that gives results of the usual size at once."""

    def __init__(self, clock: Clock, failing: float) -> None:
        self._clock = clock
        self._failing = failing

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        from converter.plugins.executors import Finished, StageEntered, Started

        for number, job in enumerate(jobs):
            yield Started(job.label, 1, os.getpid())
            for stage in STAGES:
                yield StageEntered(job.label, stage)
            with self._clock("(the fake workers)"):
                result = self._result(job, (number + 1) * self._failing % 1 < self._failing)
            yield Finished(result)

    def _result(self, job: Any, fails: bool) -> Any:
        from converter.model.records import JobResult

        Path(job.staging_dir).mkdir(parents=True, exist_ok=True)
        stage = {"status": "ok", "seconds": 0.5, "peak_rss_bytes": 400_000_000}
        result: dict[str, Any] = {
            "name": job.name,
            "status": "ok",
            "stages": dict.fromkeys(STAGES, stage),
        }
        if fails:
            (Path(job.model_dir) / "log.txt").write_text("what it printed\n" * 20)
            result |= {"status": "failed", "error": _error(job.name)}
        else:
            (Path(job.staging_dir) / job.target).write_bytes(CONTENT)
            digest = hashlib.sha256(CONTENT).hexdigest()
            file = {"path": job.target, "bytes": len(CONTENT), "sha256": digest}
            result |= {"files": [file], "onnx": _onnx(), "verify": _verify()}
        return JobResult.model_validate_json(json.dumps(result))


def _error(name: str) -> dict[str, Any]:
    from converter.model.manifest import fingerprint

    # One of 50 causes.
    operator = f"aten::fancy_{chr(97 + int(name[-5:]) % 50)}"
    message = f"the operator {operator} is not supported\nat line 12"
    return {
        "fingerprint": fingerprint("export", "EXPORT", "RuntimeError", message),
        "stage": "export",
        "code": "EXPORT",
        "type": "RuntimeError",
        "message": message,
        "hint": "Export it with another exporter, or write a translation for it.",
    }


def _onnx() -> dict[str, Any]:
    operators = ("Conv", "Relu", "Add", "MatMul", "Reshape", "Transpose", "Softmax", "Concat")
    tensor = {"name": "input", "dtype": "float32", "shape": ["batch", 3, 32, 32]}
    return {
        "exporter": "torchscript", "opset": 17, "opsets": {"": 17}, "ir_version": 8,
        "producer": "pytorch 2", "parameters": 11_000_000, "inputs": [tensor],
        "outputs": [{**tensor, "name": "output"}], "nodes": 80,
        "ops": dict.fromkeys(operators, 10),
    }  # fmt: skip


def _verify() -> dict[str, Any]:
    output = {
        "name": "output", "shape": [2, 3, 32, 32], "dtype": "float32", "max_abs": 1e-6,
        "max_rel": 1e-5, "rel_l2": 1e-7, "cosine": 1.0, "atol": 1e-5, "rtol": 1e-3, "passed": True,
    }  # fmt: skip
    shapes = {"input": [2, 3, 32, 32]}
    cases = [
        {"label": f"case {n}", "shapes": shapes, "provider": "cpu", "outputs": [output]}
        for n in range(6)
    ]
    return {"status": "passed", "cases": cases}


def run(folder: Path, clock: Clock, failing: float) -> int:
    """One run in this process; the bytes that it printed."""
    from converter.cache.entries import Store
    from converter.cli import command_line
    from converter.config import validation
    from converter.display import summary
    from converter.layout import runfiles
    from converter.plan import jobs
    from converter.plan.keys import Keys
    from converter.plugins import executors, reports
    from converter.runner import finalize, loop

    words = [
        "--config-dir", str(folder / "configs"), "+experiment=many", "benchmark=off",
        f"store.path={folder / 'store'}", "baseline=latest",
    ]  # fmt: skip
    patches = [
        clock.around(validation, "parse", "validate"),
        clock.around(jobs, "build", "plan"),
        clock.around(Keys, "of", "keys"),
        clock.around(Keys, "changed_files", "keys again"),
        clock.around(Store, "read", "store"),
        clock.around(Store, "put", "store"),
        clock.around(Store, "place", "store"),
        clock.around(loop, "execute", "rows"),
        clock.around(finalize, "compared", "compare"),
        clock.around(reports, "write", "reports"),
        clock.around(runfiles, "write", "manifest"),
        clock.around(summary, "paragraphs", "summary"),
        mock.patch.object(executors, "create", return_value=Played(clock, failing)),
    ]
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(contextlib.redirect_stdout(printed))
        with clock("compose"):
            code = command_line.main(words)
    if code not in (0, 1):
        sys.exit(f"exit code {code}:\n{printed.getvalue()[-2000:]}")
    # Lines of progress come one for each model, as they should.
    text = printed.getvalue()
    return len(text[text.rfind("\n[") :].split("\n", 2)[-1])


def child(count: int, failing: float) -> None:
    """Both runs of one size, as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configured(folder, count)
        os.chdir(folder)
        found = []
        for _ in range(2):
            clock = Clock()
            printed = run(folder, clock, failing)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            found.append({"cpu": clock.cpu, "wall": clock.wall, "printed": printed, "peak": peak})
            time.sleep(1.1)  # folders of runs have the second in their names
    print(json.dumps(found), file=sys.__stdout__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--failing", type=float, default=0.2, help="the part of them that fails")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.jobs[0], asked.failing)
        return
    for count in asked.jobs:
        command = [sys.executable, __file__, "--child", "--failing", str(asked.failing)]
        done = subprocess.run(
            [*command, "--jobs", str(count)], stdout=subprocess.PIPE, text=True, check=True
        )
        for title, found in zip(
            ("empty store", "all stored"), json.loads(done.stdout.splitlines()[-1]), strict=True
        ):
            show(count, title, found)


def show(count: int, title: str, found: dict[str, Any]) -> None:
    cpu, wall = found["cpu"], found["wall"]
    played = {name for name in cpu if name.startswith("(")}
    own = {name: seconds for name, seconds in cpu.items() if name not in played}
    each = 1000 * sum(own.values()) / count
    waited = 1000 * sum(seconds for name, seconds in wall.items() if name not in played) / count
    print(
        f"{count:6} jobs, {title}: {each:6.2f} ms of CPU a job ({waited:.2f} ms of time), "
        f"peak {found['peak']:.0f} MiB, end of the run {found['printed'] / 1000:.1f} kB"
    )
    listed = sorted(cpu.items(), key=lambda pair: -pair[1])
    print("       " + ", ".join(f"{name} {1000 * value / count:.2f}" for name, value in listed))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
