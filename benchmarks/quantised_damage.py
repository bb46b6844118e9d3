"""Damage quantised files on purpose, and count what their comparison with their parents notices.

    python benchmarks/quantised_damage.py PARENTS VARIANTS [--suffix int8] [--damages 60] [--seed 0]

PARENTS holds NAME/NAME.onnx, as the `models` of a run does, and VARIANTS NAME.SUFFIX.onnx or
NAME/…/NAME.SUFFIX.onnx. A third of the damages negates a weight, a third zeroes it, a third scales
it by 1.5; weights are drawn over all files. As many scales and zero points are damaged besides. The
sound files are compared too: none may be refused. As many times the graph is damaged (operators
removed or exchanged, attributes, constants, slices): what ONNX Runtime loads and what gives other
numbers then has to be noticed by the comparison of the graphs.
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
import onnxruntime
from damage import attributes, operators, places
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from converter.worker.onnxfile import quantised, structure
from converter.worker.verify import quantised_weights, unquantised

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
        refused += graphs(files, asked.parents, asked.damages, draw, Path(folder))
    print(f"{refused} of {len(files)} sound files refused")


def graphs(
    files: dict[str, Path], parents: Path, count: int, draw: random.Random, folder: Path
) -> int:
    """Damage graphs; how many sound ones were refused."""
    refused = 0
    # The others take no drawn inputs, or inputs of other sizes.
    files = {name: file for name, file in files.items() if changed(file, None, drawn(file))}
    for name, file in files.items():
        why = unquantised.difference(file, parents / name / f"{name}.onnx", [drawn(file)])
        refused += bool(why)
        if why or why is None:
            print(f"{'SOUND GRAPH REFUSED' if why else 'graph not compared'} {name}: {why}")
    outcomes: dict[str, Counter[str]] = {}
    while sum(counts["noticed"] + counts["missed"] for counts in outcomes.values()) < count:
        name = draw.choice(list(files))
        model = onnx.load(files[name])
        families = [list(family.of(model)) for family in (attributes, operators, places)]
        damage = draw.choice(draw.choice([family for family in families if family]))
        damage.apply(model)
        copy = folder / "damaged.onnx"
        onnx.save(model, copy)
        feeds = drawn(files[name])
        if damage.interface or not changed(files[name], copy, feeds):
            continue
        why = unquantised.difference(copy, parents / name / f"{name}.onnx", [feeds])
        outcomes.setdefault(damage.kind, Counter())["noticed" if why else "missed"] += 1
        if not why:
            print(f"missed: graph: {name}, {damage}")
    total = sum(counts["noticed"] for counts in outcomes.values())
    print(f"graphs: {total} of {count} damages noticed, {dict(outcomes)}")
    return refused


def drawn(file: Path) -> dict[str, Array]:
    """Inputs of a file, drawn; open axes are small."""
    generator = np.random.default_rng(0)
    feeds = {}
    for told in structure.fed_inputs(structure.read(file)):
        sizes = [
            size if isinstance(size, int) else 2 if axis == 0 else 64
            for axis, size in enumerate(told.shape)
        ]
        kind = np.dtype(told.dtype)
        values = generator.normal(size=sizes) if kind.kind == "f" else np.ones(sizes)
        feeds[told.name] = values.astype(kind)
    return feeds


def changed(sound: Path, damaged: Path | None, feeds: dict[str, Array]) -> bool:
    """Whether ONNX Runtime loads a damaged file, and it gives other numbers; no file gives none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        before, *others = (
            onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(
                None, feeds
            )
            for file in (sound, damaged)
            if file is not None
        )
    except Exception:  # whatever it raises: there is nothing to notice
        return False
    if not others:
        return True
    (after,) = others
    return any(
        one.shape != other.shape or np.abs(other - one).max(initial=0) > 1e-3 * np.abs(one).max()
        for one, other in zip(before, after, strict=True)
    )


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
