"""How much of a signal is left: of whole outputs sample by sample, and of their parts.

One ratio of energies over a tensor hides what is small in it: scores beside boxes in pixels, and
quiet samples beside a loud one. So a whole output is judged in each sample, and each channel by
itself, over all samples: one that is silent in a single sample (the heat map of a joint that is not
there) is lost in none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array

Pair = tuple[Array, Array]
"""What is wanted and what was found, of one shape."""
Values = NDArray[np.float64]

MOST_DB = 200.0
"""Of what is exact; a ratio without noise has no number."""
_FEWEST = 32  # elements of a slice; of 1000 classes in 20 samples, one is near zero by chance
_NEGLIGIBLE = 1e-6  # of the whole output's scale: what rounding to float32 leaves of nothing
# Of its own scale: what moves by less around its mean is judged with it. A slice that does not move
# at all in the file is lost from the second on.
_MOVES = 0.05
_FROZEN = 1e-3


@dataclass(frozen=True)
class Part:
    """A slice of an output.

    Attributes:
        ratio: in decibels, over all samples; of what moves around the mean where that is less.
        sample: where in the sequence of samples it is worst.
    """

    ratio: float
    axis: int
    index: int
    sample: int
    frozen: bool = False


def decibels(signal: float, noise: float) -> float:
    """The ratio of two energies."""
    if not noise:
        return MOST_DB
    return min(MOST_DB, 10 * math.log10(signal / noise)) if signal else -MOST_DB


def comparable(wanted: Sequence[Array], found: Sequence[Array]) -> list[Pair | None]:
    """The samples of an output as pairs; ``None``: no float, or of another shape."""
    return [
        (want.astype(np.float64), got.astype(np.float64))
        if dtypes.is_float(want) and want.shape == got.shape and want.size
        else None
        for want, got in zip(wanted, found, strict=True)
    ]


def audible(pairs: Sequence[Pair | None]) -> list[bool]:
    """Which samples have a signal: not those that are zero beside the largest."""
    scales = [0.0 if pair is None else float(np.sqrt(np.square(pair[0]).mean())) for pair in pairs]
    least = _NEGLIGIBLE * max(scales, default=0.0)
    return [scale > least for scale in scales]


def worst_part(pairs: Sequence[Pair | None]) -> Part | None:
    """The slice of which the least is left; ``None``: none has enough elements."""
    known = [(place, pair) for place, pair in enumerate(pairs) if pair is not None]
    found = []
    for axis, size in {
        (axis, pair[0].shape[axis]) for _, pair in known for axis in _axes(pair[0].shape)
    }:
        alike = [
            (place, _rows(pair, axis))
            for place, pair in known
            if pair[0].ndim > axis and axis in _axes(pair[0].shape) and pair[0].shape[axis] == size
        ]
        part = _worst_of(alike, axis)
        found += [part] if part is not None else []
    return min(found, key=lambda part: (part.ratio, part.axis, part.index), default=None)


def _axes(shape: Sequence[int]) -> list[int]:
    """Axes along which slices have a meaning of their own: channels, columns, members of a batch.

    Of an image the last is a place, which may be black in all samples, unless it is the short one.
    """
    rank = len(shape)
    axes = {0, 1} if rank > 1 else set()
    if rank in (2, 3) or (rank > 3 and shape[-1] < shape[-2]):
        axes.add(rank - 1)
    return sorted(axis for axis in axes if shape[axis] > 1)


def _rows(pair: Pair, axis: int) -> tuple[Values, Values]:
    size = pair[0].shape[axis]
    want, got = (values.astype(np.float64, copy=False) for values in pair)
    return _flat(want, axis, size), _flat(got, axis, size)


def _flat(values: Values, axis: int, size: int) -> Values:
    return np.moveaxis(values, axis, 0).reshape(size, -1)


def _worst_of(samples: Sequence[tuple[int, tuple[Values, Values]]], axis: int) -> Part | None:
    """Of slices along one axis, each a row of values."""
    if sum(want.shape[1] for _, (want, _) in samples) < _FEWEST:
        return None
    want = np.concatenate([rows[0] for _, rows in samples], axis=1)
    got = np.concatenate([rows[1] for _, rows in samples], axis=1)
    scale, error = _scale(want), _scale(got - want)
    move = _scale(want - want.mean(axis=1, keepdims=True))
    noise = _scale(got - want - (got - want).mean(axis=1, keepdims=True))
    audible = scale > _NEGLIGIBLE * np.sqrt(np.square(want).mean())
    ratios = np.where(audible, _decibels(scale, error), MOST_DB)
    moving = audible & (move > _MOVES * scale)
    ratios = np.where(moving, np.minimum(ratios, _decibels(move, noise)), ratios)
    # Relative to its own scale, since float32 rounds what a constant was made of.
    still = audible & (move > _FROZEN * scale) & (got.max(axis=1) == got.min(axis=1))
    ratios = np.where(still, np.minimum(ratios, 0.0), ratios)
    index = int(np.argmin(ratios))
    return Part(
        ratio=float(ratios[index]),
        axis=axis,
        index=index,
        sample=_loudest_error(samples, index),
        frozen=bool(still[index]),
    )


def _loudest_error(samples: Sequence[tuple[int, tuple[Values, Values]]], index: int) -> int:
    """The sample whose error is the largest part of its own slice."""
    shares = {
        place: decibels(
            *(float(np.square(v).sum()) for v in (want[index], got[index] - want[index]))
        )
        for place, (want, got) in samples
    }
    return min(shares, key=shares.__getitem__)


def _scale(rows: Values) -> Values:
    found: Values = np.sqrt(np.square(rows).mean(axis=1))
    return found


def _decibels(signal: Values, noise: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Values = 20 * np.log10(signal / noise)
    # Without noise exact, however small.
    return np.where(noise > 0, np.clip(found, -MOST_DB, MOST_DB), MOST_DB)
