"""The parts of an output that differ in scale: boxes in pixels beside scores below one.

A bound that follows the scale of the whole output lets an error through that is larger than all
that a small part holds. The slices along each axis (channels, columns, the members of a stack) are
therefore compared by themselves too, coarsely: what is within a hundredth of the part's own scale,
or within what rounding does to it, is left to the finer bounds of the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.worker.inputs.inputs import Array

Spread = dict[int, NDArray[np.float64]]
"""Axis → root mean square of each slice along it."""

_FEWEST = 16  # elements of a slice: a statistic of fewer is none
# It began as a twentieth, and values that a trace had frozen passed.
_SHARE = 0.01  # of a part's own scale
TIMES_NOISE = 20.0  # of float32
_STEPS = 4.0  # of the dtype, at the scale of the whole output, or at one; and a usual floor


def spread(values: Array) -> Spread:
    """The scale of each slice that has enough elements."""
    squares = np.square(values.astype(np.float64, copy=False))
    found: Spread = {}
    # Of a single axis each slice is one element; the only slice along an axis is the whole output.
    # Every axis, since what a trace freezes may show in one member of a stack only.
    for axis in range(values.ndim) if values.ndim > 1 else ():
        if values.shape[axis] > 1 and values.size // values.shape[axis] >= _FEWEST:
            others = tuple(other for other in range(values.ndim) if other != axis)
            found[axis] = np.sqrt(squares.mean(axis=others))
    return found


def wrong(
    want: NDArray[np.float64],
    got: NDArray[np.float64],
    noise: Spread,
    floor: float | None,
    eps: float,
    times: float = TIMES_NOISE,
) -> str | None:
    """The slice that is wrong by itself, in words, or ``None``.

    Args:
        noise: the model's own rounding error in each slice; where it has none for an axis, or for
            another number of slices, ``floor`` stands for it.
        floor: that of the whole output, as relative L2 distance; ``None``: not known.
        eps: of the precision in which the file computes.
        times: so many times the rounding may a slice be off.
    """
    whole = float(np.sqrt(np.mean(np.square(want))))
    # ONNX Runtime's sigmoid and its like are exact to a step at one, not at their own small value.
    exact = _STEPS * eps
    step = exact * max(whole, 1.0)
    floor = exact if floor is None else floor
    errors = spread(got - want)
    for axis, scale in spread(want).items():
        own = noise.get(axis)
        known = own is not None and own.shape == scale.shape
        rounding: Any = own if known else floor * whole  # of each slice, or of all
        allowed = np.maximum(times * rounding, np.maximum(_SHARE * scale, step))
        index = int(np.argmax(errors[axis] - allowed))
        if errors[axis][index] > allowed[index]:
            return (
                f"slice {index} of axis {axis} is off by {errors[axis][index]:.3g} (root mean "
                f"square; its scale is {scale[index]:.3g}, the whole output's {whole:.3g})"
            )
    return None
