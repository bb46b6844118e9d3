"""Sizes that a factor takes to another whole number in float32 than in float64.

Python and PyTorch compute ``floor(90 * 0.7)`` in float64, which is 62. A graph has the factor in
float32, as the scale of a Resize or of a product of sizes, and there it is 63 (pytorch#153115).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from converter.model.job import Job
from converter.worker.inputs import cases

_LARGEST = 2048
# Beyond these no size of an axis is meant: an epsilon, a count.
_LEAST_FACTOR, _LARGEST_FACTOR = 1e-3, 64.0


def offered(job: Job, scales: Iterable[float]) -> list[cases.Case]:
    """Cases in which one symbol takes a size that a factor's rounding to float32 gives away.

    For each symbol the one that is nearest to the example's, and others behind a stride.

    Args:
        scales: factors of sizes.
    """
    wrong = {size: scale for scale in scales if _is_factor(scale) for size in _sizes(scale)}
    found: dict[str, cases.Case] = {}
    for symbol, at in cases.symbols(job).items() if wrong else ():
        size = job.inputs[at[0][0]].shape[at[0][1]]
        for stride in (1, *cases.STRIDES):
            wanted = {stride * number: scale for number, scale in wrong.items()}
            fitting = cases.cheapest(job, symbol, wanted, {size})
            # A rule may not have it: the nearest that it has would show nothing.
            exact = [case for case in fitting if case.sizes.get(symbol) in wanted]
            if exact:
                nearest = min(exact, key=lambda case: abs(case.sizes[symbol] - size))
                scale = wanted[nearest.sizes[symbol]]
                found[nearest.label] = replace(nearest, scale=scale)
    return list(found.values())


def _is_factor(number: float) -> bool:
    """Whether sizes may be scaled by it, and whole numbers be missed."""
    return _LEAST_FACTOR < number < _LARGEST_FACTOR and number != int(number)


def _sizes(factor: float) -> set[int]:
    """Those from 2 on whose products are rounded, down or up, to different whole numbers."""
    size = np.arange(2, _LARGEST + 1)
    exact, single = size * factor, size.astype(np.float32) * np.float32(factor)
    differ = np.zeros(size.shape, bool)
    for rounded in (np.floor, np.ceil, np.rint):
        differ |= rounded(exact) != rounded(single)
    return {int(number) for number in size[differ]}
