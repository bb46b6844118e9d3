"""What a quantised file loses: figures on its cases, and the thresholds that they have to reach.

No tolerance tells a right quantised file from a wrong one. What is asked of its values instead:

- Thresholds, where the weights are trained or the samples are the user's: the ratio of signal to
  quantisation noise, the cosine, and the share of samples with the same largest class.
- Random weights that were fitted to their inputs are harder to quantise than any that were trained
  (efficientnet_b0: 12 dB), and a threshold would judge them, not the file. There the figures are
  shown.
- Of both, that the integer kernels compute what the file says: without optimisations ONNX Runtime
  computes it in floats, and may not be better than the kernels by more than 1 dB. Products that
  saturate are (28 dB in place of 39). And that half of the signal is left at least: below that a
  file may be that of another model.
- And that no output is a multiple of the one that is wanted, which is no noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.model.errors import Code, StageError
from converter.model.job import AccuracyRecord, Job
from converter.model.spec import AccuracySpec
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.reference import training
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime import running

# Of a file that is exact; a ratio without noise has no number.
_MOST_DB = 200.0
_APART_DB = 1.0
# Half of the energy is noise. The worst that was seen of right files is 10.5 dB (efficientnet_b0
# with random weights, swin_t in four bits).
_LEAST_DB = 3.0
# An output that is a multiple of what is wanted: by so much, and so much nearer without the factor.
# Of fewer elements the noise may lie along them by chance.
_FACTOR, _NEARER_DB, _LEAST_ELEMENTS = 0.05, 6.0, 16
# A simulation that is this good differs by what rounding does, and kernels may be far worse and
# good.
_GOOD_DB = 45.0
_HINT = (
    "calibrate on real samples (`data`), by another method, or keep operators in float32; "
    "or lower variant.{}.accuracy"
)
_MULTIPLIED = "the graph has an operator too many or one too few: compare it with the float32 file"
_SATURATED = (
    "integer products saturate on this processor: set reduce_range, or keep the operators in "
    "float32"
)


@dataclass(frozen=True)
class Figures:
    """How near outputs are to those that are wanted; of the worst output each.

    Attributes:
        sqnr_db: 10 log10 of the energy of what is wanted over that of the difference.
        top1: the share of rows of class scores whose largest is the same one.
        output: the one with the least ``sqnr_db``.
    """

    sqnr_db: float | None = None
    cosine: float | None = None
    top1: float | None = None
    output: str = ""


def of_outputs(
    names: Sequence[str],
    wanted: Sequence[Sequence[Array]],
    found: Sequence[Sequence[Array]],
) -> Figures:
    """The figures over all cases; an output is one signal over them.

    What is no float, and what a case has in another shape, is left out.
    """
    figures = [
        _of_output(name, [case[place] for case in wanted], [case[place] for case in found])
        for place, name in enumerate(names)
    ]
    known = [item for item in figures if item.sqnr_db is not None]
    if not known:
        return Figures()
    worst = min(known, key=lambda item: item.sqnr_db or 0.0)
    cosines = [item.cosine for item in known if item.cosine is not None]
    tops = [item.top1 for item in known if item.top1 is not None]
    return Figures(
        sqnr_db=worst.sqnr_db,
        cosine=min(cosines, default=None),
        top1=min(tops, default=None),
        output=worst.output,
    )


def _of_output(name: str, wanted: Sequence[Array], found: Sequence[Array]) -> Figures:
    signal = noise = got_energy = product = 0.0
    rows = agreed = 0
    for want, got in zip(wanted, found, strict=True):
        if not dtypes.is_float(want) or want.shape != got.shape or not want.size:
            continue
        exact, given = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
        signal += float(exact @ exact)
        got_energy += float(given @ given)
        product += float(exact @ given)
        noise += float(np.square(given - exact).sum())
        if want.ndim == 2 and want.shape[1] > 1:
            rows += want.shape[0]
            agreed += int((want.argmax(axis=1) == got.argmax(axis=1)).sum())
    if not signal or not math.isfinite(noise):
        return Figures()
    return Figures(
        sqnr_db=min(_MOST_DB, 10 * math.log10(signal / noise)) if noise else _MOST_DB,
        cosine=product / math.sqrt(signal * got_energy) if got_energy else 0.0,
        top1=agreed / rows if rows else None,
        output=name,
    )


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


def judge(
    file: Path,
    parent: Path | None,
    references: References,
    job: Job,
    undecided: Mapping[str, str],
    provider: str | None = None,
) -> tuple[AccuracyRecord, StageError | None]:
    """The figures of a file, and what is wrong with them.

    Args:
        parent: what it was made from, where that is at hand.
        undecided: labels of cases that say nothing.
        provider: to run it on; its simulation is that of ONNX Runtime.
    """
    real, items = measured(references, undecided)
    feeds = [references.feeds(item) for item in items]
    wanted, dropout = [item.outputs for item in items], references.disabled_dropout
    names, found = _run(file, feeds, job, provider, dropout)
    figures = of_outputs(names, wanted, found)
    simulated = of_outputs(names, wanted, _run(file, feeds, job, None, dropout, optimise=False)[1])
    distance = None
    if parent is not None:
        against = of_outputs(names, _run(parent, feeds, job, None, dropout)[1], found)
        distance = None if against.sqnr_db is None else 10 ** (-against.sqnr_db / 20)
    applied, reason = _gate(references, job, real=real)
    record = AccuracyRecord(
        sqnr_db=_rounded(figures.sqnr_db),
        cosine=_rounded(figures.cosine, 6),
        top1_agreement=_rounded(figures.top1, 4),
        samples=len(items),
        output=figures.output,
        asked=job.accuracy or AccuracySpec(),
        gate="applied" if applied else "shown",
        reason=reason,
        simulation_db=_rounded(simulated.sqnr_db),
        parent_rel_l2=distance,
    )
    error = _apart(figures, simulated)
    if error is None:
        error = _below(figures, job, len(items)) if applied else _lost(figures)
    return record, error or _multiplied(names, wanted, found)


def measured(references: References, undecided: Mapping[str, str]) -> tuple[bool, list[Reference]]:
    """The cases that figures are of: real samples, else all but patterns of values.

    Zeros and extremes are beyond what activations were calibrated on.
    """
    real = [item for item in references.cases if item.case.real is not None]
    if real:
        return True, real
    items = [item for item in references.cases if not item.case.filled]
    return False, [item for item in items if item.case.label not in undecided]


def _gate(references: References, job: Job, *, real: bool) -> tuple[bool, str | None]:
    if job.metric is not None and real:
        return False, "the metric decides"
    if references.conditioned and not real:
        return False, "random weights: figures on them say nothing of trained ones"
    return True, None


def _run(
    file: Path,
    feeds: Sequence[Mapping[str, Array]],
    job: Job,
    provider: str | None,
    dropout: Mapping[str, float],
    *,
    optimise: bool = True,
) -> tuple[list[str], list[list[Array]]]:
    with training.comparable(file, dropout) as runnable:
        session = running.opened(
            runnable,
            lambda: structure.interface(structure.read(file)),
            provider=provider,
            optimise=optimise,
            threads=job.threads,
            provider_options=job.provider_options,
        )
    return session.outputs, [session.run(feed) for feed in feeds]


def _apart(figures: Figures, simulated: Figures) -> StageError | None:
    if figures.sqnr_db is None or simulated.sqnr_db is None:
        return None
    if figures.sqnr_db >= min(simulated.sqnr_db - _APART_DB, _GOOD_DB):
        return None
    return StageError(
        Code.ACCURACY,
        f"the kernels give {figures.sqnr_db:.1f} dB of signal to quantisation noise where the file "
        f"computed in floats gives {simulated.sqnr_db:.1f} dB (output {figures.output})",
        _SATURATED,
    )


def _multiplied(
    names: Sequence[str], wanted: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]
) -> StageError | None:
    for place, name in enumerate(names):
        number = factor([case[place] for case in wanted], [case[place] for case in found])
        if number is not None:
            message = f"output {name} is {number:.3g} times PyTorch's"
            return StageError(Code.VERIFY_VALUE, message, _MULTIPLIED)
    return None


def _lost(figures: Figures) -> StageError | None:
    """Whether so little of the signal is left that the file may be of another model."""
    if figures.sqnr_db is None or figures.sqnr_db >= _LEAST_DB:
        return None
    return StageError(
        Code.ACCURACY,
        f"only {figures.sqnr_db:.1f} dB of signal to quantisation noise are left of output "
        f"{figures.output}: no weights are quantised as badly as that",
        "the graph may be another one; see which operator does it: keep each in float32 "
        "(op_block_list), or leave this variant out",
    )


def _below(figures: Figures, job: Job, samples: int) -> StageError | None:
    asked = job.accuracy or AccuracySpec()
    if figures.sqnr_db is None:
        return None
    missed = [
        f"{what} is {found:.{digits}g}, {least:.{digits}g} requested"
        for what, found, least, digits in (
            ("signal to quantisation noise (dB)", figures.sqnr_db, asked.sqnr_db, 3),
            ("cosine", figures.cosine, asked.cosine, 5),
            ("agreement of the largest class", figures.top1, asked.top1_agreement, 3),
        )
        if found is not None and least is not None and found < least
    ]
    if not missed:
        return None
    return StageError(
        Code.ACCURACY,
        f"{'; '.join(missed)} (output {figures.output}, {samples} samples)",
        _HINT.format(job.artifact),
    )


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
