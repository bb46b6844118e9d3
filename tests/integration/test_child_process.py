"""Native code in a child: whatever it does, the job knows and goes on."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converter.worker.recording import isolation

pytestmark = pytest.mark.integration


def call(work: Callable[[], Any], log: Path, seconds: float = 30) -> None:
    isolation.call(work, seconds=seconds, memory_bytes=64 << 20, log=log)


def raises() -> None:
    raise ValueError("no such\nnode")


def crashes() -> None:
    faulthandler.disable()  # pytest's, which would print
    ctypes.string_at(0)


def aborts() -> None:
    faulthandler.disable()
    os.abort()


def test_what_the_child_writes_stays(tmp_path: Path) -> None:
    call(lambda: (tmp_path / "made").write_text("by the child"), tmp_path / "log")
    assert (tmp_path / "made").read_text() == "by the child"


def test_the_child_runs_nothing_of_its_parent(tmp_path: Path) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    kept, before = [0], set(children.read_text().split())
    call(lambda: kept.append(1), tmp_path / "log")
    assert kept == [0]
    # It has been waited for; a process of another test may end meanwhile.
    assert set(children.read_text().split()) <= before


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (raises, "node"),
        (lambda: sys.exit(0), "SystemExit: 0"),
        (lambda: os._exit(3), "exited with 3"),
        (crashes, "crashed with SIGSEGV"),
        (aborts, "crashed with SIGABRT"),
        (lambda: b"x" * (512 << 20), "MemoryError"),
    ],
)  # fmt: skip
def test_how_a_child_failed(tmp_path: Path, work: Callable[[], Any], message: str) -> None:
    with pytest.raises(isolation.ChildError) as caught:
        call(work, tmp_path / "log")
    assert str(caught.value) == message


def test_a_child_that_hangs_is_killed_in_time(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(isolation.ChildError, match="took longer than 1 s"):
        call(lambda: time.sleep(60), tmp_path / "log", seconds=1)
    assert time.monotonic() - start < 10


def test_the_log_has_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(isolation.ChildError):
        call(raises, tmp_path / "log")
    assert "in raises" in (tmp_path / "log").read_text()
