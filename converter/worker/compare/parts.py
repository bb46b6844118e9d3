"""The parts of an output that a bound for the whole does not protect, and their rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.worker.compare import magnitudes, slices
from converter.worker.compare.magnitudes import Decades
from converter.worker.compare.slices import TIMES_NOISE, Spread
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array


@dataclass(frozen=True)
class Rounding:
    """What rounding does to the parts of one output; empty where it is not known.

    Attributes:
        slices: root mean square in each slice.
        decades: root mean square of the elements of each order of magnitude.
    """

    slices: Spread = field(default_factory=dict)
    decades: Decades = field(default_factory=dict)

    def times(self, factor: float) -> Rounding:
        """So many times as much."""
        return Rounding(
            {axis: values * factor for axis, values in self.slices.items()},
            {power: value * factor for power, value in self.decades.items()},
        )


def rounding(moved: Array, output: Array) -> Rounding:
    """Of an output against the same, rounded otherwise."""
    # Another shape has no error by element, and whole numbers are equal or wrong.
    if moved.shape != output.shape or not dtypes.is_float(output) or not output.size:
        return Rounding()
    error = output.astype(np.float64) - moved.astype(np.float64)
    return Rounding(slices.spread(error), magnitudes.decades(moved, output))


def largest(known: Sequence[Rounding]) -> Rounding:
    """Of several cases of one output; slices where they have as many."""
    first, *others = known
    spread, decades = dict(first.slices), dict(first.decades)
    for other in others:
        # Another case may have other sizes, whose slices say nothing of these.
        for axis, values in first.slices.items():
            if axis in other.slices and other.slices[axis].shape == values.shape:
                spread[axis] = np.maximum(spread[axis], other.slices[axis])
        for power, value in other.decades.items():
            decades[power] = max(value, decades.get(power, 0.0))
    return Rounding(spread, decades)


def wrong(
    expected: Array,
    actual: Array,
    noise: Rounding,
    floor: float | None,
    eps: float | None = None,
    times: float = TIMES_NOISE,
) -> str | None:
    """The part that is wrong by itself, in words, or ``None``.

    Args:
        noise: the model's own rounding of the parts.
        floor: that of the whole output, as relative L2 distance; ``None``: not known.
        eps: of the precision in which the file computes; ``None``: that of the output's dtype.
        times: so many times the rounding may a part be off.
    """
    eps = dtypes.eps(expected.dtype) if eps is None else eps
    want, got = expected.astype(np.float64), actual.astype(np.float64)
    return slices.wrong(want, got, noise.slices, floor, eps, times) or magnitudes.wrong(
        want, got, noise.decades, eps, times
    )
