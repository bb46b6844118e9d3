"""Parts of an output that are small beside the others are compared by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jobs
import numpy as np
import pytest

from converter.model.errors import Code
from converter.worker.compare import numerics, parts, slices
from converter.worker.inputs.inputs import Array

pytestmark = pytest.mark.integration

FLOOR = 1e-7


def head(seed: int = 0) -> Array:
    """Boxes in pixels and scores far below one: (1, 5 channels, 100 anchors)."""
    draw = np.random.default_rng(seed)
    boxes = 640 * draw.uniform(0, 1, (1, 4, 100))
    scores = 5e-4 * draw.uniform(0.5, 1, (1, 1, 100))
    return np.concatenate([boxes, scores], 1).astype(np.float32)


def compare(expected: Array, actual: Array, **options: Any) -> numerics.Comparison:
    exact = expected.astype(np.float64)
    own = parts.rounding(exact * (1 + FLOOR), expected)
    return numerics.compare(
        "y", expected, actual, rtol=None, atol=None, floor=FLOOR, **{"noise": own, **options}
    )


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.5, 1.5])
def test_scores_beside_boxes_that_are_wrong(factor: float) -> None:
    damaged = head()
    damaged[:, 4] *= factor
    found = compare(head(), damaged)
    assert found.code is Code.VERIFY_VALUE
    assert not found.check.passed
    assert "slice 4 of axis 1" in (found.reason or "")
    assert compare(head(), damaged, noise=None).code is None, "the bound of the whole"


def test_what_rounding_does_to_a_part_is_no_error() -> None:
    rounded = head() * np.float32(1 + 1e-6)
    assert compare(head(), rounded).code is None
    cancelled = head()
    cancelled[:, 4] *= 1.5
    exact = head().astype(np.float64)
    exact[:, 4] += 1e-4
    assert compare(head(), cancelled, noise=parts.rounding(exact, head())).code is None


def test_a_sigmoid_that_hardly_ever_fires_is_right(convert: Callable[..., Any]) -> None:
    done = convert("HeatMap", inputs={"x": {"shape": [1, 8, 64]}})
    assert done.code is None, done.result.error


def test_small_slices_and_slices_of_nothing_are_left_to_the_whole() -> None:
    assert slices.spread(np.ones((1, 1000), np.float32)) == {}
    silent = head()
    silent[:, 4] = 0.0
    assert compare(silent, silent + np.float32(1e-12)).code is None


def test_a_file_with_dead_scores_is_refused_by_the_strict_mutations(
    tiny_job: Callable[..., Any],
) -> None:
    job = tiny_job("Head", inputs={"x": {"shape": [1, 8, 64]}}, verify={"mutations": 4})
    converted = jobs.convert(job)
    assert converted.code is None, converted.result.error
    mutation = converted.result.verify.mutation
    assert mutation is not None
    assert (mutation.applied, mutation.noticed) == (4, 4)
