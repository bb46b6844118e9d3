"""The elements of an output that are far smaller than the others, wherever they stand.

Masked scores are the usual case: -1e9 beside logits near one, in no order that an axis shows. A
bound that follows the scale of the whole accepts any value of the small ones. Where the magnitudes
of the elements have a gap, those below it are therefore compared by themselves too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from converter.worker.compare.slices import TIMES_NOISE
from converter.worker.inputs.inputs import Array

Decades = dict[int, float]
"""Power of ten of an element's magnitude → root mean square of the rounding errors there."""

# Of continuous values the smallest few may by chance be this much smaller than all the others;
# that four of them are is one in 10^8.
_GAP = 100.0
_FEWEST = 4
_SHARE = 0.01  # of their own scale
_STEPS = 4.0  # of the dtype, at one: ONNX Runtime's sigmoid and its like are no better
_MANTISSA = 52  # bits of float64 below the exponent
_PEAK = 4.0  # the largest of many rounding errors against their root mean square


def decades(moved: Array, output: Array) -> Decades:
    """The rounding error of the elements of each order of magnitude; zeros are left out."""
    sizes = np.abs(moved.astype(np.float64)).ravel()
    squares = np.square(output.astype(np.float64) - moved.astype(np.float64)).ravel()
    # Zero has no power of ten. It is compared with the whole output.
    held = sizes > 0
    powers = np.floor(np.log10(sizes[held])).astype(int)
    found = {}
    for power in np.unique(powers):
        found[int(power)] = float(np.sqrt(squares[held][powers == power].mean()))
    return found


def smaller(sizes: NDArray[np.float64]) -> Iterator[NDArray[np.bool_]]:
    """The elements below each gap in the magnitudes, down to the gap before it."""
    if not _has_gap(sizes):  # which takes far less than sorting
        return
    known = np.sort(sizes[sizes > 0])
    low = 0.0
    begin = 0
    for end in np.flatnonzero(known[1:] >= _GAP * known[:-1]) + 1:
        # Too few make no group: they stay with those above the next gap.
        if end - begin >= _FEWEST:
            high = float(known[end - 1])
            yield (sizes > low) & (sizes <= high)
            low, begin = high, int(end)


def _has_gap(sizes: NDArray[np.float64]) -> bool:
    """Whether enough powers of two in a row hold no element, between some that do."""
    if not sizes.size:
        return False
    # The exponents as float64 holds them: frexp takes six times as long.
    # Sizes are not negative, so that no sign bit stands above the exponent.
    counts = np.bincount(sizes.ravel().view(np.int64) >> _MANTISSA)
    counts[0] = 0  # zeros have no magnitude
    taken = np.flatnonzero(counts)
    # A gap of a factor of 100 leaves at least six powers of two between two taken ones. A smaller
    # one shows here too, and is found to be none after sorting.
    return bool((np.diff(taken) >= math.floor(math.log2(_GAP))).any())


def wrong(
    expected: NDArray[np.float64],
    actual: NDArray[np.float64],
    noise: Mapping[int, float],
    eps: float,
    times: float = TIMES_NOISE,
) -> str | None:
    """The small elements that are wrong by themselves, in words, or ``None``.

    Args:
        noise: what rounding does to the model's own elements; empty where it is not known.
        eps: of the precision in which the file computes.
        times: so many times the rounding may they be off.
    """
    sizes = np.abs(expected)
    step = _STEPS * eps
    for held in smaller(sizes):
        want = expected[held]
        error = np.abs(actual[held] - want)
        # The mean error finds damage to all of them, the largest one damage to a single element.
        scale, off = _rms(want), _rms(error)
        rounding = times * _near(noise, sizes[held])
        # Whichever is largest: rounding, a share of their own scale, or steps at one where they are
        # small.
        allowed = max(rounding, _SHARE * scale, step * max(scale, 1.0))
        if off > allowed or error.max() > _PEAK * allowed:
            return (
                f"the {want.size} elements up to {sizes[held].max():.3g} are off by {off:.3g} "
                f"(root mean square; their scale is {scale:.3g}, the whole output's "
                f"{_rms(sizes):.3g})"
            )
    return None


def _near(noise: Mapping[int, float], sizes: NDArray[np.float64]) -> float:
    """Of these magnitudes, and of those beside them: a neighbour is known where one is not."""
    powers = np.floor(np.log10([sizes.min(), sizes.max()])).astype(int)
    near = (noise.get(int(power), 0.0) for power in range(powers[0] - 1, powers[1] + 2))
    return max(near)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
