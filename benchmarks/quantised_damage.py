"""Damage the integers of quantised files on purpose, and count what their comparison notices.

    python benchmarks/quantised_damage.py PARENTS VARIANTS [--suffix int8] [--damages 60] [--seed 0]

PARENTS holds NAME/NAME.onnx, as the `models` of a run does, and VARIANTS NAME.SUFFIX.onnx or
NAME/…/NAME.SUFFIX.onnx. A third of the damages negates a weight, a third zeroes it, a third scales
it by 1.5; weights are drawn over all files. As many scales and zero points are damaged besides. The
sound files are compared too: none may be refused.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from converter.worker.onnxfile import quantised
from converter.worker.verify import quantised_weights

Array = NDArray[Any]


def _scaled(values: Array) -> Array:
    if values.dtype.kind == "f":
        return values * values.dtype.type(1.5)
    ends = np.iinfo(values.dtype)
    return np.clip(np.rint(values * 1.5), ends.min, ends.max).astype(values.dtype)


DAMAGES: dict[str, Callable[[Array], Array]] = {
    "negated": lambda values: -values,
    "zeroed": np.zeros_like,
    "x 1.5": _scaled,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", type=Path)
    parser.add_argument("variants", type=Path)
    parser.add_argument("--suffix", default="int8")
    parser.add_argument("--damages", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    files = {
        file.name.removesuffix(f".{asked.suffix}.onnx"): file
        for file in sorted(asked.variants.rglob(f"*.{asked.suffix}.onnx"))
    }
    draw = random.Random(asked.seed)
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            why = quantised_weights.compare(asked.parents / name / f"{name}.onnx", file).wrong
            refused += bool(why)
            if why:
                print(f"SOUND FILE REFUSED {name}: {why}")
        for what in ("weights", "scales"):
            noticed: Counter[str] = Counter()
            for number in range(asked.damages):
                kind = list(DAMAGES)[number % len(DAMAGES)]
                name = draw.choice(list(files))
                copy = Path(folder) / "damaged.onnx"
                place = _damage(files[name], copy, what, DAMAGES[kind], draw)
                parent = asked.parents / name / f"{name}.onnx"
                if quantised_weights.compare(parent, copy).wrong:
                    noticed[kind] += 1
                else:
                    print(f"missed: {what}: {name}, {place} {kind}")
            print(f"{what}: {noticed.total()} of {asked.damages} damages noticed, {dict(noticed)}")
    print(f"{refused} of {len(files)} sound files refused")


def _damage(
    file: Path, copy: Path, what: str, change: Callable[[Array], Array], draw: random.Random
) -> str:
    """Write a copy with one weight, or the scale of one, changed; its name."""
    model = onnx.load(file)
    weights = [item for item in quantised.weights(model) if item.kind in quantised.EIGHT]
    names = {item.name for item in weights}
    if what == "scales":
        names = _scales(model, names)
    held = [item for item in model.graph.initializer if item.name in names]
    # Drawn until it is one: an all-zero tensor stays what it is.
    while True:
        tensor = draw.choice(held)
        before = numpy_helper.to_array(tensor)
        after = change(before)
        if not np.array_equal(before, after):
            break
    tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))
    onnx.save(model, copy)
    return str(tensor.name)


def _scales(model: ModelProto, weights: set[str]) -> set[str]:
    return {
        node.input[1]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in weights
    }


if __name__ == "__main__":
    main()
