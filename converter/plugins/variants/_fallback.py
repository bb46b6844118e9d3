"""Which nodes of a quantised file have to stay in float for it to be good enough.

The file that has them all quantised is tried first. Where it falls short, nodes are ranked by the
noise that they add to what they are given, the first of them are left out one by one to measure
what that gains, and then the largest gains together: one, two, four, … until the file passes, with
as few as a bisection finds. All of it is bounded by a number of tries.
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
from converter.model.job import CurvePoint
from converter.plugins.variants import Given
from converter.worker.inputs import dtypes
from converter.worker.onnxfile import checking
from converter.worker.runtime.session import Session

Make = Callable[[Sequence[str]], ModelProto]
"""The quantised model with these nodes left in float."""
Outputs = list[NDArray[Any]]


def search(make: Make, parent: Path, nodes: Sequence[str], tries: int, given: Given) -> ModelProto:
    """The model with as few nodes in float as it takes; the best that was tried where none passes.

    ``given.made`` gets the curve and the nodes.

    Args:
        nodes: those that are quantised.
        tries: how many files may be made to measure single nodes, and as many together.
    """
    first = make([])
    with tempfile.TemporaryDirectory() as folder:
        trial = _Trial(make, Path(folder) / "candidate.onnx", parent, given)
        passed, score = trial.verdict(first, 0)
        if passed or not tries or len(nodes) < 2:
            return first
        order = trial.ranked(first, nodes, tries)
        found, best = first, score
        chosen: list[str] = []
        low, count, left = 0, 1, tries
        # Half of the nodes in float is no quantised file any more.
        most = min(len(order), len(nodes) // 2)
        while left and count <= most:
            model = make(order[:count])
            passed, score = trial.verdict(model, count)
            left -= 1
            if passed or score > best:
                found, best, chosen = model, score, list(order[:count])
            if passed:
                break
            low, count = count, min(2 * count, most) if count < most else most + 1
        high = count
        while passed and left and high - low > 1:
            middle = (low + high) // 2
            model = make(order[:middle])
            good, _ = trial.verdict(model, middle)
            left -= 1
            if good:
                found, chosen, high = model, list(order[:middle]), middle
            else:
                low = middle
    given.made = given.made.model_copy(update={"float_nodes": chosen})
    return found


class _Trial:
    """Makes candidates, and says how good each is."""

    def __init__(self, make: Make, path: Path, parent: Path, given: Given) -> None:
        self._make = make
        self._path = path
        self._parent = parent
        self._given = given
        self._wanted: list[Outputs] | None = None

    def verdict(self, model: ModelProto, count: int) -> tuple[bool, float]:
        """Whether a candidate is good enough, and its signal to noise ratio."""
        onnx.save(model, self._path)
        error, accuracy = self._given.verdict(self._path)
        ratio = accuracy.sqnr_db if accuracy is not None else None
        point = CurvePoint(float_nodes=count, sqnr_db=ratio, error=error.message if error else None)
        made = self._given.made
        self._given.made = made.model_copy(update={"curve": [*made.curve, point]})
        # What is wrong otherwise no node in float cures: the verifier tells it.
        passed = error is None or error.code is not Code.ACCURACY
        return passed, -math.inf if ratio is None else ratio

    def ranked(self, first: ModelProto, nodes: Sequence[str], tries: int) -> list[str]:
        """The nodes, those first whose being left out gains most."""
        likely = self._by_noise(first, nodes)
        gains = {name: self._ratio(self._make([name])) for name in likely[:tries]}
        # The sort keeps the order of the rest.
        measured = sorted(gains, key=lambda name: -gains[name])
        return [*measured, *(name for name in likely if name not in gains)]

    def _ratio(self, model: ModelProto) -> float:
        """Signal to noise against the float32 file, in decibels, at the worst output."""
        if self._wanted is None:
            self._wanted = self._outputs(self._parent)
        onnx.save(model, self._path)
        worst = math.inf
        for place in range(len(self._wanted[0])):
            pairs = zip(self._wanted, self._outputs(self._path), strict=True)
            noise = _noise([(want[place], got[place]) for want, got in pairs])
            worst = min(worst, -10 * math.log10(noise) if noise else math.inf)
        return worst

    def _outputs(self, path: Path) -> list[Outputs]:
        session = Session(path, threads=self._given.threads)
        return [session.run(case) for case in self._cases()]

    def _cases(self) -> Sequence[Mapping[str, NDArray[Any]]]:
        # The traced example and the second sample: patterns are not what it is calibrated on.
        return self._given.cases[:2]

    def _by_noise(self, model: ModelProto, nodes: Sequence[str]) -> list[str]:
        """Nodes by the noise that they add, the most first; those without any last."""
        parent = checking.load(self._parent)
        held = {name for node in parent.graph.node for name in node.output if name}
        made = {name for node in model.graph.node for name in node.output if name}
        shared = sorted(held & made)
        noise = self._of_tensors(parent, model, shared)
        wanted = set(nodes)
        added: dict[str, float] = {}
        for node in model.graph.node:
            if node.name not in wanted:
                continue
            # Quantised inputs are read behind a pair, whose input has the name of the tensor.
            given = [noise.get(_tensor(name), 0.0) for name in node.input]
            after = noise.get(_tensor(node.output[0]), 0.0)
            added[node.name] = max(0.0, after - max(given, default=0.0))
        return sorted((name for name in nodes if name in added), key=lambda name: -added[name])

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
