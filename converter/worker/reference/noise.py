"""The rounding error that a model shows by itself, measured where the tightest bound fails.

A right file computes the same in another order, so that it may be off by some times as much. The
model runs once more, rounded at random (``rerounding`` beside this); an ONNX source, whose
operators are out of reach, on inputs that are moved by a step. The steps are those of float32, or
of float16 or bfloat16 for a file that computes in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from converter.model.errors import StageError
from converter.worker.compare import detections, numerics, parts, vacuity
from converter.worker.compare.detections import Places, Rows
from converter.worker.compare.numerics import Bounds, Edge, Noise
from converter.worker.inputs import dtypes
from converter.worker.inputs import tensors as torch_arrays
from converter.worker.inputs.inputs import Array
from converter.worker.reference.execution import REFUSALS, Runner, flatten, real, replica, tensors
from converter.worker.reference.rerounding import Rerounding
from converter.worker.runtime.starting import first_line
from converter.worker.sources.loading import Loaded

# Where an output has few elements, one run may by chance hardly move them: the largest distance
# of three. One run moves many enough.
_RUNS, _MANY = 3, 64
# Of the detections the nearest pairs tell the rounding; the others are another choice.
_NEAREST = 0.9
# How far, in steps, the results of all operators move to find the detections on the edge: first as
# far as another rounding may, then as far as a right file may be off, up to a limit. Two runs that
# move to opposite sides find nearly all that lies within their reach, two at random three of four.
_FIRST, _FARTHEST, _WITHIN = 2.0, 12.0, 0.7
_EXACT = 3  # one of so many such pairs has its products in float64

_REDUCED = {"float16": torch.float16, "bfloat16": torch.bfloat16}

Again = Callable[[int, float, bool], list[Array] | None]
"""Runs the model for a seed and a level, products in float64 or not; ``None``: it refused."""


def measure(
    run: Runner,
    loaded: Loaded,
    inputs: Mapping[str, Array],
    outputs: Sequence[Array],
    members: Places,
    *,
    exact: bool,
    precision: str = "float32",
) -> Noise:
    """See how far rounding moves the outputs of one case.

    Which detections are on the edge takes more runs, and is found out when first asked for.

    Args:
        exact: products are computed in float64, so that how they add up shows too; else the
            outputs move by less, and it takes a third of the time. Of 16 bits it changes nothing.
        precision: in which the file computes that is to be judged; a key of ``numerics.BOUNDS``.
    """
    of_file = loaded.kind == "onnx"
    bounds = numerics.BOUNDS[precision]
    again = _again(run, loaded, inputs, outputs, precision)
    found = [_between(moved, outputs, members) for moved in _runs(again, outputs, exact)]
    if not found:
        # Unknown floors: the bounds fall back to what a deep network shows (`unknown`).
        return Noise([None] * len(outputs), bounds=bounds)
    noise = replace(worst(found), bounds=bounds)
    if of_file:
        # Inputs that move show less than operators that round.
        noise = noise.at_least(bounds.unknown)
    # Outputs without an order by scores have no detections that rounding could bring or lose.
    if not detections.ranked(members, outputs):
        return noise
    return replace(noise, edge=_Edge(again, outputs, members, noise).after)


def _again(
    run: Runner,
    loaded: Loaded,
    inputs: Mapping[str, Array],
    outputs: Sequence[Array],
    precision: str,
) -> Again:
    of_file = loaded.kind == "onnx"
    return functools.partial(_file if of_file else _torch, run, inputs, outputs, precision)


def worst(noises: Sequence[Noise]) -> Noise:
    """The largest of each; of several, none has the detections on the edge."""
    # With its edge: of one case it is still known which detections come and go.
    if len(noises) == 1:
        return noises[0]
    columns = zip(*(noise.floors for noise in noises), strict=True)
    floors = [max((f for f in column if f is not None), default=None) for column in columns]
    known = [noise.parts for noise in noises if noise.parts]
    largest = [parts.largest(column) for column in zip(*known, strict=True)]
    return Noise(floors, largest, bounds=noises[0].bounds)


def _runs(again: Again, outputs: Sequence[Array], exact: bool) -> Iterator[list[Array]]:
    # The smallest output decides, since one run serves all of them.
    fewest = min((output.size for output in outputs if dtypes.is_float(output)), default=0)
    for seed in range(1 if fewest >= _MANY else _RUNS):
        moved = again(seed, 1.0, exact)
        if moved is None:
            return
        yield moved


def _torch(
    run: Runner,
    inputs: Mapping[str, Array],
    outputs: Sequence[Array],
    precision: str,
    seed: int,
    level: float,
    exact: bool,
) -> list[Array] | None:
    arguments, model = tensors(inputs, run.device), replica(run.model)
    # None where the file computes in float32: the model's own dtypes give the steps then.
    dtype = _REDUCED.get(precision)
    fixed = [*model.parameters(), *model.buffers()] if isinstance(model, torch.nn.Module) else []
    try:
        with Rerounding(seed, level, exact=exact, precision=dtype, constants=fixed):
            result = run.forward(arguments, model=model)
        found = [torch_arrays.array(real(tensor).resolve_neg()) for tensor in flatten(result)]
    except REFUSALS as error:
        print(f"the model does not run with other rounding: {first_line(error)}")
        return None
    # Another number of outputs is another result, with nothing to compare it to.
    return found if len(found) == len(outputs) else None


def _file(
    run: Runner,
    inputs: Mapping[str, Array],
    outputs: Sequence[Array],
    precision: str,
    seed: int,
    level: float,
    exact: bool,
) -> list[Array] | None:
    floats = [name for name, array in inputs.items() if dtypes.is_float(array) and array.size]
    # Whole numbers have no step to be moved by.
    if not floats:
        return None
    # Philox draws the same on every machine.
    draw = np.random.Generator(np.random.Philox(seed))
    moved = dict(inputs)
    for name in floats:
        array = inputs[name]
        # One step up or down for each element, so that all of them move and none moves far.
        signs = draw.integers(0, 2, array.shape) * 2 - 1
        step = level * numerics.BOUNDS[precision].step(array.dtype)
        moved[name] = (array.astype(np.float64) * (1 + signs * step)).astype(array.dtype)
    try:
        found = run(moved)
    except StageError as error:
        print(f"the file does not run with other rounding: {error.message}")
        return None
    return found if len(found) == len(outputs) else None


def _between(moved: Sequence[Array], outputs: Sequence[Array], members: Places) -> Noise:
    """How far one run is from the outputs."""
    floors = list(map(_distance, moved, outputs))
    if detections.ranked(members, outputs) and detections.comparable(members, outputs, moved):
        rows = detections.pair(members, outputs, moved)
        for place in members.values():
            floors[place] = _of_pairs(outputs[place], moved[place], rows)
    # Parts are measured on unpaired rows. `compare.outputs` does not use those of detections.
    return Noise(floors, list(map(parts.rounding, moved, outputs)))


def _of_pairs(want: Array, got: Array, rows: tuple[Rows, Rows]) -> float | None:
    if not dtypes.is_float(want):  # pairs have the same label
        return 0.0
    left, right = rows
    scale = vacuity.rms(want)
    if not len(left) or not scale:
        return None
    error = detections.errors(want[left], got[right])
    near = error[error <= np.quantile(error, _NEAREST)]
    return float(np.sqrt(np.mean(np.square(near)))) / scale


class _Edge:
    """Detections without a counterpart in another of the model's own lists, of either list.

    The lists are those of runs that move the results of all operators by more and more, as long
    as the detections that stay move by no more than a right file may move them.
    """

    def __init__(
        self,
        again: Again,
        outputs: Sequence[Array],
        members: Places,
        noise: Noise,
    ) -> None:
        self._again, self._outputs, self._members = again, outputs, members
        self._floors, self._bounds = noise.floors, noise.bounds
        allowed = (_allowed(floor, noise.bounds) for floor in noise.floors)
        # A level of n moves outputs n times as far as rounding does. It stays below what a right
        # file may be off, or the runs would be thrown away.
        self._reach = min([_FARTHEST, *(_WITHIN * times for times in allowed)])
        self._runs = 0
        self._found: list[Edge] = []

    def after(self, runs: int) -> Edge:
        """What so many runs show; they are made once, when they are asked for."""
        while self._runs < runs:
            pair, other_side = divmod(self._runs, 2)
            # Never below rounding itself: what that moves is on the edge in any case.
            level = max(1.0, min(self._reach, _FIRST if pair == 0 else _FARTHEST))
            # How products add up tells what moving their results does not, and takes twice as long.
            exact = pair % _EXACT == _EXACT - 1
            # Seeds that `_runs` has not used, and the same one for both sides of a pair.
            self._run(_RUNS + pair, -level if other_side else level, exact=exact)
            self._runs += 1
        if not self._found:
            return Edge()
        return Edge(
            {
                place: np.concatenate([edge.rows[place] for edge in self._found])
                for place in self._members.values()
            },
            np.concatenate([edge.of for edge in self._found]),
        )

    def _run(self, seed: int, level: float, *, exact: bool) -> None:
        outputs, members = self._outputs, self._members
        moved = self._again(seed, level, exact)
        # Without detections, or in another form, nothing can be paired.
        if moved is None or not detections.comparable(members, outputs, moved):
            return
        rows = detections.pair(members, outputs, moved)
        by = {place: _of_pairs(outputs[place], moved[place], rows) for place in members.values()}
        far = any(
            (by[place] or 0.0) > numerics.tolerance(self._floors[place], self._bounds)
            for place in by
        )
        # No right file moves that far: such a run excuses nothing, and the next one goes less far.
        if far and abs(level) > 1:
            self._reach = _WITHIN * abs(level)
            return
        bounds = detections.bounds(members, outputs, self._floors, limits=self._bounds)
        good = detections.found(members, outputs, moved, rows, bounds)
        ours = np.arange(len(outputs[members["scores"]]))
        # Which of PyTorch's detections each of the other list is; -1 where it is none of them.
        theirs = np.full(len(moved[members["scores"]]), -1)
        theirs[rows[1]] = rows[0]
        for side, of, counterparts in (
            (outputs, ours, rows[0][good]),
            (moved, theirs, rows[1][good]),
        ):
            lost = {place: np.delete(side[place], counterparts, axis=0) for place in by}
            self._found.append(Edge(lost, np.delete(of, counterparts)))


def _allowed(floor: float | None, bounds: Bounds) -> float:
    """How many times its rounding an output of a right file may be off."""
    return numerics.tolerance(floor, bounds) / floor if floor else np.inf


def _distance(moved: Array, output: Array) -> float | None:
    if moved.shape != output.shape:
        return None
    if not dtypes.is_float(output):
        # Whole numbers are exact or wrong, so that there is no distance to allow for.
        return 0.0 if np.array_equal(moved, output) else None
    scale = vacuity.rms(output)
    error = vacuity.rms(output.astype(np.float64) - moved.astype(np.float64))
    if not error:
        return 0.0
    return error / scale if scale and np.isfinite(error) else None
