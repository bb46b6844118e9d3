"""A batch of models through the converter, beside the scripts that one would write without it.

    python benchmarks/batch.py [--rounds 3] [--models resnet18 vit_b_16 ...]

Whole processes, alternately in the same minutes, each round in another order:

- `one script`: export, checker, onnxsim and one comparison in ONNX Runtime for all models, in one
  process;
- `script per model`: the same, a process for each model, as a shell loop does it;
- `cold run`: the converter with all its checks and an empty store;
- `warm run`: the same command again, nothing changed.

Prints seconds, the ratio to `one script`, CPU seconds and the peak memory of all processes
together (proportional set size, sampled), and for the cold run where its time went; with
`--own-code` also whose code its processor time went to. Another tool is measured the same way,
once for each model: `--beside 'NAME=COMMAND {model} {folder}'`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import sampled

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = (
    "resnet18", "mobilenet_v3_small", "convnext_tiny", "vit_b_16", "densenet121", "efficientnet_b0",
)  # fmt: skip
PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "onnxsim")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_SAMPLE_S = 0.25

SCRIPT = """
import sys, warnings
import numpy as np, onnx, onnxruntime, onnxsim, torch, torchvision
warnings.filterwarnings("ignore")
torch.backends.mha.set_fastpath_enabled(False)
for name in sys.argv[2:]:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    image = torch.randn(1, 3, 224, 224)
    path = f"{sys.argv[1]}/{name}.onnx"
    torch.onnx.export(model, (image,), path, dynamo=False, opset_version=17,
                      input_names=["input"], output_names=["output"])
    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    proto, ok = onnxsim.simplify(proto)
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(image).numpy()
    actual = session.run(None, {"input": image.numpy()})[0]
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)
"""


@dataclass(frozen=True)
class Took:
    """What some commands took, one after the other; of all their processes."""

    seconds: float
    cpu: float
    peak_bytes: int
    began: float


def measured(commands: Sequence[Sequence[str]]) -> Took:
    """Run commands; one that fails ends the benchmark."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, clock, peak = time.time(), time.perf_counter(), 0
    for command in commands:
        # The converter gives each of its workers its share of the cores; a script takes all.
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(REPOSITORY)}
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=environment
            )
            sampler = _Sampler(process.pid)
            code = process.wait()
            peak = max(peak, sampler.stop())
            if code:
                output.seek(0)
                sys.exit(f"{shlex.join(command)[:200]} failed:\n{output.read()[-4000:]}")
    _reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.perf_counter() - clock, cpu, peak, began)


class _Sampler:
    """The largest memory of a process and all below it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._peak = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> int:
        self._end.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._end.wait(_SAMPLE_S):
            self._peak = max(self._peak, sum(map(_pss, _tree(self._root))))


def _tree(root: int) -> list[int]:
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # Behind the name of the program, which may hold anything.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            below.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += below.get(process, [])
    return found


def _pss(process: int) -> int:
    """Bytes of a process; pages that several share are divided among them."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _reap() -> None:
    """What a command left behind is ours: its CPU counts once it is waited for."""
    try:
        while os.waitpid(-1, 0):
            pass
    except ChildProcessError:
        pass


def converter(folder: str, models: Sequence[str], name: str) -> list[str]:
    return [
        sys.executable, "-m", "converter", f"hydra.run.dir={folder}/{name}",
        "exporter=torchscript", "benchmark=off", f"store.path={folder}/store",
        f"include=[{','.join(f'torchvision/{model}' for model in models)}]",
    ]  # fmt: skip


def once(
    side: str, models: Sequence[str], folder: str, beside: dict[str, str]
) -> list[Sequence[str]]:
    """The commands of a side."""
    if side == "one script":
        return [[sys.executable, "-c", SCRIPT, folder, *models]]
    if side == "script per model":
        return [[sys.executable, "-c", SCRIPT, folder, model] for model in models]
    return [shlex.split(beside[side].format(model=model, folder=folder)) for model in models]


def shares(manifest: dict[str, Any], took: Took) -> list[tuple[str, float]]:
    """Where the seconds of a cold run went; those of jobs are divided by how many ran at once."""
    rows = [artifact for model in manifest["models"] for artifact in model["artifacts"]]
    spent = [row["spent"] for row in rows]
    starts = [datetime.fromisoformat(each["started_at"]).timestamp() for each in spent]
    ends = [start + each["seconds"] for start, each in zip(starts, spent, strict=True)]
    jobs = sum(each["seconds"] for each in spent)
    scale = (max(ends) - min(starts)) / jobs
    found = [("until the first job", min(starts) - took.began)]
    stages: dict[str, float] = {}
    for row in rows:
        for name, stage in row["stages"].items():
            stages[name] = stages.get(name, 0.0) + (stage["seconds"] or 0.0)
    found += [(f"stage {name}", seconds * scale) for name, seconds in stages.items() if seconds]
    found.append(("jobs beside their stages", (jobs - sum(stages.values())) * scale))
    found.append(("after the last job", took.began + took.seconds - max(ends)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--own-code", action="store_true", help="needs py-spy")
    asked = parser.parse_args()
    # Processes that a command leaves behind come to this one, and their CPU seconds with them.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    beside = dict(each.split("=", 1) for each in asked.beside)
    sides = ["one script", "script per model", "converter", *beside]
    times: dict[str, list[Took]] = {}
    where: list[list[tuple[str, float]]] = []
    for number in range(asked.rounds):
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            with tempfile.TemporaryDirectory() as folder:
                if side != "converter":
                    took = measured(once(side, asked.models, folder, beside))
                    times.setdefault(side, []).append(took)
                    continue
                cold = measured([converter(folder, asked.models, "cold")])
                manifest = json.loads(Path(folder, "cold/manifest.json").read_text())
                where.append(shares(manifest, cold))
                times.setdefault("cold run", []).append(cold)
                warm = measured([converter(folder, asked.models, "warm")])
                times.setdefault("warm run", []).append(warm)
        print(f"round {number + 1} of {asked.rounds} done", file=sys.stderr, flush=True)
    show(times, where)
    if asked.own_code:
        with tempfile.TemporaryDirectory() as folder:
            found = sampled.shares(converter(folder, asked.models, "sampled"))
        print("whose code the processor time of a cold run went to (samples):")
        for name, share in found.items():
            if share >= 0.005 or name == "converter":
                print(f"  {name:26} {share:6.1%}")


def show(times: dict[str, list[Took]], where: list[list[tuple[str, float]]]) -> None:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    print(f"{versions}; Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    base = statistics.median(took.seconds for took in times["one script"])
    print(f"{'':18} {'median':>8} {'min':>8} {'max':>8} {'ratio':>6} {'CPU':>8} {'peak':>9}")
    for side, found in times.items():
        seconds = [took.seconds for took in found]
        median, cpu = statistics.median(seconds), statistics.median(took.cpu for took in found)
        peak = max(took.peak_bytes for took in found) / 2**20
        print(
            f"{side:18} {median:7.1f}s {min(seconds):7.1f}s {max(seconds):7.1f}s "
            f"{median / base:6.2f} {cpu:7.1f}s {peak:5.0f} MiB"
        )
    print("where the cold run's time went (medians):")
    whole = statistics.median(took.seconds for took in times["cold run"])
    for index, (name, _) in enumerate(where[0]):
        median = statistics.median(each[index][1] for each in where)
        print(f"  {name:26} {median:6.2f}s {median / whole:6.1%}")


if __name__ == "__main__":
    main()
