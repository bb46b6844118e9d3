"""Sizes at which a factor in float32 gives another whole number than in float64."""

from __future__ import annotations

from typing import Any

import pytest

from converter.model.job import Job
from converter.worker.inputs import factors


def job(size: int = 96, dims: dict[str, Any] | None = None) -> Job:
    return Job.model_validate({
        "name": "m", "source": {"registry": "s"}, "opset": 17, "exporters": ["dynamo"],
        "model_dir": "m", "staging_dir": "s", "inputs": {"x": {"shape": [1, 3, size]}},
        "dynamic_axes": {"x": {2: "w"}}, "dims": dims or {},
    })  # fmt: skip


def sizes(*scales: float, **more: Any) -> list[int]:
    return [case.sizes["w"] for case in factors.offered(job(**more), scales)]


def test_the_nearest_to_the_example_and_what_a_stride_makes_of_it() -> None:
    # floor(90 * 0.7) is 62, and 63 in float32.
    assert sizes(0.7) == [90, 180, 360]
    assert sizes(0.7, size=200)[0] == 180


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0, 0.25, 1e-5, 300.1, 0.0, float("nan")])
def test_a_factor_that_never_differs_offers_nothing(scale: float) -> None:
    assert sizes(scale) == []


def test_a_rule_decides_which_sizes_there_are() -> None:
    assert sizes(0.7, dims={"w": {"min": 64, "max": 128}}) == [90]
    assert sizes(0.7, dims={"w": {"multiple_of": 32}}) == [1440]


def test_a_case_knows_its_factor() -> None:
    (first, *_) = factors.offered(job(), [0.5, 0.7])
    assert first.scale == 0.7
