"""The rounding error that a model shows by itself: in its own precision against float64.

A right file computes the same in another order, so that it may be off by some times as much.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from converter.worker import detections, parts, vacuity
from converter.worker.detections import Places
from converter.worker.execution import REFUSALS, Runner, flatten, tensors
from converter.worker.inputs import Array
from converter.worker.loading import Loaded
from converter.worker.numerics import Noise
from converter.worker.starting import first_line
from converter.worker.strips import Strips

# Of the detections the nearest pairs tell the rounding; the others are another choice.
_NEAREST = 0.9
# Two runs that differ by less are the same but for rounding.
_REPEATS = 1e-4
# A part that is small beside the whole rounds worse, so that more of it says nothing yet.
_PARTS_REPEAT = 1e-2


def measure(
    run: Runner,
    loaded: Loaded,
    inputs: Mapping[str, Array],
    outputs: Sequence[Array],
    members: Places,
) -> Noise:
    """Run the model in float64 on the inputs of one case, and see how far its outputs are off.

    The model has run before and random operators draw other numbers: see ``repeats``.
    """
    unknown = Noise([None] * len(outputs))
    if loaded.kind != "module":
        return unknown
    try:
        double = copy.deepcopy(run.used).double()
        arguments = tuple(
            tensor.double() if tensor.is_floating_point() else tensor
            for tensor in tensors(inputs, run.device)
        )
        with Strips():  # type: ignore[no-untyped-call]
            result = run.forward(arguments, draw=1, model=double)
    except (*REFUSALS, AttributeError, KeyError) as error:
        # Code that names float32 inside forward does not run in float64; the default holds then.
        print(f"no float64 reference: {first_line(error)}")
        return unknown
    exact = [tensor.cpu().numpy() for tensor in flatten(result)]
    if len(exact) != len(outputs):
        return unknown
    floors = [_distance(want, have) for want, have in zip(exact, outputs, strict=True)]
    if not members:
        return Noise(floors, parts=list(map(parts.rounding, exact, outputs)))
    return _of_detections(floors, exact, outputs, members)


def repeats(noise: Noise) -> bool:
    """Whether a measured noise shows that the model gives the same once more.

    Another draw of random numbers, or what an earlier call left behind, would show in it.
    """
    known = [floor for floor in noise.floors if floor is not None]
    all_known = bool(known) and len(known) == len(noise.floors)
    even = all(part.largest < _PARTS_REPEAT for part in noise.parts)
    return all_known and max(known) < _REPEATS and even and noise.lost == 0


def worst(noises: Sequence[Noise]) -> Noise:
    """The largest of each, for a case whose own was not measured."""
    columns = zip(*(noise.floors for noise in noises), strict=True)
    floors = [max((f for f in column if f is not None), default=None) for column in columns]
    known = [noise.parts for noise in noises if noise.parts]
    joined = [parts.largest(column) for column in zip(*known, strict=True)]
    return Noise(floors, max((noise.lost for noise in noises), default=0.0), joined)


def _of_detections(
    floors: list[float | None], exact: list[Array], outputs: Sequence[Array], members: Places
) -> Noise:
    same = [
        have.astype(want.dtype) if have.dtype.kind == "f" else have
        for want, have in zip(exact, outputs, strict=True)
    ]
    if not detections.comparable(members, exact, same):
        return Noise(floors, 1.0)
    left, right = detections.pair(members, exact, same)
    floors = list(floors)
    for index in members.values():
        # Pairs have the same label.
        floors[index] = 0.0 if exact[index].dtype.kind != "f" and len(left) else None
        if exact[index].dtype.kind == "f" and len(left):
            error = detections.errors(exact[index][left], same[index][right])
            near = error[error <= np.quantile(error, _NEAREST)]
            scale = vacuity.rms(exact[index])
            floors[index] = float(np.sqrt(np.mean(np.square(near)))) / scale if scale else None
    found = detections.found(members, exact, same, (left, right), floors)
    most = max(len(exact[members["scores"]]), len(same[members["scores"]]), 1)
    return Noise(floors, 1 - int(found.sum()) / most)


def _distance(exact: Array, rounded: Array) -> float | None:
    if exact.shape != rounded.shape:
        return None
    if rounded.dtype.kind != "f":
        return 0.0 if np.array_equal(exact, rounded) else None
    scale = vacuity.rms(exact)
    error = vacuity.rms(rounded.astype(np.float64) - exact.astype(np.float64))
    return error / scale if scale else None
