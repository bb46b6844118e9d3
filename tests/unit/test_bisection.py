"""Which nodes stay in float32: the least that verifying files tells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from converter.plugins.variants._bisection import Search

NODES = [f"n{number}" for number in range(64)]


def search(needed: set[str], tries: int = 1000) -> Search:
    """A file is right where all that is needed stays in float32."""
    return Search(lambda nodes: "" if needed <= set(nodes) else "wrong", tries)


@pytest.mark.parametrize(
    "needed", [{"n0"}, {"n63"}, {"n17"}, {"n3", "n40"}, {"n61", "n62", "n63"}, set(NODES)]
)
def test_exactly_what_is_needed_is_found(needed: set[str]) -> None:
    found = search(needed)
    assert set(found.least([], NODES)) == needed
    # log2(64) for each, and one to see whether that was all.
    assert len(found.told) <= len(needed) * (math.log2(len(NODES)) + 1)


def test_what_is_kept_already_is_not_looked_for_again() -> None:
    found = search({"kept", "n5"})
    assert found.least(["kept"], NODES) == ["kept", "n5"]


@pytest.mark.parametrize("tries", range(30))
def test_out_of_tries_what_was_right_is_left(tries: int) -> None:
    needed = {"n7", "n20", "n50"}
    found = search(needed, tries)
    assert needed <= set(found.least([], NODES))
    assert len(found.told) <= tries


def test_one_of_two_is_enough() -> None:
    """Not all sets that are right hold the same nodes."""
    found = Search(lambda nodes: "" if {"n9", "n30"} & set(nodes) else "wrong", 100)
    assert found.least([], NODES) == ["n9"]


def test_each_file_is_told() -> None:
    def judge(nodes: Sequence[str]) -> str:
        return "" if "n2" in nodes else f"wrong with {len(nodes)}"

    found = Search(judge, 2)
    assert not found.passes([])
    assert found.passes(["n2"])
    assert not found.passes(["n2"])  # no try is left
    assert found.told == [(0, "wrong with 0"), (1, "")]
