"""Check random cells of a run with the runtimes' own interfaces, and nothing of the converter.

    python benchmarks/independent_cells.py RUN_DIR STORE_DIR [--cells 30] [--seed 0]

A cell is a file on a runtime that the manifest calls right. Inputs and PyTorch's outputs are those
that the conversion kept in the store (plain NumPy arrays). Each file is run here by ONNX Runtime,
OpenVINO or ncnn directly, on all cases of the example's shapes, and compared by relative L2 error:
float32 to 1e-4, float16 and its mixtures to 5e-2, bfloat16 to 0.2; of quantised files the signal to
noise ratio of the manifest has to be met, but for 1 dB. The exit code is 1 where a cell is not
right.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[[dict[str, Array]], list[Array]]

BOUNDS = {"float32": 1e-4, "float16": 5e-2, "bfloat16": 0.2}


@dataclass(frozen=True)
class Cell:
    """One file on one runtime; ``file`` is the one to open first."""

    label: str
    provider: str
    format: str
    precision: str
    file: Path
    sqnr_db: float | None
    references: Path

    def __str__(self) -> str:
        return f"{self.label} on {self.provider} ({self.precision})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--cells", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = list(cells(asked.run, asked.store))
    chosen = random.Random(asked.seed).sample(found, min(asked.cells, len(found)))
    wrong = 0
    for cell in chosen:
        why = judge(cell)
        wrong += why is not None
        print(f"{'WRONG' if why else 'right':5} {cell}{f': {why}' if why else ''}", flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} cells are right, of {len(found)} in the run")
    return int(wrong > 0)


def cells(run: Path, store: Path) -> Iterator[Cell]:
    """All that the manifest calls right and whose cases were kept."""
    for model in json.loads((run / "manifest.json").read_text())["models"]:
        first = model["artifacts"][0]
        references = store / str(first["job_key"]) / "references.npz"
        for row in model["artifacts"] if references.is_file() else []:
            for verdict in row["verify"].get("providers", []):
                if verdict["status"] == "passed" and row["files"]:
                    accuracy = row.get("accuracy") or {}
                    yield Cell(
                        f"{model['name']}/{row['id']}",
                        verdict["provider"],
                        row["format"],
                        row["precision"],
                        run / row["files"][0]["path"],
                        accuracy.get("sqnr_db"),
                        references,
                    )


def judge(cell: Cell) -> str | None:
    """Why a cell is wrong; ``None``: it is right."""
    with np.load(cell.references, allow_pickle=False) as held:
        told = json.loads(held["header"].tobytes())
        names = list(told["cases"][0]["inputs"])
        run = OPENED[cell.provider](cell, names, len(told["cases"][0]["outputs"]))
        signal = noise = 0.0
        for n, case in enumerate(told["cases"]):
            # In patterns rounding may decide; every format has the shapes of the example.
            if case["sizes"] or case["filled"]:
                continue
            feeds = {name: held[f"case{n}.input.{name}"] for name in names}
            got = run(feeds)
            wanted = [held[f"case{n}.output.{place}"] for place in range(len(case["outputs"]))]
            for place, (want, have) in enumerate(zip(wanted, got, strict=True)):
                if want.shape != have.shape:
                    return f"output {place} is {list(have.shape)}, PyTorch has {list(want.shape)}"
                if not np.isfinite(have.astype(np.float64)).all():
                    return f"output {place} is not finite"
                off = have.astype(np.float64) - want.astype(np.float64)
                signal += float(np.square(want.astype(np.float64)).sum())
                noise += float(np.square(off).sum())
    if cell.precision in BOUNDS:
        error = float(np.sqrt(noise / signal)) if signal else float(noise > 0)
        return f"relative L2 error {error:.2e}" if error > BOUNDS[cell.precision] else None
    sqnr = 10 * np.log10(signal / noise) if noise else np.inf
    if cell.sqnr_db is not None and sqnr < cell.sqnr_db - 1:
        return f"{sqnr:.1f} dB, the manifest says {cell.sqnr_db:.1f} dB at the worst"
    return None


def onnxruntime_(cell: Cell, names: list[str], outputs: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(cell.file), options, providers=["CPUExecutionProvider"]
    )
    return lambda feeds: session.run(None, feeds)


def openvino_(cell: Cell, names: list[str], outputs: int) -> Run:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(cell.file), "CPU", hints)

    def run(feeds: dict[str, Array]) -> list[Array]:
        results = compiled(feeds)
        return [np.array(results[place]) for place in range(outputs)]

    return run


def ncnn_(cell: Cell, names: list[str], outputs: int) -> Run:
    import ncnn

    net = ncnn.Net()
    half = cell.precision != "float32"
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = half
    net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.opt.num_threads = 1
    if net.load_param(str(cell.file)) or net.load_model(str(cell.file.with_suffix(".bin"))):
        raise RuntimeError("ncnn does not load it")
    # Which blob an input or output is, and the axis that ncnn keeps apart as its batch.
    told = json.loads(cell.file.with_suffix(".json").read_text())
    with np.load(cell.references, allow_pickle=False) as held:
        shapes = [held[f"case0.output.{place}"].shape for place in range(outputs)]

    def run(feeds: dict[str, Array]) -> list[Array]:
        extractor = net.create_extractor()
        for tensor in told["inputs"]:
            array = feeds[tensor["name"]]
            array = array.astype(np.int32) if array.dtype == np.int64 else array
            batch = {} if tensor["batch_axis"] is None else {"batch_index": tensor["batch_axis"]}
            mat = ncnn.Mat(np.ascontiguousarray(array), **batch).clone()
            extractor.input(tensor["blob"], mat)
        got = []
        for tensor in told["outputs"]:
            batch = {} if tensor["batch_axis"] is None else {"batch_index": tensor["batch_axis"]}
            got.append(np.array(extractor.extract(tensor["blob"])[1].numpy(**batch)))
        # ncnn drops axes of size 1.
        return [
            array.reshape(shape) if array.size == np.prod(shape) else array
            for array, shape in zip(got, shapes, strict=True)
        ]

    return run


OPENED = {"cpu": onnxruntime_, "openvino": openvino_, "ncnn": ncnn_}

if __name__ == "__main__":
    sys.exit(main())
