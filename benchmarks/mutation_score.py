"""Mutation score of the verdicts: damage verified files, one weight at a time, and verify them.

For every model of a run, some initializers spread over the depth of the published file are
zeroed, negated and scaled by 1.1, one at a time. A damaged file is *killed* when the
verification rejects it. It is *equivalent* when in ONNX Runtime its outputs stay within twice the
noise of the sound file's (its distance to itself without optimisations, PyTorch's to float64, one
step of the dtype at least) on the verified inputs and on fresh ones: no comparison could tell. The
sound file, as published, saved again by another producer with other names, and run without
optimisations, must pass; where it does not, that is a *false alarm*::

    python benchmarks/mutation_score.py [RUN_DIR] [--initializers 8] [--select GLOB]

Without a run directory, a run of 26 models of as many families is made first. Exits 1 below the
goal: 99 % of the damaged files that are not equivalent are rejected, and no sound one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import ModelProto
from subjects import NOISE, Subject, allowed, convert, describe, subjects

import registry
from converter.worker.verify import mutation

SOURCES = (
    "conv_bn_relu", "flatten_pool", "simple_cnn",
    "torchvision/squeezenet1_1", "torchvision/mobilenet_v2", "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5", "torchvision/mnasnet0_5", "torchvision/regnet_y_400mf",
    "torchvision/efficientnet_b0", "torchvision/googlenet", "torchvision/densenet121",
    "torchvision/resnet18", "torchvision/convnext_tiny", "torchvision/swin_t",
    "torchvision/lraspp_mobilenet_v3_large",
    "timm/test_vit", "timm/test_vit_relpos", "timm/test_convnext2", "timm/test_nfnet",
    "timm/test_byobnet", "timm/test_mambaout", "timm/test_maxvit", "timm/test_coatnet",
    "timm/test_efficientnet_evos", "timm/test_efficientnet_gn",
)  # fmt: skip
GOAL = 0.99


@dataclass
class Score:
    """What became of one model's files."""

    name: str
    initializers: int = 0
    killed: int = 0
    equivalent: int = 0
    missed: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def real(self) -> int:
        return self.killed + len(self.missed)


def score(subject: Subject, count: int) -> Score:
    result = Score(subject.job.name)
    start = time.perf_counter()
    check_sound(subject, result)
    if result.alarms:
        return result
    names = mutation.initializers(onnx.load(subject.file), count)
    result.initializers = len(names)
    for name in names:
        for kind in mutation.DAMAGES:
            file = subject.saved(mutation.damaged(subject.file, name, kind))
            passed, record = subject.verdict(file)
            excess = subject.excess(file)
            if excess <= NOISE:
                result.equivalent += 1
                if not passed:
                    result.alarms.append(f"{name} {kind}: no different, yet rejected")
            elif passed:
                result.missed.append(f"{name} {kind}: {describe(subject, excess, record)}")
            else:
                result.killed += 1
    result.seconds = time.perf_counter() - start
    return result


def check_sound(subject: Subject, result: Score) -> None:
    again = onnx.load(subject.file)
    rename(again)
    for what, file, optimise in (
        ("as published", subject.file, True),
        ("without optimisations", subject.file, False),
        ("saved again with other names", subject.saved(again), True),
    ):
        passed, record = subject.verdict(file, optimise=optimise)
        if not passed:
            result.alarms.append(f"the sound file, {what}: {record.reason}")


def rename(model: ModelProto) -> None:
    """Another producer, and other names for nodes and the values between them."""
    model.producer_name, model.producer_version = "another", "1"
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    inner = any(attribute.HasField("g") for n in model.graph.node for attribute in n.attribute)
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        keep = inner or name in ends  # a subgraph may read values by their names
        return name if keep else names.setdefault(name, f"value_{len(names)}")

    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = renamed(tensor.name)
    del model.graph.value_info[:]


def run_of(directory: str) -> Path:
    """A run of ``SOURCES``, those of timm where it is installed."""
    sources = [source for source in SOURCES if registry.find(source)]
    return convert(directory, f"include=[{','.join(sources)}]")


def report(results: list[Score]) -> bool:
    """Print the totals; whether the goal is met."""
    killed = sum(result.killed for result in results)
    real = sum(result.real for result in results)
    alarms = sum(len(result.alarms) for result in results)
    print(
        f"\n{len(results)} models, {sum(r.initializers for r in results)} initializers: "
        f"{killed} of {real} damaged files rejected ({killed / max(real, 1):.2%}), "
        f"{sum(r.equivalent for r in results)} more equivalent; "
        f"{alarms} false alarms in {3 * len(results)} sound files"
    )
    return bool(real) and killed / real >= GOAL and not alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run directory; default: make one")
    parser.add_argument("--initializers", type=int, default=8, help="for each model")
    parser.add_argument("--select", default="*", help="glob over the names of the models")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as work:
        run = arguments.run or run_of(work)
        heads = ("inits", "killed", "missed", "equal", "alarms", "noise", "allowed", "s")
        print(f"{'model':28}" + "".join(f"{head:>8}" for head in heads), flush=True)
        for subject in subjects(run, arguments.select, Path(work)):
            found = score(subject, arguments.initializers)
            results.append(found)
            counts = (found.killed, len(found.missed), found.equivalent, len(found.alarms))
            print(
                f"{found.name:28}{found.initializers:8}" + "".join(f"{n:8}" for n in counts),
                f"{max(subject.sound.noise):7.0e}{allowed(subject.references):8.0e}{found.seconds:8.1f}",
                *(f"\n  missed: {line}" for line in found.missed),
                *(f"\n  FALSE ALARM: {line}" for line in found.alarms),
                flush=True,
            )
    sys.exit(0 if report(results) else 1)


if __name__ == "__main__":
    main()
