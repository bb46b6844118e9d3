"""Runs commands of the converter, and sends a signal to one of their processes while they run.

It reads a line of JSON for each command and answers with a line once nothing of that command is
left. What outlives its command is told, and ended.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import nth_server

from converter.processes import forkserver, jobprocess, local, preload, proctree

# In its place no job computes anything.
ENTRY = "KILLS_ENTRY"
# Limits of the runner, which are minutes: what it does when they have passed is the same.
MARGIN, START = "KILLS_MARGIN_S", "KILLS_START_S"
RUNNER = "runner"
# What the end of a run may take of those that it was killed above.
_LEAVES_S = 10.0
_LONGEST_S = 120.0
_STOPPED_S = 0.5
_SERVES = b"serve(int(sys.argv[1])"
_LATENCY = "latency "


def serve(descriptor: int, libraries: Sequence[str], shared: int) -> None:
    """A fork server of jobs that compute nothing: it imports no library of theirs."""
    main = jobprocess.main
    # Here and not in the executor, which tells by the entry which server a job is for.
    jobprocess.main = lambda job, entry, *more: main(job, os.environ[ENTRY], *more)
    preload.LIBRARIES = ()
    preload.of_plugins = lambda kind, only=None: iter(())
    forkserver.serve(descriptor, libraries, shared)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def living(runner: int) -> dict[str, list[int]]:
    """The processes of a run by what they are: by parents, and by what a server was started with.

    Not among them is what the runner starts for a moment, such as git.
    """
    found: dict[str, list[int]] = {RUNNER: [runner]}
    for server in proctree.children(runner):
        if _SERVES not in _read(server, "cmdline"):
            continue
        kind = "" if b"glibc.malloc.hugetlb" in _read(server, "environ") else _LATENCY
        found.setdefault(f"{kind}fork server", []).append(server)
        for supervisor in proctree.children(server):
            found.setdefault(f"{kind}supervisor", []).append(supervisor)
            for job in proctree.children(supervisor):
                found.setdefault(f"{kind}job", []).append(job)
                found.setdefault(f"{kind}child of a job", []).extend(proctree.descendants(job))
    alive = {role: [pid for pid in pids if _is_alive(pid)] for role, pids in found.items()}
    return {role: pids for role, pids in alive.items() if pids}


class _Fault:
    """A signal to one process of a run, at a moment of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.role = ""
        self._draw = random.Random(order["seed"])
        self._signal = signal.Signals[order["signal"]]
        self._at: float | None = time.monotonic() + order["after_s"]
        self._goes_on: float | None = None

    def step(self, runner: int) -> None:
        now = time.monotonic()
        if self._goes_on is not None and now > self._goes_on:
            os.kill(runner, signal.SIGCONT)
            self._goes_on = None
        if self._at is None or now < self._at:
            return
        if not (found := living(runner)):  # it has just ended
            return
        role = self._draw.choice(sorted(found))
        with suppress(ProcessLookupError):  # it has just ended: another one
            os.kill(self._draw.choice(found[role]), self._signal)
            self.role, self._at = role, None
            if role == RUNNER and self._signal == signal.SIGSTOP:
                self._goes_on = now + _STOPPED_S


def _run(order: dict[str, Any]) -> dict[str, Any]:
    """Run one command; how it ended, what was sent a signal, and what has outlived it."""
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        if order.get("fault"):  # else nothing is waited for that does not come
            local._MARGIN_S, local._START_S = float(os.environ[MARGIN]), float(os.environ[START])
        if ENTRY in order["environment"]:
            imported = "from converter.processes.forkserver import serve"
            forkserver._BOOT = forkserver._BOOT.replace(imported, "from kill_server import serve")
        nth_server.command(order)
    fault = _Fault(order["fault"]) if order.get("fault") else None
    status = None
    while status is None:
        if fault is not None:
            fault.step(pid)
        done, found = os.waitpid(pid, os.WNOHANG)
        if done:
            status = found
        elif time.monotonic() > start + _LONGEST_S:
            break
        time.sleep(0.002)
    seconds = time.monotonic() - start
    left = _left(0.0 if status is None else _LEAVES_S)
    role = fault.role if fault is not None else ""
    if role == RUNNER and status is not None and not os.WIFSIGNALED(status):
        killed = order["fault"]["signal"] == "SIGKILL"
        role = "" if killed else role  # it had ended, and nobody had asked for its status
    return {"status": status, "role": role, "seconds": seconds, "left": left}


def _left(within_s: float) -> list[str]:
    """What is below this process after a while; all orphans come to it. None of it is after."""
    end, left = time.monotonic() + within_s, []
    while _reaped():
        if time.monotonic() > end:
            pids = proctree.descendants(os.getpid())
            left = [f"{pid} {_read(pid, 'stat').decode()[:60]}" for pid in pids if _is_alive(pid)]
            proctree.kill_children()
            break
        time.sleep(0.002)
    return left


def _reaped() -> bool:
    """Reap what has ended; whether anything else is there."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def main() -> None:
    """Serve until the end of the input."""
    for name in nth_server.MODULES:
        import_module(name)
    from converter.plugins import loader

    loader.every()  # which installed packages announce is asked once
    local.further_libraries.append("kill_entries")
    proctree.set_subreaper()
    for line in sys.stdin:
        order = json.loads(line)
        found = _run(order)
        if learned := order.get("learned"):
            nth_server.learn(Path(learned))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
