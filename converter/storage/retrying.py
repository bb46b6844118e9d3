"""Calls that a network or a throttled server breaks off are made again: bounded, with jitter."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from converter.storage.backend import ConflictError, Driver, Failure, Kind

_T = TypeVar("_T")
TRIES = 8
_FIRST_S = 0.1
_LONGEST_S = 8.0
# A server that takes a call and then says nothing: eight such waits would be as many minutes.
_ENOUGH_S = 120.0


class FailedError(OSError):
    """A call that came to nothing, in our words; ``kind`` says what can be made of it."""

    def __init__(self, failure: Failure, where: str) -> None:
        super().__init__(failure.number, failure.words, where)
        self.kind = failure.kind


@dataclass
class Patience:
    """How often calls were repeated, and why.

    Attributes:
        tries: of one call; the waits between eight come to half a minute at most.
    """

    tries: int = TRIES
    repeated: Counter[str] = field(default_factory=Counter)
    _is_gone: bool = False
    _counting: Lock = field(default_factory=Lock)  # several threads call

    def call(self, driver: Driver, where: str, action: Callable[[], _T]) -> _T:
        """Do something until it works or cannot work.

        Raises:
            ConflictError: another version is there.
            FileNotFoundError: there is no such object.
            FailedError: anything else.
        """
        # A server that did not come back is not waited for at every later call.
        tries = 1 if self._is_gone else self.tries
        begun = time.monotonic()
        for attempt in range(1, tries + 1):
            try:
                found = action()
            except driver.errors as error:
                failure = driver.failure(error)
                if failure.kind is Kind.CONFLICT:
                    raise ConflictError(where) from error
                if failure.kind is Kind.MISSING:
                    raise FileNotFoundError(failure.number, failure.words, where) from error
                over = attempt == tries or time.monotonic() - begun > _ENOUGH_S
                if failure.kind is Kind.FINAL or over:
                    words = failure.words
                    if failure.kind is Kind.AGAIN:
                        self._is_gone = True
                        words += f", at each of {attempt} tries" if attempt > 1 else ""
                    raise FailedError(
                        Failure(failure.kind, failure.number, words), where
                    ) from error
                with self._counting:
                    self.repeated[failure.words] += 1
            else:
                self._is_gone = False
                return found
            # Full jitter: many writers that were slowed down together must not come back together.
            time.sleep(random.uniform(0, min(_LONGEST_S, _FIRST_S * 2**attempt)))
        raise AssertionError("unreachable: the last try returns or raises")

    def told(self, where: object) -> list[str]:
        """One sentence on all calls that were repeated; none where there were none."""
        if not self.repeated:
            return []
        number = sum(self.repeated.values())
        calls = "1 call was" if number == 1 else f"{number} calls were"
        why = "; ".join(f"{words} ({count})" for words, count in self.repeated.most_common(3))
        return [f"{where}: {calls} made again: {why}"]
