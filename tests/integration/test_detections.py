"""Detections are paired: what rounding reorders passes, what is wrong does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converter.model.errors import Code
from converter.model.spec import VerifySpec
from converter.worker.compare import detections, outputs
from converter.worker.compare.numerics import Comparison, Edge, Noise
from converter.worker.inputs.inputs import Array

pytestmark = pytest.mark.integration
NAMES = ["boxes", "labels", "scores", "masks"]
COUNT = 100


def listed(seed: int = 0) -> list[Array]:
    """Detections as torchvision gives them: by falling score."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (COUNT, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 100, (COUNT, 2))], axis=1)
    scores = np.sort(rng.uniform(0.05, 1, COUNT))[::-1]
    masks = rng.uniform(0, 1, (COUNT, 1, 8, 8))
    labels = rng.integers(1, 5, COUNT)
    return [boxes.astype("f4"), labels, scores.astype("f4"), masks.astype("f4")]


def compare(want: list[Array], got: list[Array], **options: Any) -> list[Comparison]:
    noise = options.pop("noise", Noise([1e-6, None, 1e-6, 1e-6]))
    members = detections.places(NAMES, want)
    assert list(members) == NAMES
    return outputs.compare(NAMES, want, got, VerifySpec(**options), noise, members)


def failure(compared: list[Comparison]) -> tuple[Code, str]:
    """The first complaint, as the verification takes it."""
    first = next(item for item in compared if item.code is not None)
    assert first.code is not None
    assert first.reason is not None
    assert not first.check.passed
    return first.code, first.reason


def swapped(rows: list[Array], one: int, other: int) -> list[Array]:
    order = np.arange(COUNT)
    order[[one, other]] = other, one
    return [array[order] for array in rows]


def test_neighbours_of_nearly_equal_score_may_change_places() -> None:
    want = listed()
    want[2][41] = want[2][40]
    compared = compare(want, swapped(want, 40, 41))
    assert [item.code for item in compared] == [None] * 4
    assert [item.check.unpaired for item in compared] == [0] * 4
    assert compared[0].check.shape == [COUNT, 4]


def test_the_order_must_still_be_that_of_the_scores() -> None:
    want = listed()
    code, reason = failure(compare(want, swapped(want, 3, 90)))
    assert code is Code.VERIFY_VALUE
    assert reason == "the detections are not in the order of their scores, PyTorch's are"


@pytest.mark.parametrize("lost", [1, 5, 50])
@pytest.mark.parametrize("noise", [Noise.none(4), Noise([1e-6, None, 1e-6, 1e-6])])
def test_none_may_be_missing_that_rounding_does_not_lose(lost: int, noise: Noise) -> None:
    want = listed()
    code, reason = failure(compare(want, [array[:-lost] for array in want], noise=noise))
    assert code is Code.VERIFY_VALUE
    assert reason == (
        f"{lost} of 100 detections have no counterpart of the same label within the tolerance, "
        "and rounding does not lose them in PyTorch"
    )


def edge(rows: list[Array], *places: int) -> Noise:
    """Rounding that lets some detections come and go."""
    held = {index: array[list(places)] for index, array in enumerate(rows)}
    edge = Edge(held, np.asarray(places))
    return Noise([1e-6, None, 1e-6, 1e-6], edge=lambda runs: edge)


def without(rows: list[Array], *places: int) -> list[Array]:
    return [np.delete(array, places, axis=0) for array in rows]


def test_what_rounding_loses_may_be_missing_and_is_counted() -> None:
    want = listed()
    compared = compare(want, without(want, 7, 90), noise=edge(want, 7, 8, 90))
    assert [item.code for item in compared] == [None] * 4
    assert [item.check.unpaired for item in compared] == [2] * 4
    _, reason = failure(compare(want, without(want, 7, 9), noise=edge(want, 7, 8, 90)))
    assert reason.startswith("1 of 100 detections have no counterpart")


def test_what_rounding_brings_may_be_there() -> None:
    """One of two boxes that overlap: PyTorch keeps the one, the file the other."""
    rows = listed()
    assert [
        item.code
        for item in compare(without(rows, 40), without(rows, 41), noise=edge(rows, 40, 41))
    ] == [None] * 4
    other = without(rows, 41)
    other[0][40, 0] += 1
    _, reason = failure(compare(without(rows, 40), other, noise=edge(rows, 40, 41)))
    assert reason.startswith("1 of 99 detections have no counterpart")


def test_all_that_belongs_to_an_excused_detection_counts() -> None:
    rows = listed()
    moved = without(rows, 41)
    moved[3][40] += 0.1
    assert failure(compare(without(rows, 40), moved, noise=edge(rows, 40, 41)))


@pytest.mark.parametrize(("seen", "code"), [(40, None), (41, Code.VERIFY_VALUE)])
def test_a_part_may_be_what_rounding_makes_of_that_very_detection(
    seen: int, code: Code | None
) -> None:
    """Its mask changes in one run, its box in another."""
    want = listed()
    got = [array.copy() for array in want]
    got[0][40, 0] += 0.1
    got[3][40] += 0.1
    mask, box = ([array[40:41].copy() for array in want] for _ in range(2))
    mask[3] += 0.1
    box[0][0, 0] += 0.1
    rows = {place: np.concatenate([mask[place], box[place]]) for place in range(4)}
    held = Edge(rows, np.asarray([seen, seen]))
    noise = Noise([1e-6, None, 1e-6, 1e-6], edge=lambda runs: held)
    compared = compare(want, got, noise=noise)
    assert compared[0].code is code
    got[2][40] += 0.01
    assert failure(compare(want, got, noise=noise))


