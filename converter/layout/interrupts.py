"""SIGINT, SIGTERM and the deadline end a run cleanly; a second signal ends it at once.

Any other command ends where it is, and removes what it has not finished.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from converter.model.errors import ExitCode


def exit_code(received: signal.Signals) -> ExitCode:
    """As a shell would say it: 130 or 143."""
    return ExitCode.INTERRUPTED if received == signal.SIGINT else ExitCode.TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: whoever cleans up when a user interrupts does so now, too."""


@contextmanager
def raising() -> Iterator[None]:
    """SIGTERM raises, as SIGINT does; without that it ends a process that cleans nothing up.

    A run has ``Interrupts``, for as long as it goes on.
    """
    # Python takes handlers from the main thread only; whoever has one of his own keeps it.
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    # A second one, while what the first began is cleaned up, ends the process.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


class Interrupts:
    """Notes SIGINT and SIGTERM instead of raising in the middle of a write; a second one kills.

    A sweep enters it around its points, and each run in it once more: a signal is noted wherever
    it arrives, and ends both.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._end: float | None = None
        self._depth = 0
        self._before: dict[signal.Signals, Any] = {}

    def limit(self, deadline_s: float | None) -> None:
        """A run begins: it is late after so many seconds; each point of a sweep has its own."""
        # Monotonic: setting the clock must neither end a run nor prolong it.
        self._end = None if deadline_s is None else time.monotonic() + deadline_s

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self._end is not None and time.monotonic() >= self._end

    def __enter__(self) -> Interrupts:
        # Python takes handlers from the main thread only; in another one nobody asked for them.
        if self._depth == 0 and threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._note)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # the supervisors notice, and end all below them
            # By the signal itself, so that a shell sees what ended the process.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = signal.Signals(number)
