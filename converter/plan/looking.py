"""Looking at the code of models: told where it takes long, and ended where nobody wants it."""

from __future__ import annotations

import time
from collections.abc import Callable

_QUIET_S, _AGAIN_S = 1.0, 0.5


class StoppedError(Exception):
    """Somebody does not wait for the keys of the models: a signal came."""


class Looking:
    """Called before each file that is read.

    Args:
        stopped: whether to raise ``StoppedError``.

    Attributes:
        tell: is told what goes on, if that takes longer than a second.
    """

    def __init__(
        self, tell: Callable[[str], None], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.tell = tell
        self._stopped = stopped
        self._files = 0
        self._next: float | None = None

    def __call__(self) -> None:
        self._files += 1
        if self._stopped():
            raise StoppedError
        now = time.monotonic()
        if self._next is None:
            self._next = now + _QUIET_S
        elif now >= self._next:
            self._next = now + _AGAIN_S
            self.tell(f"looking at the models … {self._files:,} files of code")
