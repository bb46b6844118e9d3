"""The converter's latency of six models beside a plain loop around ONNX Runtime.

The files are converted once. Then both sides time each of them in turn, in this process, with as
many threads, each with a session of its own that is closed before the other opens: a round is the
plain loop, the converter, the plain loop. Both use four inputs in rotation: a loop over a single
one finds it in a cache, which is worth 5 % of a model of 0.6 ms. ``ratio`` is the median over the
rounds of the converter's median over the mean of the two loops around it; 1.00 means that the
measurement adds nothing. ``loop`` is the same of the second loop over the first: what this machine
makes of one and the same thing, with the half of its 95 % interval. ``runs`` tells how well two
measurements agree where the machine was quiet: of the successive rounds whose four plain loops lie
within 3 %, those whose two medians of the converter lie within 5 %::

    python benchmarks/latency_against_ort.py [ROUNDS] [THREADS]
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from converter.layout import environment
from converter.model.job import Job
from converter.model.measure import Measure
from converter.worker.benchmark import benchmarking, timing

MODELS = (
    "squeezenet1_1", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "densenet121",
    "convnext_tiny",
)  # fmt: skip
SECONDS = 0.6
WARM_UP = 10
INPUTS = 4
QUIET, AGREE = 0.03, 0.05


def convert(folder: Path) -> None:
    """The six files, below ``folder/run``."""
    command = [
        sys.executable, "-m", "converter", f"hydra.run.dir={folder}/run", "exporter=torchscript",
        f"include=[{','.join(f'torchvision/{name}' for name in MODELS)}]", "benchmark=off",
        "store.use=false",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"the conversion failed:\n{done.stdout}\n{done.stderr}")


def ours(model: Path, threads: int) -> tuple[float, list[str]]:
    """The converter's own median, and what it notes about it."""
    job = Job.model_validate_json((model.parent / "job.json").read_bytes())
    own = {
        "file": str(model),
        "provider": "cpu",
        "budget_s": SECONDS,
        "time_torch": False,
        "threads": threads,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        result = benchmarking.run(Measure.model_validate({**dict(job), **own}), lambda stage: None)
    (latency,) = result.latency
    assert latency.p50_ms is not None, latency.reason
    return latency.p50_ms, latency.notes


def plain(model: Path, threads: int) -> float:
    """The median of a loop as anybody would write it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    draw = np.random.default_rng(0).standard_normal
    feeds = [{image.name: draw(image.shape).astype(np.float32)} for _ in range(INPUTS)]
    for number in range(WARM_UP):
        session.run(None, feeds[number % INPUTS])
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        feed = feeds[len(times) % INPUTS]
        start = time.perf_counter()
        session.run(None, feed)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def figures(rounds: list[tuple[float, float, float]]) -> str:
    """The medians of both sides, their ratio, and the second loop over the first."""
    converter = statistics.median(own for _, own, _ in rounds)
    loop = statistics.median(side for before, _, after in rounds for side in (before, after))
    ratio = statistics.median(2 * own / (before + after) for before, own, after in rounds)
    again = sorted(after / before for before, _, after in rounds)
    low, high = timing.median_interval(again) or (0.0, 0.0)
    return (
        f"{converter:10.3f} {loop:10.3f} {ratio:6.3f}  {statistics.median(again):6.3f} "
        f"±{(high - low) / 2:.3f}"
    )


def agreement(rounds: list[tuple[float, float, float]]) -> str:
    """Of successive rounds (loop, converter, loop) on a quiet machine: how many agree."""
    quiet = [
        abs(second[1] / first[1] - 1) <= AGREE
        for first, second in itertools.pairwise(rounds)
        if max(loops := (first[0], first[2], second[0], second[2])) <= (1 + QUIET) * min(loops)
    ]
    return f"{sum(quiet)} of {len(quiet)}"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else environment.physical_cores()
    with tempfile.TemporaryDirectory() as folder:
        convert(Path(folder))
        print(f"{threads} threads, {rounds} rounds, load average {os.getloadavg()[0]:.1f}")
        print("p50 in ms             converter plain loop  ratio    loop        runs      busy")
        for name in MODELS:
            model = Path(folder) / f"run/models/{name}/{name}.onnx"
            taken: list[tuple[float, float, float]] = []
            busy = 0
            for _ in range(rounds):
                before = plain(model, threads)
                own, notes = ours(model, threads)
                after = plain(model, threads)
                taken.append((before, own, after))
                busy += any(note.startswith("busy") for note in notes)
            print(f"{name:20} {figures(taken)}  {agreement(taken):>8}  {busy}", flush=True)


if __name__ == "__main__":
    main()
