"""Detections are lists in the order of their scores: pair them before they are compared.

Rounding swaps neighbours whose scores are nearly equal, and now and then lets non-maximum
suppression keep the other one of two boxes that overlap. An element-wise comparison calls that
wrong, and says nothing about the rest. Here each detection of PyTorch is paired with the nearest
one of the same label in the file, and counts as found when all that belongs to it (box, score,
mask, keypoints) is within the tolerance. One that is not found, of either side, is excused only
where PyTorch itself has it in some of its lists and not in others, when its operators round
otherwise (``Noise.edge``). A pair is excused as well where each part that is off is one that
PyTorch gives to that very detection then: a mask is pasted a pixel further, whatever its score is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.model.spec import VerifySpec
from converter.worker.compare import numerics
from converter.worker.compare.numerics import Edge, Noise
from converter.worker.inputs.inputs import Array

Places = Mapping[str, int]
Rows = NDArray[np.intp]
Bounds = Mapping[int, tuple[float, float]]
"""Place of an output → the absolute and the relative error that an element may show."""

_MEMBERS = ("boxes", "labels", "scores", "masks", "keypoints", "keypoints_scores")
# Of which a detection has several, each found by itself: the highest of a map of scores.
_SINGLE = {"keypoints", "keypoints_scores"}
# Runs that may be made to find an excuse, and where few detections are left; each takes as long as
# running the model twice.
RUNS, _MORE_RUNS, _FEW = 6, 12, 0.05
# So many elements of one detection are an image.
_IMAGE = 1024
# A score of one is worth a box of this share of the boxes' scale.
_SCORE_WEIGHT = 1.0


@dataclass(frozen=True)
class Aligned:
    """Outputs whose detections stand in the same rows; ``problem``: why the lists differ."""

    expected: list[Array]
    actual: list[Array]
    unpaired: int
    problem: str | None


def places(names: Sequence[str], outputs: Sequence[Array]) -> dict[str, int]:
    """Which outputs list detections: member → its place; empty where none do.

    They are told by the names that torchvision gives them and by their shapes: ``boxes`` [N, 4],
    ``scores`` [N], and others whose first axis is N.
    """
    found = {name: index for index, name in enumerate(names) if name in _MEMBERS}
    if not {"boxes", "scores"} <= found.keys():
        return {}
    boxes, scores = outputs[found["boxes"]], outputs[found["scores"]]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        return {}
    return {
        name: index for name, index in found.items() if outputs[index].shape[:1] == scores.shape
    }


def ranked(members: Places, outputs: Sequence[Array]) -> bool:
    """Whether they stand in the order of their scores, as non-maximum suppression leaves them.

    Any other list (one box for each anchor or cell) is compared as it stands.
    """
    return bool(members) and _falling(outputs[members["scores"]])


def _falling(scores: Array) -> bool:
    return bool((np.diff(scores) <= 0).all())


def comparable(members: Places, expected: Sequence[Array], actual: Sequence[Array]) -> bool:
    """Whether both sides list detections of one form; else a plain comparison says what differs."""
    # A scalar has no length. It is told as another shape by the plain comparison.
    count = len(actual[members["scores"]]) if actual[members["scores"]].ndim else 0
    return min(count, len(expected[members["scores"]])) > 0 and all(
        actual[index].dtype == expected[index].dtype
        and actual[index].shape == (count, *expected[index].shape[1:])
        and bool(np.isfinite(actual[index]).all())
        for index in members.values()
    )


def pair(members: Places, expected: Sequence[Array], actual: Sequence[Array]) -> tuple[Rows, Rows]:
    """Rows of both sides that belong together: the nearest first, each once, labels equal."""
    places = members["boxes"], members["scores"]
    boxes, scores = (expected[place].astype(np.float64) for place in places)
    other_boxes, other_scores = (actual[place].astype(np.float64) for place in places)
    # Boxes that are all zero have no scale to divide by.
    scale = max(float(np.sqrt(np.mean(np.square(boxes)))), 1e-12)
    # [rows of PyTorch, rows of the file]: the largest difference of a coordinate, as a share of the
    # scale.
    distance = np.abs(boxes[:, None] - other_boxes[None]).max(axis=-1) / scale
    # The score decides between boxes that lie on top of each other.
    distance += _SCORE_WEIGHT * np.abs(scores[:, None] - other_scores[None])
    if "labels" in members:
        labels = members["labels"]
        distance = np.where(expected[labels][:, None] == actual[labels][None], distance, np.inf)
    left: list[int] = []
    right: list[int] = []
    free_left, free_right = np.ones(distance.shape[0], bool), np.ones(distance.shape[1], bool)
    # Stable, so that equal distances are paired alike in every run.
    for flat in np.argsort(distance, axis=None, kind="stable"):
        row, column = divmod(int(flat), distance.shape[1])
        # The distances are sorted, so that only pairs of other labels follow.
        if not np.isfinite(distance[row, column]):
            break
        if free_left[row] and free_right[column]:
            free_left[row] = free_right[column] = False
            left.append(row)
            right.append(column)
    # Back in PyTorch's order, in which both sides are compared afterwards.
    order = np.argsort(left, kind="stable")
    return np.asarray(left, np.intp)[order], np.asarray(right, np.intp)[order]


def bounds(
    members: Places,
    expected: Sequence[Array],
    floors: Sequence[float | None],
    rtol: float | None = None,
    atol: float | None = None,
    *,
    limits: numerics.Bounds = numerics.BOUNDS["float32"],
) -> Bounds:
    return {
        place: numerics.bounds(expected[place], rtol, atol, floors[place], limits)
        for place in members.values()
    }


def found(
    members: Places,
    expected: Sequence[Array],
    actual: Sequence[Array],
    rows: tuple[Rows, Rows],
    allowed: Bounds,
) -> NDArray[np.bool_]:
    """For each pair whether all that belongs to the detection is within the tolerance."""
    left, right = rows
    good = np.ones(len(left), bool)
    for place in members.values():
        good &= _within(expected[place][left], actual[place][right], allowed[place])
    return good


def _within(want: Array, got: Array, allowed: tuple[float, float]) -> NDArray[np.bool_]:
    """For each row."""
    absolute, relative = allowed
    exact = want.astype(np.float64)
    error = np.abs(got.astype(np.float64) - exact)
    axes = tuple(range(1, error.ndim))
    close = np.asarray((error <= absolute + relative * np.abs(exact)).all(axis=axes))
    if not image(exact):
        return close
    # Where a mask falls off within a pixel, a box that is off by its rounding moves that pixel by
    # more than the rounding of all; the share of the mask tells.
    share = np.sqrt(np.square(error).sum(axis=axes))
    norm = np.sqrt(np.square(exact).sum(axis=axes))
    return np.asarray(close | (share <= relative * norm))


def image(rows: Array) -> bool:
    """Whether each detection has an image of its own, a mask."""
    return rows[:1].size >= _IMAGE


def errors(want: Array, got: Array) -> NDArray[np.float64]:
    """Root mean square error of each detection."""
    difference = np.square(want.astype(np.float64) - got.astype(np.float64))
    mean: NDArray[np.float64] = difference.reshape(len(want), -1).mean(axis=1)
    return np.sqrt(mean)


def align(
    members: Places,
    expected: Sequence[Array],
    actual: Sequence[Array],
    spec: VerifySpec,
    noise: Noise,
) -> Aligned:
    """Bring the detections of both sides into the same rows.

    Where all the others are excused, only those that were found are left; else all pairs, so that
    a comparison shows how far they are off.
    """
    left, right = pair(members, expected, actual)
    allowed = bounds(members, expected, noise.floors, spec.rtol, spec.atol, limits=noise.bounds)
    good = found(members, expected, actual, (left, right), allowed)
    ours, theirs = expected[members["scores"]], actual[members["scores"]]
    # Counted before any excuse: the manifest says how many differ at all.
    unpaired = max(len(ours), len(theirs)) - int(good.sum())
    missing = unpaired
    few = _FEW * max(len(ours), len(theirs))
    for runs in range(1, _MORE_RUNS + 1):
        if not missing or (runs > RUNS and missing > few):
            break
        edge = noise.edge(runs)
        same = good | _seen(members, expected, actual, (left, right), edge, allowed)
        # Missing on one side is often surplus on the other: the larger number counts both once.
        missing = max(
            _not_on_the_edge(members, expected, left[same], edge, allowed),
            _not_on_the_edge(members, actual, right[same], edge, allowed),
        )
    problem = None
    if missing:
        problem = (
            f"{missing} of {max(len(ours), len(theirs))} detections have no counterpart of the "
            "same label within the tolerance, and rounding does not lose them in PyTorch"
        )
    # The rows were brought together above, so that a comparison would not see their order.
    elif not _falling(theirs):
        problem = "the detections are not in the order of their scores, PyTorch's are"
    if not missing:
        left, right = left[good], right[good]
    if not len(left):  # nothing to line up: compared as they stand
        return Aligned(list(expected), list(actual), unpaired, problem)
    rows = set(members.values())
    return Aligned(
        [side[left] if place in rows else side for place, side in enumerate(expected)],
        [side[right] if place in rows else side for place, side in enumerate(actual)],
        unpaired,
        problem,
    )


def _seen(
    members: Places,
    expected: Sequence[Array],
    actual: Sequence[Array],
    rows: tuple[Rows, Rows],
    edge: Edge,
    allowed: Bounds,
) -> NDArray[np.bool_]:
    """For each pair whether rounding gives each part of the file's to that detection."""
    seen = np.zeros(len(rows[0]), bool)
    for index, (left, right) in enumerate(zip(*rows, strict=True)):
        # Each part may come of another run: rounding moves a mask and a box independently.
        own = edge.of == left
        # PyTorch's own list is one of the runs; without another there is nothing to explain.
        seen[index] = own.any() and all(
            _each_within(
                np.concatenate([expected[place][left : left + 1], edge.rows[place][own]]),
                actual[place][right : right + 1],
                allowed[place],
                member in _SINGLE,
            )
            for member, place in members.items()
        )
    return seen


def _each_within(
    offered: Array, got: Array, allowed: tuple[float, float], singly: bool
) -> np.bool_:
    """Whether one of the offered is what was got; singly: for each item along axis 1 another."""
    if not singly:
        return _within(offered, got, allowed).any()
    # Each keypoint is the highest place of a map of its own, and jumps by itself.
    items = [_within(offered[:, k], got[:, k], allowed).any() for k in range(got.shape[1])]
    return np.all(items)


def _not_on_the_edge(
    members: Places,
    side: Sequence[Array],
    counterparts: Rows,
    edge: Edge,
    allowed: Bounds,
) -> int:
    """How many detections of one side have neither a counterpart nor an excuse."""
    alone = np.setdiff1d(np.arange(len(side[members["scores"]])), counterparts)
    return sum(not _among(members, side, row, edge, allowed) for row in alone)


def _among(members: Places, side: Sequence[Array], row: int, edge: Edge, allowed: Bounds) -> bool:
    """Whether one detection is in a list, within the tolerance."""
    left = np.arange(len(edge.of))
    # Of one and the same run: the box of one detection with the score of another is none.
    for place in members.values():
        if len(left):
            left = left[_within(side[place][row : row + 1], edge.rows[place][left], allowed[place])]
    return bool(len(left))
