"""Which nodes of a quantised file have to stay in float for it to be good enough.

The file that has them all quantised is tried first. Where it falls short, layers are ranked by the
noise that they, and what follows them up to the next layer, add to what they are given; the first
are left in float one by one to measure what that gains, and then the largest gains together: one,
two, four, … until the file passes, with as few as a bisection finds. All of it is bounded by a
number of tries.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from converter.model.errors import Code
from converter.model.records import CurvePoint
from converter.plugins.variants import Given
from converter.worker.compare import signal
from converter.worker.inputs import dtypes
from converter.worker.onnxfile import checking
from converter.worker.runtime.session import Session

Make = Callable[[Sequence[str]], ModelProto]
"""The quantised model with these nodes left in float."""
Outputs = list[NDArray[Any]]


def search(
    make: Make, parent: Path, groups: Mapping[str, Sequence[str]], tries: int, given: Given
) -> ModelProto:
    """The model with as few nodes in float as it takes; the best that was tried where none passes.

    ``given.made`` gets the curve and the nodes.

    Args:
        groups: each layer that is quantised, with the nodes that go to float together with it.
        tries: how many files may be made to measure single layers, and as many to combine them.
    """
    first = make([])
    # Where no threshold applies, nothing is too bad.
    if not given.trained or not tries:
        return first
    with tempfile.TemporaryDirectory() as folder:
        trial = _Trial(make, Path(folder) / "candidate.onnx", parent, given)
        passed, score = trial.verdict(first, 0)
        if passed or (len(groups) < 2 and not any(nodes[1:] for nodes in groups.values())):
            return first
        order = _affordable(trial.ranked(first, groups, tries), groups, parent)
        found, chosen = _combined(trial, first, score, order, tries)
    given.made = given.made.model_copy(update={"float_nodes": chosen})
    return found


def _affordable(
    order: Sequence[str], groups: Mapping[str, Sequence[str]], parent: Path
) -> list[Sequence[str]]:
    """What may go to float: the first layers that hold half of the weights, with their nodes.

    With more in float no file is quantised. Of the others the nodes without the layer: they hold
    no weights, and the noise may be theirs.
    """
    model = checking.load(parent)
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    layers = {
        node.name: sum(sizes.get(name, 0) for name in node.input) for node in model.graph.node
    }
    budget = 0.5 * sum(layers.get(name, 0) for name in order)
    found = []
    for name in order:
        # A larger one may be followed by smaller ones that fit; the order is by what they gain.
        budget -= layers.get(name, 0) if budget >= 0 else 0
        nodes = groups[name] if budget >= 0 else groups[name][1:]
        if nodes:
            found.append(nodes)
    return found


def _combined(
    trial: _Trial, first: ModelProto, score: float, order: Sequence[Sequence[str]], tries: int
) -> tuple[ModelProto, list[str]]:
    """The best of some models with the first layers in float, and their nodes.

    Args:
        first: the model without any, and ``score`` its ratio.
        order: groups of nodes, those first that gain most.
    """
    found, best, chosen = first, score, list[str]()
    low, high, count, most = 0, 0, 1, len(order)
    passed = False
    for _ in range(tries if order else 0):
        nodes = [name for group in order[:count] for name in group]
        model = trial.make(nodes)
        good, score = trial.verdict(model, len(nodes))
        if good or (not passed and score > best):
            found, best, chosen = model, score, nodes
        passed = passed or good
        if not passed:
            if count == most:
                break
            low, count = count, min(2 * count, most)
            continue
        # From the first that passes on between it and the last that did not.
        high = count if good else high
        low = low if good else count
        if high - low < 2:
            break
        count = (low + high) // 2
    return found, chosen


class _Trial:
    """Makes candidates, and says how good each is."""

    def __init__(self, make: Make, path: Path, parent: Path, given: Given) -> None:
        self.make = make
        self._path = path
        self._parent = parent
        self._given = given
        self._wanted: list[Outputs] | None = None

    def verdict(self, model: ModelProto, count: int) -> tuple[bool, float]:
        """Whether a candidate is good enough, and its signal to noise ratio."""
        onnx.save(model, self._path)
        error, accuracy = self._given.verdict(self._path)
        ratio = accuracy.sqnr_db if accuracy is not None else None
        parts = [ratio, accuracy.slice_db if accuracy is not None else None]
        point = CurvePoint(float_nodes=count, sqnr_db=ratio, error=error.message if error else None)
        made = self._given.made
        self._given.made = made.model_copy(update={"curve": [*made.curve, point]})
        # What is wrong otherwise no node in float cures: the verifier tells it.
        passed = error is None or error.code is not Code.ACCURACY
        known = [value for value in parts if value is not None]
        return passed, min(known, default=-math.inf)

    def ranked(
        self, first: ModelProto, groups: Mapping[str, Sequence[str]], tries: int
    ) -> list[str]:
        """The layers, those first whose being left in float gains most."""
        likely = self._by_noise(first, groups)
        gains = {name: self._ratio(self.make(groups[name])) for name in likely[:tries]}
        # The sort keeps the order of the rest.
        measured = sorted(gains, key=lambda name: -gains[name])
        return [*measured, *(name for name in likely if name not in gains)]

    def _ratio(self, model: ModelProto) -> float:
        """Signal to noise against the float32 file, in decibels, at the worst output or slice."""
        if self._wanted is None:
            self._wanted = self._outputs(self._parent)
        onnx.save(model, self._path)
        worst, outputs = math.inf, self._outputs(self._path)
        for place in range(len(self._wanted[0])):
            wanted, found = ([case[place] for case in cases] for cases in (self._wanted, outputs))
            noise = _noise(list(zip(wanted, found, strict=True)))
            worst = min(worst, -10 * math.log10(noise) if noise else math.inf)
            # Of scores beside boxes the whole says nothing.
            part = signal.worst_part(signal.comparable(wanted, found))
            worst = min(worst, math.inf if part is None else part.ratio)
        return worst

    def _outputs(self, path: Path) -> list[Outputs]:
        session = Session(path, threads=self._given.threads)
        return [session.run(case) for case in self._cases()]

    def _cases(self) -> Sequence[Mapping[str, NDArray[Any]]]:
        # The traced example and the second sample: patterns are not what it is calibrated on.
        return self._given.cases[:2]

    def _by_noise(self, model: ModelProto, groups: Mapping[str, Sequence[str]]) -> list[str]:
        """Layers by the noise that their nodes add, the most first."""
        parent = checking.load(self._parent)
        held = {name for node in parent.graph.node for name in node.output if name}
        made = {name for node in model.graph.node for name in node.output if name}
        shared = sorted(held & made)
        noise = self._of_tensors(parent, model, shared)
        added: dict[str, float] = {}
        for node in model.graph.node:
            # Quantised inputs are read behind a pair, whose input has the name of the tensor.
            given = [noise.get(_tensor(name), 0.0) for name in node.input]
            after = noise.get(_tensor(node.output[0]), 0.0)
            added[node.name] = max(0.0, after - max(given, default=0.0))
        sums = {
            layer: sum(added.get(name, 0.0) for name in nodes) for layer, nodes in groups.items()
        }
        return sorted(groups, key=lambda layer: -sums[layer])

    def _of_tensors(
        self, parent: ModelProto, model: ModelProto, names: Sequence[str]
    ) -> dict[str, float]:
        """The energy of the noise of tensors, as a share of their own."""
        case = self._given.cases[0]
        wide, narrow = (_exposed(each, names, case) for each in (parent, model))
        return {
            name: _noise([(wide[name], narrow[name])])
            for name in names
            if name in wide and name in narrow
        }


def _tensor(name: str) -> str:
    for suffix in ("_DequantizeLinear_Output", "_QuantizeLinear_Input"):
        name = name.removesuffix(suffix)
    return name


def _exposed(
    model: ModelProto, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    held = {value.name for value in model.graph.output}
    added = [name for name in names if name not in held]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
    session = Session(model.SerializeToString(), optimise=False)
    del model.graph.output[len(model.graph.output) - len(added) :]
    return dict(zip(session.outputs, session.run(feeds), strict=True))


def _noise(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    signal = noise = 0.0
    for want, got in pairs:
        if dtypes.is_float(want) and want.shape == got.shape:
            exact = want.astype(np.float64)
            signal += float(np.square(exact).sum())
            noise += float(np.square(got.astype(np.float64) - exact).sum())
    return noise / signal if signal else 0.0
