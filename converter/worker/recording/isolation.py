"""Run a function in a forked child, bounded in time and memory.

For native code that may crash, hang or eat memory inside a job whose result does not
depend on it: the job goes on, and knows why the child failed.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from converter.layout import files

_CASE_S, _CASE_BYTES = 60.0, 8 << 30
_TAIL_BYTES = 64 << 10


class ChildError(Exception):
    """The child failed; the message says how, in one line."""


class _KilledError(ChildError):
    """Somebody outside of the job killed the child: the kernel for lack of memory, or a person."""


def call(work: Callable[[], None], *, seconds: float, memory_bytes: int, log: Path) -> None:
    """Run ``work`` in a child process; what it makes it must leave in a file.

    Where somebody kills the child, this process ends the same way: that says nothing of the work,
    and the job is tried again as it is when it is killed itself.

    Args:
        work: called in the child.
        seconds: after this time the child is killed.
        memory_bytes: data segment that the child may add (RLIMIT_DATA; a limit on the
            address space would stop a CUDA build of torch).
        log: takes the child's standard error.

    Raises:
        ChildError: the child raised, was killed by a signal, or ran out of time.
        OSError: what it raised came of the disk: that says nothing of its work.
    """
    try:
        run(work, seconds, memory_bytes, log)
    except _KilledError:
        os.kill(os.getpid(), signal.SIGKILL)


def run(work: Callable[[], None], seconds: float, memory_bytes: int | None, log: Path) -> None:
    """Like ``call``; a child that somebody kills has failed, and this process goes on."""
    told, tells = os.pipe()
    os.set_blocking(told, False)  # what the child has started may hold the other end
    # A fork has the model and the libraries; a fresh interpreter imports torch for 3 to 4 s.
    child = os.fork()
    if child == 0:
        _in_child(work, memory_bytes, log, tells)
    os.close(tells)
    try:
        status = _status(child, seconds)
        number = _read(told)
    finally:
        os.close(told)
    if status is None:
        raise ChildError(f"took longer than {seconds:.0f} s")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        kind = _KilledError if code == -signal.SIGKILL else ChildError
        raise kind(f"crashed with {signal.Signals(-code).name}")
    if code != 0 and number:
        raise OSError(number, os.strerror(number))
    if code != 0:
        raise ChildError(_last_line(log) or f"exited with {code}")


def _status(child: int, seconds: float) -> int | None:
    """Wait for a child; its wait status, ``None``: it had to be killed."""
    # A descriptor can be waited for with a deadline; `waitpid` has none.
    watch = os.pidfd_open(child)
    try:
        ended = _wait(watch, time.monotonic() + seconds)
        if not ended:
            # At once: native code that hangs runs no handler of Python's.
            os.kill(child, signal.SIGKILL)
        # Also of a child that was killed, or it would stay a zombie of the job.
        _, status = os.waitpid(child, 0)
    finally:
        os.close(watch)
    return status if ended else None


def _read(told: int) -> int | None:
    """The errno that a child has left; ``None``: it left none."""
    try:
        return int(os.read(told, 16) or 0) or None
    except BlockingIOError:
        return None


def _last_line(log: Path) -> str:
    """The last line of a traceback, which is the exception itself; somebody's log may be long."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read(_TAIL_BYTES).decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def failure(work: Callable[[], None]) -> ChildError | None:
    """How ``work`` ends a child of its own, with room for one case; ``None``: it does not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(work, _CASE_S, _CASE_BYTES, Path(folder) / "log")
        except ChildError as error:
            return error
        except OSError as error:  # whoever asks wants to know how it ends, whatever it came of
            return ChildError(str(error))
    return None


def _wait(watch: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _in_child(work: Callable[[], None], memory_bytes: int | None, log: Path, tells: int) -> None:
    """Never returns: the child must not run what its parent would do next."""
    # Until `work` has returned: whatever it raises, SystemExit too, is a failure.
    status = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        # By descriptor, so that native code writes there too.
        os.dup2(handle, 2)
        if memory_bytes is not None:
            _limit(memory_bytes)
        work()
        status = 0
    finally:
        if status:
            if number := files.of_disk(sys.exception()):
                os.write(tells, str(number).encode())
            # To the descriptor: sys.stderr may be the parent's, and lead elsewhere.
            os.write(2, traceback.format_exc().encode())
        # Past `atexit` and the buffers, which are copies of the parent's.
        os._exit(status)


def _limit(memory_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # The limit counts what the fork has inherited as well.
    limit = _data_bytes() + memory_bytes
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Bytes of the data segment now, which a forked child starts with."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
