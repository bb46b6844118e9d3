"""SIGINT, SIGTERM and the deadline end a run cleanly; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType


class Interrupts:
    """Notes SIGINT and SIGTERM instead of raising in the middle of a write; a second one kills.

    Args: deadline_s: seconds from now after which the run is late.
    """

    def __init__(self, deadline_s: float | None = None) -> None:
        self.received: signal.Signals | None = None
        self._end = None if deadline_s is None else time.monotonic() + deadline_s

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self._end is not None and time.monotonic() >= self._end

    def __enter__(self) -> Interrupts:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # the supervisors notice, and end all below them
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = signal.Signals(number)
