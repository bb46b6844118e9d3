"""Latency and size of quantised files against the float32 files that they were made from.

    python benchmarks/quantised_latency.py PARENTS VARIANTS [--suffix int8] [--seconds 2]

Both are folders: PARENTS holds NAME/NAME.onnx, as the `models` of a run does, and VARIANTS
NAME.SUFFIX.onnx or NAME/…/NAME.SUFFIX.onnx. Each pair is timed in one go by ONNX Runtime on one
thread, in turns, so that a busy machine slows both: what is printed are ratios of medians. Inputs
are drawn at the declared sizes, 2 for one that is open (of an image 224).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_OPEN = {0: 1, 1: 3, 2: 224, 3: 224}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", type=Path)
    parser.add_argument("variants", type=Path)
    parser.add_argument("--suffix", default="int8")
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    ratios = []
    print(f"{'model':28}{'fp32 ms':>10}{asked.suffix + ' ms':>16}{'ratio':>8}{'size':>8}")
    for file in sorted(asked.variants.rglob(f"*.{asked.suffix}.onnx")):
        name = file.name.removesuffix(f".{asked.suffix}.onnx")
        parent = asked.parents / name / f"{name}.onnx"
        before, after = _timed(parent, file, asked.seconds)
        ratios.append(after / before)
        size = file.stat().st_size / parent.stat().st_size
        print(f"{name:28}{before:10.3f}{after:16.3f}{ratios[-1]:8.2f}{size:8.3f}", flush=True)
    faster = sum(ratio < 1 for ratio in ratios)
    print(
        f"{faster} of {len(ratios)} are faster; ratio: median {statistics.median(ratios):.2f}, "
        f"best {min(ratios):.2f}, worst {max(ratios):.2f}"
    )


def _timed(first: Path, second: Path, seconds: float) -> tuple[float, float]:
    """Median milliseconds of both, call by call in turns."""
    sessions = [_session(path) for path in (first, second)]
    feeds = _feeds(sessions[0])
    for session in sessions:
        session.run(None, feeds)
    times: list[list[float]] = [[], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for session, found in zip(sessions, times, strict=True):
            began = time.perf_counter()
            session.run(None, feeds)
            found.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _feeds(session: ort.InferenceSession) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {}
    for value in session.get_inputs():
        shape = [
            size if isinstance(size, int) else _OPEN.get(axis, 2)
            for axis, size in enumerate(value.shape)
        ]
        if value.type == "tensor(float)":
            # A short row may be factors of sizes.
            drawn = random.normal(size=shape) if len(shape) > 1 else np.ones(shape)
            feeds[value.name] = drawn.astype(np.float32)
        else:
            dtype = {"tensor(int64)": np.int64, "tensor(bool)": np.bool_}[value.type]
            feeds[value.name] = np.ones(shape, dtype)
    return feeds


if __name__ == "__main__":
    main()
