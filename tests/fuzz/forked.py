"""One input in a fork of its own: bounded in time and memory, and whatever it ends with is seen.

A fork of a process that has imported the libraries takes 0.03 s, a start of Python seconds. The
fork leads a process group, and all of the group goes with it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from converter.model.plaintext import plain
from converter.processes.proctree import die_with_parent

_MOST_BYTES = 64 << 20  # of what one input may print, or write into one file
_UNCAUGHT = 70
_DONE = ".done"
MOST_TOLD = 100_000
"""Characters that a command may print of an input that it refuses."""

Tell = Callable[[str, Any], None]
"""Called in the fork: a name and what JSON can say."""


@dataclass
class Ended:
    """How a fork ended.

    Attributes:
        code: its exit code; ``None``: a signal or the time ended it.
        why: ``exit``, the name of a signal, or ``time``.
        cpu_s: of itself, without what it has started and not waited for.
        told: what it printed.
        values: what it told, in order.
    """

    code: int | None
    why: str
    seconds: float
    cpu_s: float
    peak_bytes: int
    told: str
    values: list[tuple[str, Any]] = field(default_factory=list)


def call(work: Callable[[Tell], int], folder: Path, *, seconds: float, memory: int) -> Ended:
    """Run ``work`` in a fork.

    Args:
        work: gives the exit code; an exception that it lets through ends with 70.
        folder: for what it prints.
        memory: bytes that it may add to what it inherits (RLIMIT_DATA).
    """

    def single(_: Any, tell: Tell) -> int:
        return work(tell)

    with Forks(single, folder, memory=memory, each=1) as forks:
        return forks.call(None, seconds=seconds)


class Forks:
    """Forks of this process that take inputs one after the other, up to so many each.

    A fork of a process that has imported torch costs 30 ms of the kernel. One that crashed, or was
    ended for its time, is followed by a new one.

    Args:
        work: called in the fork with an input and a function that tells of it; gives an exit code.
    """

    def __init__(
        self, work: Callable[[Any, Tell], int], folder: Path, *, memory: int, each: int = 100
    ) -> None:
        self._work, self._memory, self._each = work, memory, each
        self._printed = folder / f".printed-{work.__name__}"
        self._child, self._taken = 0, 0
        self._news: IO[bytes] | None = None
        self._orders: IO[bytes] | None = None

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def call(self, given: Any, *, seconds: float) -> Ended:
        """Have one input worked on.

        Args:
            given: JSON can say it.
        """
        if self._taken >= self._each:
            self._end()
        if not self._child:
            self._start()
        assert self._orders is not None
        start = time.monotonic()
        self._taken += 1
        values: list[tuple[str, Any]] = []
        with suppress(BrokenPipeError):
            self._orders.write(json.dumps(given).encode() + b"\n")
            self._orders.flush()
        done = self._listen(values, start + seconds)
        code, why, used = None, "exit", {"cpu_s": 0.0, "peak_bytes": 0}
        if done is not None:
            used, code = done, done["code"]
        else:
            late = time.monotonic() >= start + seconds
            status, resources = self._end()
            ended = os.waitstatus_to_exitcode(status)
            why = "time" if late else signal.Signals(-ended).name if ended < 0 else "exit"
            code = None if late or ended < 0 else ended
            used["cpu_s"] = resources.ru_utime + resources.ru_stime
            used["peak_bytes"] = resources.ru_maxrss << 10
        told = self._printed.read_bytes().decode(errors="replace")
        elapsed = time.monotonic() - start
        return Ended(code, why, elapsed, used["cpu_s"], used["peak_bytes"], told, values)

    def _listen(self, values: list[tuple[str, Any]], deadline: float) -> dict[str, Any] | None:
        """Take what the fork tells; what it says at the end, ``None`` where it came to none."""
        assert self._news is not None
        poll = select.poll()
        poll.register(self._news, select.POLLIN)
        pending = b""
        while (left := deadline - time.monotonic()) > 0:
            if not poll.poll(left * 1000):
                continue
            chunk = os.read(self._news.fileno(), 1 << 16)
            if not chunk:
                return None
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                name, value = json.loads(line)
                if name == _DONE:
                    return dict(value)
                values.append((name, value))
        return None

    def _start(self) -> None:
        news, tells = os.pipe()
        takes, orders = os.pipe()
        self._taken = 0
        self._child = os.fork()
        if self._child == 0:
            os.close(news)
            os.close(orders)
            _in_child(self._work, self._printed, takes, tells, self._memory)
        os.close(tells)
        os.close(takes)
        self._news, self._orders = os.fdopen(news, "rb", buffering=0), os.fdopen(orders, "wb")

    def _end(self) -> tuple[int, resource.struct_rusage]:
        """End the fork and all that it has started; its status and what it used."""
        if not self._child:
            return 0, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert self._news is not None
        assert self._orders is not None
        with suppress(BrokenPipeError):
            self._orders.close()
        ended, status, used = os.wait4(self._child, os.WNOHANG)
        if not ended:
            # One that is at its end tells of it itself: its pipe is closed.
            poll = select.poll()
            poll.register(self._news, select.POLLIN)
            if not poll.poll(500):
                with suppress(ProcessLookupError):
                    os.kill(self._child, signal.SIGKILL)
            _, status, used = os.wait4(self._child, 0)
        with suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)
        self._news.close()
        self._child = 0
        return status, used


def _in_child(
    work: Callable[[Any, Tell], int], printed: Path, takes: int, tells: int, memory: int
) -> None:
    code = 0
    try:
        # Its pipes do not tell: a fork that began later holds their other ends as well.
        die_with_parent(signal.SIGKILL)
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        handle = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(null, 0)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        # New ones: a test's are captured, and lead elsewhere.
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        limit = _data_bytes() + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_BYTES, _MOST_BYTES))

        def tell(name: str, value: Any) -> None:
            data = memoryview(json.dumps([name, value]).encode() + b"\n")
            while data:
                data = data[os.write(tells, data) :]

        with os.fdopen(takes, "rb") as orders:
            for line in orders:
                os.ftruncate(handle, 0)
                before = _cpu_s()
                code = _UNCAUGHT
                try:
                    code = work(json.loads(line), tell)
                except BaseException:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
                tell(_DONE, {"code": code, "cpu_s": _cpu_s() - before, "peak_bytes": peak})
    except BaseException:
        traceback.print_exc()
        code = _UNCAUGHT
    finally:
        os._exit(code & 0xFF)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


_RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def promises(ended: Ended, codes: set[int], seconds: float, most: int = MOST_TOLD) -> list[str]:
    """What a command has broken of what holds for every input, a sentence each."""
    wrong = []
    if ended.code not in codes:
        wrong.append(f"ended with {ended.why if ended.code is None else ended.code}")
    wrong += [f"printed {word}" for word in ("Traceback (most recent", "a defect of the converter")
              if word in ended.told]  # fmt: skip
    if ended.cpu_s > seconds:  # of wall time a busy machine takes any
        wrong.append(f"took {ended.cpu_s:.1f} s of CPU")
    if len(ended.told) > most:
        wrong.append(f"printed {len(ended.told)} characters")
    if found := _RAW.search(ended.told):
        wrong.append(f"printed the character {found[0]!r} raw")
    return wrong


def shortened(text: str, most: int = 1500) -> str:
    """As it is shown of an input that broke something."""
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    return plain(text)
