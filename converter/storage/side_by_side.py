"""Calls that wait for a server, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 16
"""Calls at a time: at 50 ms each, 300 a second."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    action: Callable[[_Item], _Result], items: Sequence[_Item], most: int
) -> Generator[_Result]:
    """The results of an action, in the order of the items; what it raises comes in its place.

    Closing the generator begins no further call, and waits for none.

    Args:
        most: calls at a time; 1: each in this thread, when its result is asked for.
    """
    if most == 1 or len(items) < 2:
        yield from map(action, items)
        return
    pool = ThreadPoolExecutor(min(most, len(items)), "look-up")
    try:
        for future in [pool.submit(action, item) for item in items]:
            yield future.result()
    finally:
        # Not waited for: who closes it early wants to end, and a server may not answer for minutes.
        pool.shutdown(wait=False, cancel_futures=True)
