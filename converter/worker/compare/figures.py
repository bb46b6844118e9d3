"""How near outputs of a file with noise are to those that are wanted, over samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from converter.worker.compare import signal
from converter.worker.compare.signal import Part
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array

# An output that is a multiple of what is wanted: by so much, and so much nearer without the factor.
# Of fewer elements the noise may lie along them by chance.
_FACTOR, _NEARER_DB, _LEAST_ELEMENTS = 0.05, 6.0, 16


@dataclass(frozen=True)
class Figures:
    """How near outputs are to those that are wanted; of the worst output each.

    Attributes:
        sqnr_db: 10 log10 of the energy of what is wanted over that of the difference.
        top1: the share of rows of class scores whose largest is the same one.
        agreement: the share of whole numbers and truths that are the same ones, of the output
            ``agreement_of``.
        output: the one with the least ``sqnr_db``.
        sample: where it has that in the sequence of samples.
        part: the slice of an output of which the least is left; ``part_of`` is that output.
    """

    sqnr_db: float | None = None
    cosine: float | None = None
    top1: float | None = None
    agreement: float | None = None
    agreement_of: str = ""
    output: str = ""
    sample: int = 0
    part: Part | None = None
    part_of: str = ""


def of_outputs(
    names: Sequence[str],
    wanted: Sequence[Sequence[Array]],
    found: Sequence[Sequence[Array]],
    listing: Collection[int] = (),
) -> Figures:
    """The figures over all cases; an output is one signal over them.

    What a case has in another shape is left out.

    Args:
        listing: places of outputs that list detections, whose order and number noise changes.
    """
    figures = [
        _of_output(name, [case[place] for case in wanted], [case[place] for case in found])
        for place, name in enumerate(names)
    ]
    agreed = min(
        (
            item
            for place, item in enumerate(figures)
            if item.agreement is not None and place not in listing
        ),
        key=lambda item: item.agreement or 0.0,
        default=Figures(),
    )
    whole = Figures(agreement=agreed.agreement, agreement_of=agreed.agreement_of)
    known = [item for item in figures if item.sqnr_db is not None]
    if not known:
        return whole
    worst = min(known, key=lambda item: item.sqnr_db or 0.0)
    cosines = [item.cosine for item in known if item.cosine is not None]
    tops = [item.top1 for item in known if item.top1 is not None]
    return replace(
        whole,
        sqnr_db=worst.sqnr_db,
        cosine=min(cosines, default=None),
        top1=min(tops, default=None),
        output=worst.output,
    )


def _of_output(name: str, wanted: Sequence[Array], found: Sequence[Array]) -> Figures:
    energy = noise = got_energy = product = 0.0
    rows = agreed = 0
    if wanted and not dtypes.is_float(wanted[0]):
        return _of_whole_numbers(name, wanted, found)
    for want, got in zip(wanted, found, strict=True):
        if not dtypes.is_float(want) or want.shape != got.shape or not want.size:
            continue
        exact, given = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        energy += float(exact @ exact)
        got_energy += float(given @ given)
        product += float(exact @ given)
        noise += float(np.square(given - exact).sum())
        if want.ndim == 2 and want.shape[1] > 1:
            rows += want.shape[0]
            agreed += int((want.argmax(axis=1) == got.argmax(axis=1)).sum())
    if not energy or not math.isfinite(noise):
        return Figures()
    return Figures(
        sqnr_db=signal.decibels(energy, noise),
        cosine=product / math.sqrt(energy * got_energy) if got_energy else 0.0,
        top1=agreed / rows if rows else None,
        output=name,
    )


def _of_whole_numbers(name: str, wanted: Sequence[Array], found: Sequence[Array]) -> Figures:
    alike = [
        (want == got).ravel()
        for want, got in zip(wanted, found, strict=True)
        if want.shape == got.shape and want.size
    ]
    if not alike:
        return Figures()
    return Figures(agreement=float(np.concatenate(alike).mean()), agreement_of=name)


def factor(wanted: Sequence[Array], found: Sequence[Array]) -> float | None:
    """The number other than 1 that an output is multiplied by, over all cases.

    No quantisation does that: its noise is in every direction. ``None``: there is none.
    """
    pairs = [
        (want.astype(np.float64).ravel(), got.astype(np.float64).ravel())
        for want, got in zip(wanted, found, strict=True)
        if dtypes.is_float(want) and want.shape == got.shape
    ]
    if sum(want.size for want, _ in pairs) < _LEAST_ELEMENTS:
        return None
    want, got = (np.concatenate(part) for part in zip(*pairs, strict=True))
    number = _slope(want, got)
    # What hardly varies may be quantised to one number, which is a multiple and no error of the
    # graph. Without their means both have to be that multiple, too.
    apart = _slope(want - want.mean(), got - got.mean())
    if number is None or apart is None or abs(number - apart) > _FACTOR / 2:
        return None
    return number


def _slope(want: NDArray[np.float64], got: NDArray[np.float64]) -> float | None:
    """By least squares; ``None``: it is about 1, or numbers are not that multiple."""
    energy = float(want @ want)
    if not energy or not np.isfinite(got).all():
        return None
    number = float(want @ got) / energy
    if number <= 0 or abs(number - 1) <= _FACTOR:
        return None
    noise = float(np.square(got - want).sum())
    without = float(np.square(got / number - want).sum())
    return number if without * 10 ** (_NEARER_DB / 10) <= noise else None


def by_sample(
    names: Sequence[str],
    wanted: Sequence[Sequence[Array]],
    found: Sequence[Sequence[Array]],
    listing: Collection[int] = (),
) -> Figures:
    """The figures of the worst sample, and the worst part; of all the rows with the same class.

    And of all the whole numbers that are the same.
    """
    whole = of_outputs(names, wanted, found, listing)
    audible = [
        signal.audible(signal.comparable([w[place] for w in wanted], [f[place] for f in found]))
        for place in range(len(names))
    ]
    each = []
    for sample, (want, got) in enumerate(zip(wanted, found, strict=True)):
        # An output that is silent in this sample says nothing in it.
        heard = [place for place in range(len(names)) if audible[place][sample]]
        figures = of_outputs(
            [names[place] for place in heard],
            [[want[place] for place in heard]],
            [[got[place] for place in heard]],
        )
        each.append(replace(figures, sample=sample))
    known = [item for item in each if item.sqnr_db is not None]
    if not known:
        return whole
    worst = min(known, key=lambda item: item.sqnr_db or 0.0)
    cosines = [item.cosine for item in known if item.cosine is not None]
    part, part_of = _worst_part(names, wanted, found)
    return replace(
        worst,
        cosine=min(cosines, default=None),
        top1=whole.top1,
        agreement=whole.agreement,
        agreement_of=whole.agreement_of,
        part=part,
        part_of=part_of,
    )


def _worst_part(
    names: Sequence[str],
    wanted: Sequence[Sequence[Array]],
    found: Sequence[Sequence[Array]],
) -> tuple[Part | None, str]:
    parts = [
        (
            signal.worst_part(signal.comparable([w[at] for w in wanted], [f[at] for f in found])),
            name,
        )
        for at, name in enumerate(names)
    ]
    known = [(part, name) for part, name in parts if part is not None]
    return min(known, key=lambda item: item[0].ratio, default=(None, ""))
