"""The parts of an output that a bound for the whole does not protect, and their rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.worker import magnitudes, slices
from converter.worker.inputs import Array
from converter.worker.magnitudes import Decades
from converter.worker.slices import Spread


@dataclass(frozen=True)
class Rounding:
    """What rounding does to the parts of one output; empty where it is not known.

    Attributes:
        slices: root mean square in each slice.
        decades: root mean square of the elements of each order of magnitude.
        largest: of any part, as a share of the part's own scale.
    """

    slices: Spread = field(default_factory=dict)
    decades: Decades = field(default_factory=dict)
    largest: float = 0.0


def rounding(exact: Array, rounded: Array) -> Rounding:
    """Of an output in the model's own precision against the same in float64."""
    if exact.shape != rounded.shape or rounded.dtype.kind != "f" or not rounded.size:
        return Rounding()
    error = rounded.astype(np.float64) - exact.astype(np.float64)
    found = slices.spread(error)
    return Rounding(
        found, magnitudes.decades(exact, rounded), max(_shares(exact, error, found), default=0.0)
    )


def _shares(exact: Array, error: Array, found: Spread) -> Iterator[float]:
    for axis, scale in slices.spread(exact).items():
        yield float((found[axis][scale > 0] / scale[scale > 0]).max(initial=0.0))
    for held in magnitudes.smaller(np.abs(exact.astype(np.float64))):
        yield float(np.linalg.norm(error[held]) / np.linalg.norm(exact[held]))


def largest(known: Sequence[Rounding]) -> Rounding:
    """Of several cases of one output; slices where they have as many."""
    first, *others = known
    spread, decades = dict(first.slices), dict(first.decades)
    for other in others:
        for axis, values in first.slices.items():
            if axis in other.slices and other.slices[axis].shape == values.shape:
                spread[axis] = np.maximum(spread[axis], other.slices[axis])
        for power, value in other.decades.items():
            decades[power] = max(value, decades.get(power, 0.0))
    return Rounding(spread, decades, max(item.largest for item in known))


def wrong(expected: Array, actual: Array, noise: Rounding, floor: float | None) -> str | None:
    """The part that is wrong by itself, in words, or ``None``.

    Args:
        noise: the model's own rounding of the parts.
        floor: relative L2 distance of the whole output to float64; ``None``: not known.
    """
    return slices.wrong(expected, actual, noise.slices, floor) or magnitudes.wrong(
        expected, actual, noise.decades
    )
