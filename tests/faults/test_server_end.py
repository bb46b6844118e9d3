"""A fork server that is ended takes along what it has forked, however far that has come."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from converter.processes import forkserver, proctree
from converter.processes.forkserver import ForkServer

pytestmark = pytest.mark.faults

# Stopped as a supervisor may be between its fork and its session.
_FORKS_ONE_THAT_STOPS = """
import os, signal, time
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(60)
"""


def state(pid: int) -> str:
    """The letter of ``/proc``; empty: it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_supervisor_that_was_stopped_before_it_had_a_session_ends_with_its_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forkserver, "_BOOT", _FORKS_ONE_THAT_STOPS)
    server = ForkServer()
    end = time.monotonic() + 10
    while not any(state(pid) == "T" for pid in proctree.children(server.pid)):
        assert time.monotonic() < end
        time.sleep(0.01)
    (stopped,) = proctree.children(server.pid)
    proctree.set_subreaper()  # as the runner is; else the kernel ends a stopped orphan
    try:
        server.close()
        server.close()  # at the end of the process once more
        end = time.monotonic() + 5
        while state(stopped) not in ("", "Z") and time.monotonic() < end:
            time.sleep(0.01)
        assert state(stopped) in ("", "Z")
    finally:
        proctree.send([stopped], signal.SIGKILL)
        os.waitpid(stopped, 0)
        proctree.set_subreaper(False)
