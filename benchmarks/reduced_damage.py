"""Damaged weights in files of 16-bit floats and in OpenVINO's: how many the verdict notices.

For the variants of a run that are ok, single weights are negated, zeroed or scaled by 1.5, and the
file is judged as when it was made. Each sound file is judged as well and must pass::

    python benchmarks/reduced_damage.py RUN_DIR STORE [--variants fp16 openvino_ir] [--count 60]

Models above ``--most`` bytes are left out, and those whose verification took more than
``--seconds``. What is missed in one of OpenVINO's files is run there on all cases: where no output
moves by more than 1e-4 (relative L2) the function is the same, as that of a scale or a bias before
a normalisation, and it counts as no damage. Exits 1 where one is missed, or a sound file refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
_SAME = 1e-4
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

    def is_the_same(self, file: Path) -> bool:
        """Whether a damaged file of OpenVINO's computes what the sound one computes."""
        if file.suffix != ".xml":
            return False
        sound, other = openvino_of(self.file), openvino_of(file)
        return all(
            np.linalg.norm(got - want) <= _SAME * np.linalg.norm(want)
            for item in self.judge.references.cases
            for want, got in zip(sound(item.inputs), other(item.inputs), strict=True)
        )


def openvino_of(file: Path) -> Callable[[Mapping[str, Any]], list[Values]]:
    """What runs a file by OpenVINO's own interface, in float32."""
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(feeds: Mapping[str, Any]) -> list[Values]:
        found = compiled(dict(feeds))
        return [np.asarray(found[out], np.float64).ravel() for out in compiled.outputs]

    return run


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
        references = _references(store, parent, job)
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


def _references(store: Path, parent: Path, job: Derived) -> Path | None:
    """What the store kept beside a file of these bytes, for variants of that precision."""
    wanted = sha256(parent)
    for found in store.glob(f"*/{parent.name}"):
        beside = found.parent / kept.FILE
        if sha256(found) == wanted and beside.is_file() and kept.judges(beside, job):
            return beside
    return None


def damages(subject: Subject, draw: np.random.Generator) -> Iterator[tuple[str, str]]:
    """A weight for each kind of damage, which it changes."""
    names = FORMATS[subject.file.suffix].weights(subject.file)
    for kind in DAMAGES:
        if names:
            yield kind, names[int(draw.integers(len(names)))]


class Onnx:
    """Initializers of 16 bits."""

    @staticmethod
    def weights(file: Path) -> list[str]:
        return [
            tensor.name
            for tensor in onnx.load(file).graph.initializer
            if tensor.data_type in _REDUCED and np.any(numpy_helper.to_array(tensor))
        ]

    @staticmethod
    def damaged(file: Path, kind: str, name: str, folder: Path) -> Path:
        model = onnx.load(file)
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor)
        changed = DAMAGES[kind](values.astype(np.float32)).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(changed, name))
        path = folder / file.name
        onnx.save(model, path)
        return path


class OpenVino:
    """Constants of floats: the .xml says where they lie in the .bin."""

    _TYPES: ClassVar = {"f32": np.float32, "f16": np.float16}

    @classmethod
    def _places(cls, file: Path) -> dict[str, tuple[type[np.floating], int, int]]:
        """Name → type, offset and size in bytes of what has more than one value."""
        found = {}
        for layer in ET.parse(file).iter("layer"):
            data = layer.find("data")
            if layer.get("type") != "Const" or data is None:
                continue
            kind = cls._TYPES.get(data.get("element_type", ""))
            size = int(data.get("size", 0))
            if kind is not None and size > np.dtype(kind).itemsize:
                found[layer.get("name", "")] = kind, int(data.get("offset", 0)), size
        return found

    @classmethod
    def weights(cls, file: Path) -> list[str]:
        content = file.with_suffix(".bin").read_bytes()
        return [
            name
            for name, (kind, offset, size) in cls._places(file).items()
            if np.any(np.frombuffer(content[offset : offset + size], kind))
        ]

    @classmethod
    def damaged(cls, file: Path, kind: str, name: str, folder: Path) -> Path:
        path = folder / file.name
        shutil.copy(file, path)
        number, offset, size = cls._places(file)[name]
        content = bytearray(file.with_suffix(".bin").read_bytes())
        values = np.frombuffer(bytes(content[offset : offset + size]), number)
        changed = DAMAGES[kind](values.astype(np.float32)).astype(number)
        content[offset : offset + size] = changed.tobytes()
        path.with_suffix(".bin").write_bytes(content)
        return path


FORMATS: dict[str, type[Onnx] | type[OpenVino]] = {".onnx": Onnx, ".xml": OpenVino}


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
    missed, neutral = [], 0
    draw = np.random.default_rng(0)
    rounds = ((s, *one) for _ in range(count) for s in found for one in damages(s, draw))
    for subject, kind, name in rounds:
        if sum(tried.values()) >= count:
            break
        if tried[kind] >= -(-count // len(DAMAGES)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            write = FORMATS[subject.file.suffix].damaged
            file = write(subject.file, kind, name, Path(folder))
            why = subject.wrong(file)
            if not why and subject.is_the_same(file):
                neutral += 1
                continue
        tried[kind] += 1
        noticed[kind] += bool(why)
        missed += [] if why else [f"missed {subject.label}: {name} {kind}"]
    print("  noticed " + ", ".join(f"{noticed[k]} of {tried[k]} {k}" for k in DAMAGES))
    if neutral:
        print(f"  {neutral} more changed nothing that the file computes")
    for line in (*alarms, *missed):
        print(f"  {line}")
    return bool(alarms or missed)


if __name__ == "__main__":
    sys.exit(main())
