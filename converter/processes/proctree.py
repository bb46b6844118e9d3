"""Processes of this machine, through Linux's /proc and prctl: find, measure, end a tree.

A model may start processes, and they may call ``setsid`` to leave their group. A
*subreaper* inherits every orphan below it, so that nothing below it can be lost.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

from converter.model.errors import RunError

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # prctl is variadic and reads unsigned longs: a plain int would leave the upper half undefined.
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise RunError(f"prctl({option}) failed: {os.strerror(number)}; use executor=inline")


def set_subreaper(enabled: bool = True) -> None:
    """Make this process inherit the orphans of its descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(enabled))


def die_with_parent(signum: signal.Signals) -> None:
    """Have the kernel send ``signum`` to this process when its parent ends."""
    # A fork does not inherit it (prctl(2)): each process asks for itself. A parent that ended
    # before sends nothing, which `jobprocess` looks for.
    _prctl(_PR_SET_PDEATHSIG, signum)


def children(pid: int) -> list[int]:
    """Direct children of a process; empty when it has gone."""
    found: list[int] = []
    try:
        # A child is listed under the thread that forked it.
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def parent(pid: int) -> int | None:
    """The parent of a process; ``None`` when it has gone."""
    try:
        # Behind the name, in which anything may stand.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1])


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, parents before children."""
    found = children(pid)
    for child in found:  # grows while it is walked: breadth first
        found += children(child)
    return found


def _kib(path: str, fields: tuple[str, ...]) -> int:
    try:
        lines = Path(path).read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    # `RssAnon: 1234 kB`: the unit is always kB, and means KiB.
    return sum(int(line.split()[1]) for line in lines if line.startswith(fields))


def rss_bytes(pids: Collection[int]) -> int:
    """Anonymous and shared memory of some processes; pages they share count once for each."""
    # Not RssFile: the kernel can drop pages of mapped files at any time.
    return 1024 * sum(_kib(f"/proc/{pid}/status", ("RssAnon:", "RssShmem:")) for pid in pids)


def pss_bytes(pids: Collection[int]) -> int:
    """Like ``rss_bytes``, but a page shared by n processes counts 1/n for each.

    Takes milliseconds for a large process, where ``rss_bytes`` takes microseconds.
    """
    return 1024 * sum(
        _kib(f"/proc/{pid}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) for pid in pids
    )


def send(pids: Collection[int], signum: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass


def kill_children(spare_session: int | None = None, timeout_s: float = 10.0) -> None:
    """Kill and reap everything below this process.

    Repeats until no child is left, because the orphans of those it kills become its own. Gives
    up after ``timeout_s`` on what the kernel cannot end (uninterruptible input or output).

    Args:
        spare_session: leave alone the children that belong to this session.
        timeout_s: seconds, see above.
    """
    # Doubled up to 50 ms: a tree that ends at once costs no wait, one that is stuck no core.
    end, pause = time.monotonic() + timeout_s, 0.0005
    while time.monotonic() < end:
        victims = [
            pid
            for pid in children(os.getpid())
            if spare_session is None or _session(pid) != spare_session
        ]
        if not victims:
            return
        for victim in victims:
            # All at once: one that was left alone for a while could fork on.
            send([victim, *descendants(victim)], signal.SIGKILL)
            try:
                # A process that has ended is listed as a child until somebody asks for its status.
                os.waitpid(victim, os.WNOHANG)
            except ChildProcessError:
                pass
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def exit_signal(status: int) -> signal.Signals | int | None:
    """The signal in a ``wait`` status, or ``None`` after a normal exit."""
    if not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    try:
        return signal.Signals(number)
    except ValueError:  # a real-time signal has no name
        return number
