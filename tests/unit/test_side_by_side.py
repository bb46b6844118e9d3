"""Calls that wait for a server, several at a time: their order, their errors, an early end."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from converter.storage.side_by_side import in_order


def test_results_come_in_the_order_of_the_items() -> None:
    second_is_done = threading.Event()

    def action(item: int) -> int:
        if item == 1:
            assert second_is_done.wait(10)
        second_is_done.set()
        return 10 * item

    assert list(in_order(action, [1, 2, 3], 2)) == [10, 20, 30]


@pytest.mark.parametrize("most", [1, 4])
def test_an_error_comes_in_the_place_of_its_result(most: int) -> None:
    def action(item: int) -> int:
        if item == 2:
            raise OSError("no answer")
        return item

    results = in_order(action, [1, 2, 3], most)
    assert next(results) == 1
    with pytest.raises(OSError, match="no answer"):
        next(results)


def test_closing_early_begins_no_further_call_and_waits_for_none() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def action(item: int) -> int:
        begun.append(item)
        if item > 1:
            go_on.wait(10)
        return item

    with closing(in_order(action, range(1, 100), 2)) as results:
        assert next(results) == 1
    assert not go_on.is_set()
    assert len(begun) < 5
    go_on.set()


def test_one_at_a_time_is_in_this_thread_and_not_ahead() -> None:
    begun: list[int] = []

    def action(item: int) -> threading.Thread:
        begun.append(item)
        return threading.current_thread()

    results = in_order(action, [1, 2], 1)
    assert next(results) is threading.current_thread()
    assert begun == [1]
