"""Compare all outputs of one case: detections paired first, everything else as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converter.model.errors import Code
from converter.model.spec import VerifySpec
from converter.worker.compare import detections, numerics
from converter.worker.compare.detections import Places
from converter.worker.compare.numerics import Comparison, Noise
from converter.worker.inputs.inputs import Array


def compare(
    names: Sequence[str],
    expected: Sequence[Array],
    actual: Sequence[Array],
    spec: VerifySpec,
    noise: Noise,
    members: Places,
    *,
    narrowed: bool = False,
) -> list[Comparison]:
    """One comparison for each output, in order.

    Args:
        expected: what PyTorch gives, ``actual`` what the file gives; of the same number.
        noise: the model's own rounding errors, of which tolerances are derived.
        members: the outputs that list detections.
        narrowed: outputs of the file may have 16 bits where PyTorch gives float32.
    """
    # Before they are paired: lists of different dtypes are not comparable.
    if narrowed and members:
        expected = [numerics.narrow(*pair) for pair in zip(expected, actual, strict=True)]
    problem: str | None = None
    unpaired: int | None = None
    # A list without the order of scores is not what suppression gives: it is compared as it stands.
    if not detections.ranked(members, expected):
        members = {}
    # Else dtypes or forms differ, which the plain comparison below says in its own words.
    if members and detections.comparable(members, expected, actual):
        paired = detections.align(members, expected, actual, spec, noise)
        expected, actual = paired.expected, paired.actual
        problem, unpaired = paired.problem, paired.unpaired
    compared = _each(names, expected, actual, spec, noise, members, narrowed=narrowed)
    for index in members.values():
        item = compared[index]
        # Off at single pixels only, within the rule for masks as a whole.
        if problem is None and _by_share(item, expected[index], spec, noise, index):
            item = Comparison(item.check.model_copy(update={"passed": True}))
        compared[index] = replace(item, check=item.check.model_copy(update={"unpaired": unpaired}))
    if problem is not None:
        # Told once, at the first of the outputs that belong together.
        place = min(members.values())
        check = compared[place].check.model_copy(update={"passed": False})
        compared[place] = Comparison(check, Code.VERIFY_VALUE, problem)
    return compared


def _each(
    names: Sequence[str],
    expected: Sequence[Array],
    actual: Sequence[Array],
    spec: VerifySpec,
    noise: Noise,
    members: Places,
    *,
    narrowed: bool,
) -> list[Comparison]:
    return [
        numerics.compare(
            name,
            want,
            got,
            rtol=spec.rtol,
            atol=spec.atol,
            floor=floor,
            # Their parts were measured row by row, and rounding may have swapped rows.
            noise=None if index in members.values() else noise.of_parts(index),
            limits=noise.bounds,
            narrowed=narrowed,
        )
        for index, (name, want, got, floor) in enumerate(
            zip(names, expected, actual, noise.floors, strict=True)
        )
    ]


def _by_share(item: Comparison, want: Array, spec: VerifySpec, noise: Noise, index: int) -> bool:
    """Whether masks that are off at single pixels are within the tolerance as a whole.

    Each by itself is: ``detections`` paired them so.
    """
    if spec.rtol is not None or spec.atol is not None or not detections.image(want):
        return False
    allowed = numerics.tolerance(noise.floors[index], noise.bounds.of(want))
    return item.check.rel_l2 is not None and item.check.rel_l2 <= allowed
