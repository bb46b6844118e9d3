"""Which inputs a file is run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converter.worker.inputs import cases

pytestmark = pytest.mark.integration
MakeJob = Callable[..., Any]


def sizes(job: Any, *moved: str) -> list[dict[str, int]]:
    return [case.sizes for case in cases.candidates(job, list(moved))]


def test_an_example_and_a_second_sample(tiny_job: MakeJob) -> None:
    first, second = cases.fixed(tiny_job("Net"))
    assert (first.label, second.label) == ("traced", "second")
    assert first.shapes == second.shapes == {"x": [2, 3]}
    assert np.abs(first.draw(0)["x"] - second.draw(0)["x"]).min() > 0


def test_constants_have_no_second_sample(tiny_job: MakeJob) -> None:
    job = tiny_job("Net", inputs={"x": {"shape": [2, 3], "fill": "constant", "value": 1}})
    assert [case.label for case in cases.fixed(job)] == ["traced"]


def test_declared_shapes_and_cases_come_in_addition(tiny_job: MakeJob) -> None:
    verify = {
        "shapes": [{"x": [5, 3]}],
        "cases": [{"label": "ones", "inputs": {"x": {"fill": "constant", "value": 1}}}],
    }
    *_, shaped, ones = cases.fixed(tiny_job("Net", verify=verify))
    assert (shaped.label, shaped.draw(0)["x"].shape) == ("x=5x3", (5, 3))
    assert (ones.label, ones.draw(0)["x"].tolist()) == ("ones", [[1.0] * 3] * 2)


def test_one_comes_first_and_no_size_comes_twice(tiny_job: MakeJob) -> None:
    found = [
        size["batch"] for size in sizes(tiny_job("Net", dynamic_axes={"x": {0: "batch"}}), "batch")
    ]
    assert found[:3] == [1, 3, 4]
    assert len(found) == len(set(found))
    assert 2 not in found
    assert min(found) == 1


def test_a_symbol_moves_wherever_it_stands(tiny_job: MakeJob) -> None:
    shape = {"shape": [4, 4]}
    job = tiny_job(
        "Two",
        inputs={"x": shape, "y": shape},
        dynamic_axes={"x": {0: "n", 1: "w"}, "y": {0: "n"}, "out": {0: "n"}},
    )
    case = next(case for case in cases.candidates(job, ["n"]) if case.sizes == {"n": 5})
    assert case.shapes == {"x": [5, 4], "y": [5, 4]}
    assert cases.symbols(job) == {"n": [("x", 0), ("y", 0)], "w": [("x", 1)]}


def test_symbols_that_move_together_take_different_sizes(tiny_job: MakeJob) -> None:
    job = tiny_job("Net", inputs={"x": {"shape": [4, 4]}}, dynamic_axes={"x": {0: "n", 1: "w"}})
    assert {"n": 5, "w": 6} in sizes(job, "n", "w")


def together(job: Any, *limits: float) -> list[dict[str, int]]:
    return [case.sizes for case in cases.of_all_sizes(job, limits)]


def test_all_symbols_move_at_once(tiny_job: MakeJob) -> None:
    axes = {"x": {0: "n", 1: "w"}}
    job = tiny_job("Net", inputs={"x": {"shape": [4, 10, 5]}}, dynamic_axes=axes)
    twice, four = {"n": 8, "w": 20}, {"n": 16, "w": 40}
    assert together(job) == [twice, four]
    # The example has 200 elements: 3000 bytes are 750 of them, 3000 elements 15 times as many.
    assert together(job, 0.5, 24.0, 3000) == [
        twice, {"n": 16, "w": 39}, {"n": 25, "w": 25}, four,
    ]  # fmt: skip
    assert together(job, 1000) == [{"n": 5, "w": 12}, twice, {"n": 9, "w": 23}, four]
    assert together(tiny_job("Net"), 24.0, 3000) == []
    alone = tiny_job("Net", inputs={"x": {"shape": [4, 10, 5]}}, dynamic_axes={"x": {1: "w"}})
    assert together(alone, 24.0, 3000) == [{"w": 38}, {"w": 151}]


def test_what_is_too_large_is_left_out(tiny_job: MakeJob) -> None:
    axes = {"x": {0: "n", 1: "w"}}
    job = tiny_job("Net", inputs={"x": {"shape": [4, 10, 5]}}, dynamic_axes=axes)
    found = cases.of_all_sizes(job, [*range(2, 3000)])
    assert len(found) <= 6
    assert max(case.elements for case in found) <= 16 * 200 + 4096
