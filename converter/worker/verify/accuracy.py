"""What a quantised file loses: figures on its cases, and the thresholds that they have to reach.

No tolerance tells a right quantised file from a wrong one. What is asked of its values instead:

- Thresholds, where the weights are trained or the samples are the user's: the ratio of signal to
  quantisation noise and the cosine, of each sample, the share of rows with the same largest class,
  and of whole numbers and truths that are the same. The worst sample counts: what is one of many to
  us is all that a user gets. Further samples than the cases are drawn for it.
- Of each channel the same ratio over all samples, 10 dB less of it.
- Random weights that were fitted to their inputs are harder to quantise than any that were trained
  (efficientnet_b0: 12 dB), and a threshold would judge them, not the file. There the figures are
  shown.
- Of both, that the integer kernels compute what the file says: without optimisations ONNX Runtime
  computes it in floats, and may not be better than the kernels by more than 1 dB. Products that
  saturate are (28 dB in place of 39). And that half of the signal is left at least, of each
  sample and of each channel: below that a file may be that of another model, or a part is lost.
- And that no output is a multiple of the one that is wanted, which is no noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import AccuracyRecord
from converter.model.spec import AccuracySpec
from converter.worker.compare.figures import Figures, by_sample, factor, of_outputs
from converter.worker.inputs import dtypes
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array, varies
from converter.worker.onnxfile import multiplications, structure
from converter.worker.reference import training
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime import running
from converter.worker.verify import undecided as undecided_cases

_APART_DB = 1.0
# Half of the energy is noise. The worst sample that was seen of a right file is 7.4 dB (mnasnet0_5
# with random weights).
_LEAST_DB = 3.0
# A channel may lose so much more than the whole before that is below the threshold: the
# worst right file of the zoo loses 7 (srcnn), and `repeated`, whose channels differ by 34 dB, has
# 6 left of 40.
_OF_PARTS_DB = 10.0
# A simulation that is this good differs by what rounding does, and kernels may be far worse and
# good.
_GOOD_DB = 45.0
# Samples that are drawn to judge on, and so many multiplications as they may cost in all.
_FEWEST, _MOST, _AFFORDABLE = 4, 16, 2e10
# The numbers of their draws: beyond those that cases and calibration have.
_FRESH = 1 << 21
_HINT = (
    "calibrate on real samples (`data`), by another method, or keep operators in float32; "
    "or lower variant.{}.accuracy"
)
_MULTIPLIED = "the graph has an operator too many or one too few: compare it with the float32 file"
_SATURATED = (
    "integer products saturate on this processor: set reduce_range, or keep the operators in "
    "float32"
)


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
    applied, reason = _gate(references, job, real=real)
    # What is shown alone of random weights need not be known any better.
    if parent is not None and applied:
        items = [*items, *_further(parent, references, job)]
    feeds = [references.feeds(item) for item in items]
    wanted, dropout = [item.outputs for item in items], references.disabled_dropout
    names, found = _run(file, feeds, job, provider, dropout)
    listing = set(references.detections.values())
    figures = by_sample(names, wanted, found, listing)
    labels = [item.case.label for item in items]
    in_floats = _run(file, feeds, job, None, dropout, optimise=False)[1]
    simulated = by_sample(names, wanted, in_floats, listing)
    distance = None
    if parent is not None:
        against = of_outputs(names, _run(parent, feeds, job, None, dropout)[1], found)
        distance = None if against.sqnr_db is None else 10 ** (-against.sqnr_db / 20)
    record = _recorded(figures, labels, job).model_copy(
        update={
            "gate": "applied" if applied else "shown",
            "reason": reason,
            "simulation_db": _rounded(simulated.sqnr_db),
            "parent_rel_l2": distance,
        }
    )
    # Over all samples: a single one differs by chance.
    error = _apart(of_outputs(names, wanted, found), of_outputs(names, wanted, in_floats))
    error = error or (_below(figures, job, labels) if applied else None)
    error = error or _lost(figures, labels) or _part(figures, job, labels, applied=applied)
    return record, error or _multiplied(names, wanted, found)


def _recorded(figures: Figures, labels: Sequence[str], job: Job) -> AccuracyRecord:
    return AccuracyRecord(
        sqnr_db=_rounded(figures.sqnr_db),
        cosine=_rounded(figures.cosine, 6),
        top1_agreement=_rounded(figures.top1, 4),
        agreement=_rounded(figures.agreement, 4),
        samples=len(labels),
        output=figures.output,
        sample=labels[figures.sample] if labels else "",
        slice_db=None if figures.part is None else _rounded(figures.part.ratio),
        slice=_words(figures, labels),
        asked=job.accuracy or AccuracySpec(),
    )


def measured(references: References, undecided: Mapping[str, str]) -> tuple[bool, list[Reference]]:
    """The cases that figures are of: real samples, else all but patterns of values.

    Zeros and extremes are beyond what activations were calibrated on.
    """
    real = [item for item in references.cases if item.case.real is not None]
    if real:
        return True, real
    items = [item for item in references.cases if not item.case.filled]
    return False, [item for item in items if item.case.label not in undecided]


def _further(parent: Path, references: References, job: Job) -> list[Reference]:
    """Samples that are drawn as the example is, with what the float32 file gives for them.

    Two samples say little of a file whose noise depends on them, and others were calibrated on.
    The float32 file is right, so that PyTorch need not run again. None where samples are real.
    """
    if references.further is None:
        drawn = [*_drawn(references, parent, job)]
        feeds = [references.feeds(item) for item in drawn]
        outputs = _run(parent, feeds, job, None, references.disabled_dropout)[1] if feeds else []
        references.further = [
            replace(item, outputs=each) for item, each in zip(drawn, outputs, strict=True)
        ]
    return references.further


def _drawn(references: References, parent: Path, job: Job) -> Iterator[Reference]:
    if job.data is not None or not any(map(varies, job.inputs.values())):
        return
    first = references.cases[0].inputs
    shapes = {name: array.shape for name, array in first.items()}
    cost = multiplications.total(structure.read(parent), shapes)
    # By what a run costs and not by a clock: each night judges the same samples.
    count = min(_MOST, max(_FEWEST, int(_AFFORDABLE / cost))) if cost else _MOST
    for number in range(count):
        case = Case(f"drawn {number + 1}", job.inputs, _FRESH + number)
        yield Reference(case, case.draw(job.seed), [])


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


def _lost(figures: Figures, labels: Sequence[str]) -> StageError | None:
    """Whether so little of the signal is left that the file may be of another model."""
    if figures.sqnr_db is None or figures.sqnr_db >= _LEAST_DB:
        return None
    return StageError(
        Code.ACCURACY,
        f"only {figures.sqnr_db:.1f} dB of signal to quantisation noise are left of output "
        f"{figures.output} in sample {labels[figures.sample]}: no weights are quantised as badly "
        "as that",
        "the graph may be another one; see which operator does it: keep each in float32 "
        "(op_block_list), or leave this variant out",
    )


def _part(figures: Figures, job: Job, labels: Sequence[str], *, applied: bool) -> StageError | None:
    """Whether a slice is lost, or below what is asked of slices."""
    asked = (job.accuracy or AccuracySpec()).sqnr_db - _OF_PARTS_DB if applied else _LEAST_DB
    least = max(_LEAST_DB, asked)
    if figures.part is None or figures.part.ratio >= least:
        return None
    return StageError(
        Code.ACCURACY,
        f"{_words(figures, labels)}: {least:.3g} dB of each slice are requested",
        "numbers of another scale share a range with it: keep the operator in float32 that joins "
        "or gives them (op_block_list: [Concat], or the last nodes in node_block_list)",
    )


def _words(figures: Figures, labels: Sequence[str]) -> str:
    """The worst slice; empty: none has enough elements."""
    part = figures.part
    if part is None:
        return ""
    where = f"slice {part.index} of axis {part.axis} of output {figures.part_of}"
    sample = f"worst in sample {labels[part.sample]}"
    if part.frozen:
        return f"{where} is constant in the file and moves in PyTorch ({sample})"
    return f"{where} keeps {part.ratio:.1f} dB of signal to quantisation noise ({sample})"


def _below(figures: Figures, job: Job, labels: Sequence[str]) -> StageError | None:
    asked = job.accuracy or AccuracySpec()
    missed = [
        f"{what} is {found:.{digits}g}, {least:.{digits}g} requested"
        for what, found, least, digits in (
            ("signal to quantisation noise (dB)", figures.sqnr_db, asked.sqnr_db, 3),
            ("cosine", figures.cosine, asked.cosine, 5),
            ("agreement of the largest class", figures.top1, asked.top1_agreement, 3),
        )
        if found is not None and least is not None and found < least
    ]
    if figures.agreement is not None and figures.agreement < asked.agreement:
        return StageError(
            Code.ACCURACY,
            f"{figures.agreement:.0%} of output {figures.agreement_of} is what PyTorch gives, "
            f"{asked.agreement:.0%} requested (over {len(labels)} samples)",
            _HINT.format(job.artifact),
        )
    if not missed:
        return None
    return StageError(
        Code.ACCURACY,
        f"{'; '.join(missed)} (output {figures.output}, sample {labels[figures.sample]}, the worst "
        f"of {len(labels)})",
        _HINT.format(job.artifact),
    )


def beyond(
    file: Path,
    references: References,
    job: Job,
    decided: Mapping[str, str] | Mapping[str, bool],
    undecided: Mapping[str, str],
    record: AccuracyRecord,
    provider: str | None = None,
) -> dict[str, str]:
    """Cases besides those that are measured at which the file keeps less, and why they are left.

    Patterns of larger values are cut off at the ends of the ranges, in a right file too. Where as
    much is left as is asked, or as in the worst measured sample, they count.

    Args:
        decided: labels of the cases that would.
        record: of the measured cases.
    """
    _, items = measured(references, undecided)
    within = {item.case.label for item in items}
    rest = [
        item
        for item in references.cases
        if item.case.label in decided and item.case.label not in within
    ]
    if not rest or not any(dtypes.is_float(output) for output in rest[0].outputs):
        return {}
    feeds = [references.feeds(item) for item in rest]
    names, found = _run(file, feeds, job, provider, references.disabled_dropout)
    least = record.asked.sqnr_db
    if record.gate == "shown" and record.sqnr_db is not None:
        least = min(least, record.sqnr_db)
    left = {}
    for item, outputs in zip(rest, found, strict=True):
        ratio = of_outputs(names, [item.outputs], [outputs]).sqnr_db
        if ratio is None or ratio < least:
            said = "no signal is" if ratio is None else f"{ratio:.1f} dB are"
            left[item.case.label] = f"{_why_less(item, references)}: {said} left"
    return left


def _why_less(item: Reference, references: References) -> str:
    if undecided_cases.is_larger(item, references):
        return "beyond the range that it was calibrated on"
    return "the signal is small beside the steps of 8 bits"


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
