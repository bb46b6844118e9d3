"""Native code in a child: whatever it does, the job knows and goes on."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
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


def fills_the_disk() -> None:
    try:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", "file")
    except OSError as error:
        raise ValueError("cannot write the model") from error


def test_what_the_disk_did_to_a_child_says_nothing_of_its_work(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Disk quota exceeded") as caught:
        call(fills_the_disk, tmp_path / "log")
    assert caught.value.errno == errno.EDQUOT


def test_a_child_whose_log_cannot_be_made_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(isolation.os, "open", refuse)
    with pytest.raises(OSError, match="Read-only file system"):
        call(lambda: None, tmp_path / "log")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_whoever_kills_the_child_kills_the_job_which_is_tried_again(tmp_path: Path) -> None:
    job = os.fork()
    if job == 0:
        with suppress(isolation.ChildError):
            call(killed, tmp_path / "log")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]) == -signal.SIGKILL
    # A question about the child alone is answered.
    assert str(isolation.failure(killed)) == "crashed with SIGKILL"
