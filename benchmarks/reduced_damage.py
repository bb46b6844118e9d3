"""Damaged weights in files of 16-bit floats: how many the verdict notices.

For the variants of a run that are ok, single weights are negated, zeroed or scaled by 1.5, and the
file is judged as when it was made. Each sound file is judged as well and must pass::

    python benchmarks/reduced_damage.py RUN_DIR STORE [--variants fp16 bf16] [--count 60]

Models above ``--most`` bytes are left out, and those whose verification took more than
``--seconds``. Exits 1 where a damage is missed, or a sound file refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from converter.layout.files import sha256
from converter.model.job import Derived
from converter.worker.onnxfile import structure
from converter.worker.pipeline.judging import Judge
from converter.worker.reference import kept
from converter.worker.verify import precision

Values = NDArray[np.float32]
DAMAGES: dict[str, Callable[[Values], Values]] = {
    "negated": lambda values: -values,
    "zeroed": np.zeros_like,
    "x 1.5": lambda values: values * np.float32(1.5),
}
_REDUCED = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Subject:
    """A variant of a run, and what judges it."""

    label: str
    file: Path
    judge: Judge

    def wrong(self, file: Path) -> str:
        error = self.judge.verdict(file).error
        return "" if error is None else f"{error.code}: {error.message}"


def subjects(run: Path, store: Path, variant: str, most: int, seconds: float) -> Iterator[Subject]:
    """The variants of a kind that are ok, smallest first."""
    manifest = json.loads((run / "manifest.json").read_text())
    for model in sorted(manifest["models"], key=_bytes):
        rows = {row["id"]: row for row in model["artifacts"]}
        row = rows.get(variant)
        if row is None or row["status"] != "ok" or _bytes(model) > most:
            continue
        if row["stages"]["verify"]["seconds"] > seconds:
            continue
        job = Derived.model_validate_json(
            (run / "models" / model["name"] / variant / "job.json").read_text()
        )
        parent = run / rows["onnx"]["files"][0]["path"]
        references = _references(store, parent)
        if references is None:
            continue
        job = job.model_copy(update={"parent_file": str(parent), "references": str(references)})
        found = kept.read(references, job)
        judge = Judge(job, found, precision.asked_of(found.references, job), structure.read(parent))
        yield Subject(f"{model['name']}/{variant}", run / row["files"][0]["path"], judge)


def _bytes(model: dict[str, object]) -> int:
    artifacts = model["artifacts"]
    assert isinstance(artifacts, list)
    return sum(part["bytes"] for part in artifacts[0]["files"])


def _references(store: Path, parent: Path) -> Path | None:
    """What the store kept beside a file of these bytes."""
    wanted = sha256(parent)
    for found in store.glob(f"*/{parent.name}"):
        if sha256(found) == wanted and (found.parent / kept.FILE).is_file():
            return found.parent / kept.FILE
    return None


def damages(subject: Subject, draw: np.random.Generator) -> Iterator[tuple[str, str]]:
    """A weight for each kind of damage, which it changes."""
    model = onnx.load(subject.file)
    names = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type in _REDUCED and np.any(numpy_helper.to_array(tensor))
    ]
    for kind in DAMAGES:
        if names:
            yield kind, names[int(draw.integers(len(names)))]


def damaged(subject: Subject, kind: str, name: str, folder: Path) -> Path:
    model = onnx.load(subject.file)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor)
    changed = DAMAGES[kind](values.astype(np.float32)).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, name))
    path = folder / subject.file.name
    onnx.save(model, path)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--variants", nargs="+", default=["fp16", "bf16"])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--most", type=int, default=50_000_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    failed = False
    for variant in chosen.variants:
        found = list(subjects(chosen.run, chosen.store, variant, chosen.most, chosen.seconds))
        failed = score(variant, found, chosen.count) or failed
    return int(failed)


def score(variant: str, found: list[Subject], count: int) -> bool:
    """Print how many of so many damages are noticed; whether anything is wrong."""
    alarms = [f"{s.label}: {why}" for s in found if (why := s.wrong(s.file))]
    print(f"{variant}: {len(found)} sound files, refused {len(alarms)}")
    noticed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    missed = []
    draw = np.random.default_rng(0)
    rounds = ((s, *one) for _ in range(count) for s in found for one in damages(s, draw))
    for subject, kind, name in rounds:
        if sum(tried.values()) >= count:
            break
        if tried[kind] >= -(-count // len(DAMAGES)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            why = subject.wrong(damaged(subject, kind, name, Path(folder)))
        tried[kind] += 1
        noticed[kind] += bool(why)
        missed += [] if why else [f"missed {subject.label}: {name} {kind}"]
    print("  noticed " + ", ".join(f"{noticed[k]} of {tried[k]} {k}" for k in DAMAGES))
    for line in (*alarms, *missed):
        print(f"  {line}")
    return bool(alarms or missed)


if __name__ == "__main__":
    sys.exit(main())