def test_each_keypoint_may_jump_by_itself() -> None:
    """The highest place of a map: another one in this run, in that run, and in the file."""
    names = ["boxes", "labels", "scores", "keypoints"]
    want = [*listed()[:3], np.random.default_rng(1).uniform(0, 200, (COUNT, 17, 3)).astype("f4")]
    got = [array.copy() for array in want]
    rows = {place: want[place][[40, 40]].copy() for place in range(4)}
    for run, point in enumerate((3, 9)):
        got[3][40, point] += 5
        rows[3][run, point] += 5
    edge = Edge(rows, np.asarray([40, 40]))
    noise = Noise([1e-6, None, 1e-6, 1e-6], edge=lambda runs: edge)
    members = detections.places(names, want)

    def compared() -> list[Code | None]:
        found = outputs.compare(names, want, got, VerifySpec(), noise, members)
        return [item.code for item in found]

    assert compared() == [None] * 4
    got[3][40, 10] += 5
    assert Code.VERIFY_VALUE in compared()


def test_a_list_without_an_order_is_compared_as_it_stands() -> None:
    """One box for each cell of a grid: nothing suppresses any."""
    want = [array[::-1].copy() for array in listed()]
    got = [array.copy() for array in want]
    got[0][17] += 1
    compared = compare(want, got, noise=edge(listed(), *range(COUNT)))
    assert "allowed there" in failure(compared)[1]
    assert [item.check.unpaired for item in compared] == [None] * 4


def test_a_list_that_is_empty_on_one_side_only() -> None:
    rows = listed()
    for want, got in ((rows, without(rows, *range(COUNT))), (without(rows, *range(COUNT)), rows)):
        assert failure(compare(want, got))[0] is Code.VERIFY_SHAPE


@pytest.mark.parametrize(
    ("member", "change"),
    [(0, 1.001), (1, 2), (2, 0.999), (3, 1.001)],
    ids=NAMES,
)
def test_every_member_counts(member: int, change: float) -> None:
    want = listed()
    got = [array.copy() for array in want]
    got[member] = (got[member] * change).astype(want[member].dtype)
    code, reason = failure(compare(want, got))
    assert code is Code.VERIFY_VALUE
    assert "have no counterpart" in reason


def test_a_tolerance_of_the_model_holds_for_the_pairs() -> None:
    want = listed()
    got = [array.copy() for array in want]
    got[0] += np.float32(0.5)
    assert [item.code for item in compare(want, got, rtol=0.0, atol=1.0)] == [None] * 4


def test_lists_of_another_form_are_compared_as_they_stand() -> None:
    want = listed()
    for got, code in (
        ([want[0].astype("f8"), *want[1:]], Code.VERIFY_SHAPE),
        ([array[:0] for array in want], Code.VERIFY_SHAPE),
        ([want[0] * np.float32("nan"), *want[1:]], Code.VERIFY_NONFINITE),
    ):
        assert failure(compare(want, got))[0] is code


def test_only_lists_of_boxes_and_scores_are_detections() -> None:
    boxes, labels, scores, _ = listed()
    assert detections.places(["boxes", "scores"], [boxes, scores]) == {"boxes": 0, "scores": 1}
    assert detections.places(["boxes", "labels"], [boxes, labels]) == {}
    assert detections.places(["boxes", "scores"], [boxes[None], scores[None]]) == {}
    assert detections.places(["boxes", "scores"], [boxes, scores[:5]]) == {}


def test_detections_that_are_lost_at_random_are_noticed(convert: Callable[..., Any]) -> None:
    inputs = {"x": {"shape": [60, 8]}}
    done = convert("RandomBoxes", inputs=inputs, outputs=["boxes", "scores", "labels"])
    assert done.code is Code.NONDETERMINISTIC


@pytest.mark.parametrize("name", ["Dense", "Ranked"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_three_boxes_of_a_hundred_that_nothing_suppresses(
    convert: Callable[..., Any], name: str
) -> None:
    source, inputs = {"_target_": f"rounding.{name}"}, {"x": {"shape": [100, 5]}}
    done = convert(source, inputs=inputs, outputs=["boxes", "scores"], trust=["rounding"])
    assert done.code is Code.VERIFY_VALUE
    assert ("3 of 100 detections" in done.result.error.message) == (name == "Ranked")


def test_a_pixel_at_the_edge_of_a_mask_may_be_off_by_more() -> None:
    """Where a mask falls off, the rounding of its box shows; a mask that is moved is another."""
    want = listed()
    want[3] = np.zeros((COUNT, 1, 64, 64), "f4")
    want[3][:, :, 16:48, 16:48] = 0.9
    members = detections.places(NAMES, want)
    bounds = detections.bounds(members, want, [1e-6, None, 1e-6, 3e-4])

    def found(masks: Array) -> Array:
        got = [*want[:3], masks]
        return detections.found(members, want, got, detections.pair(members, want, got), bounds)

    pixel = want[3].copy()
    pixel[5, 0, 16, 20] += 0.02
    assert found(pixel).all()
    floors = Noise([1e-6, None, 1e-6, 3e-4])
    assert [item.code for item in compare(want, [*want[:3], pixel], noise=floors)] == [None] * 4
    stated = compare(want, [*want[:3], pixel], noise=floors, atol=1e-3, rtol=1e-3)
    assert failure(stated)[1].startswith("masks[5, 0, 16, 20] is")
    moved = want[3].copy()
    moved[5] = np.roll(moved[5], 1, axis=-1)
    assert np.flatnonzero(~found(moved)).tolist() == [5]
