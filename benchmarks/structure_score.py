"""Score of the verdicts for damage to the structure of right files.

The files of some zoo models and of small modules (``damage/small.py``) are damaged, one place at a
time: attributes, removed or exchanged operators, thresholds and other constants, swapped branches
and outputs, slices off by one, symbols of sizes, float16 on the way. Each damaged file that loads
is verified. It is *noticed* when it is rejected, *equivalent* when its outputs are those of the
sound file within rounding on all cases and on further inputs of this script, else *missed*::

    python benchmarks/structure_score.py [RUN_DIR] [--each 2] [--select GLOB]

Without a run directory, a run is made first. Exits 1 where one is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import yaml
from damage import attributes, operators, places, small
from damage.editing import Damage
from subjects import NOISE, Subject, convert, describe, quiet, subjects

import registry
from converter.model.job import Recheck
from converter.worker.pipeline import recheck

SOURCES = (
    "conv_bn_relu", "flatten_pool", "simple_cnn", "torchvision/squeezenet1_1",
    "torchvision/mobilenet_v3_small", "torchvision/shufflenet_v2_x0_5", "timm/test_vit",
    "timm/test_maxvit", "timm/test_convnext2",
)  # fmt: skip
SCALES = (10.0, 0.1, 0.0)


@dataclass
class Score:
    name: str
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        return sum(n for (_, found), n in self.outcomes.items() if found == outcome)


def score(subject: Subject, each: int) -> Score:
    result = Score(subject.job.name)
    subject.also(_further(subject))
    for damage in _chosen(onnx.load(subject.file), each):
        model = onnx.load(subject.file)
        damage.apply(model)
        file = subject.saved(model)
        if not _loads(file):
            continue
        outcome, line = _judged(subject, damage, file)
        result.outcomes[damage.kind, outcome] += 1
        if line:
            result.missed.append(line)
    return result


def _judged(subject: Subject, damage: Damage, file: Path) -> tuple[str, str]:
    """What became of a damaged file, and the line that tells what was missed."""
    passed, record = subject.verdict(file)
    if not passed:
        return "noticed", ""
    excess = 0.0 if damage.interface else subject.excess(file)
    if not damage.interface and excess <= NOISE:
        return "equivalent", ""
    # `verify --model` looks at more than numbers.
    again = Recheck(**subject.job.model_dump(by_alias=True), file=str(file))
    with quiet():
        if recheck.run(again, lambda news: None).error is not None:
            return "noticed", ""
    told = "an untrue interface" if damage.interface else describe(subject, excess, record)
    return "missed", f"{damage}: {told}"


def _chosen(model: onnx.ModelProto, each: int) -> Iterator[Damage]:
    """At most ``each`` of a kind, spread over the depth of the file."""
    kinds: dict[str, list[Damage]] = {}
    for family in (attributes, operators, places):
        for damage in family.of(model):
            kinds.setdefault(damage.kind, []).append(damage)
    for found in kinds.values():
        step = max(1, len(found) / each)
        yield from (found[int(n * step)] for n in range(min(each, len(found))))


def _further(subject: Subject) -> list[dict[str, Any]]:
    """Inputs of other scales, where no bounds are declared, that the sound file takes."""
    first, further = subject.feeds[-1], []
    free = {name for name, spec in subject.job.inputs.items() if spec.filling == "normal"}
    for scale in SCALES:
        feed = {
            name: (values * scale).astype(values.dtype) if name in free else values
            for name, values in first.items()
        }
        if free and _finite(subject.file, feed):
            further.append(feed)
    return further


def _finite(file: Path, feed: dict[str, Any]) -> bool:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return all(np.isfinite(out).all() for out in session.run(None, feed))


def _loads(file: Path) -> bool:
    """A file that ONNX Runtime refuses is no wrong file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever it raises: there is nothing to verify
        return False
    return True


def run_of(directory: str) -> Path:
    """A run of ``SOURCES``, those of timm where it is installed, and of the small modules."""
    folder = Path(directory)
    shutil.copy(small.__file__, folder / "small.py")
    (folder / "experiment").mkdir()
    listed = yaml.safe_dump({"models": small.entries(str(folder / "small.py"))}, sort_keys=False)
    (folder / "experiment/structure.yaml").write_text(f"# @package _global_\n{listed}")
    sources = [source for source in SOURCES if registry.find(source)]
    return convert(
        directory, "--config-dir", directory, "+experiment=structure",
        f"include=[{','.join(sources)}]", trust=directory,
    )  # fmt: skip


def report(results: list[Score]) -> bool:
    """Print the table by kind, and the totals; whether nothing was missed."""
    total: Counter[tuple[str, str]] = sum((result.outcomes for result in results), Counter())
    print(f"\n{'damage':28}{'noticed':>10}{'equivalent':>12}{'missed':>8}")
    for kind in dict.fromkeys(kind for kind, _ in total):
        counts = [total[kind, outcome] for outcome in ("noticed", "equivalent", "missed")]
        print(f"{kind:28}{counts[0]:10}{counts[1]:12}{counts[2]:8}")
    noticed, equivalent, missed = (
        sum(result.count(outcome) for result in results)
        for outcome in ("noticed", "equivalent", "missed")
    )
    print(
        f"\n{len(results)} models, {noticed + equivalent + missed} damaged files: "
        f"{noticed} noticed, {equivalent} equivalent, {missed} missed"
    )
    return bool(noticed) and not missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run directory; default: make one")
    parser.add_argument("--each", type=int, default=2, help="damages of a kind in each model")
    parser.add_argument("--select", default="*", help="glob over the names of the models")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as work:
        run = arguments.run or run_of(work)
        print(f"{'model':28}{'noticed':>10}{'equivalent':>12}{'missed':>8}", flush=True)
        for subject in subjects(run, arguments.select, Path(work), sizes=True):
            found = score(subject, arguments.each)
            results.append(found)
            counts = [found.count(outcome) for outcome in ("noticed", "equivalent", "missed")]
            print(
                f"{found.name:28}{counts[0]:10}{counts[1]:12}{counts[2]:8}",
                *(f"\n  missed: {line}" for line in found.missed),
                flush=True,
            )
    sys.exit(0 if report(results) else 1)


if __name__ == "__main__":
    main()
