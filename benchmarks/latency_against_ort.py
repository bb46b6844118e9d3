"""The converter's latency of six models beside a plain loop around ONNX Runtime.

The files are converted once. Then both sides time each of them in turn, in this process, with as
many threads, each with a session of its own that is closed before the other opens: a round is the
plain loop, the converter, the plain loop. Both use four inputs in rotation: a loop over a single
one finds it in a cache, which is worth 5 % of a model of 0.6 ms. ``ratio`` is the median over the
rounds of the converter's median over the mean of the two loops around it; 1.00 means that the
measurement adds nothing. ``loop`` is the same of the second loop over the first: what this machine
makes of one and the same thing, with the half of its 95 % interval::

    python benchmarks/latency_against_ort.py [ROUNDS] [THREADS]
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from converter.job import Job
from converter.measure import Measure
from converter.run import environment
from converter.worker import benchmarking, timing

MODELS = (
    "squeezenet1_1", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "densenet121",
    "convnext_tiny",
)  # fmt: skip
SECONDS = 0.6
WARM_UP = 10
INPUTS = 4


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


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else environment.physical_cores()
    with tempfile.TemporaryDirectory() as folder:
        convert(Path(folder))
        print(f"{threads} threads, {rounds} rounds, load average {os.getloadavg()[0]:.1f}")
        print("p50 in ms             converter plain loop  ratio    loop        busy rounds")
        for name in MODELS:
            model = Path(folder) / f"run/models/{name}/{name}.onnx"
            left, right, ratios, again, busy = [], [], [], [], 0
            for _ in range(rounds):
                before = plain(model, threads)
                own, notes = ours(model, threads)
                after = plain(model, threads)
                left.append(own)
                right += [before, after]
                ratios.append(2 * own / (before + after))
                again.append(after / before)
                busy += any(note.startswith("busy") for note in notes)
            low, high = timing.median_interval(sorted(again)) or (0.0, 0.0)
            print(
                f"{name:20} {statistics.median(left):10.3f} {statistics.median(right):10.3f} "
                f"{statistics.median(ratios):6.3f}  {statistics.median(again):6.3f} "
                f"±{(high - low) / 2:.3f}  {busy} of {rounds}",
                flush=True,
            )


if __name__ == "__main__":
    main()
