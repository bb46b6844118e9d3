"""A step of a supervisor in a process of its own, for as long as somebody waits for the job.

It may take minutes, and hang as networks do: the supervisor looks at its runner meanwhile.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from converter.model.errors import ConverterError
from converter.processes import proctree

_CHUNK = 1 << 16


class Abandoned(Exception):  # noqa: N818 - a way out, not an error
    """Nobody waits for the result any more: the runner stops or has gone."""


def run(action: Callable[[], Any], events: Connection) -> Any:
    """Do something, and give what it returns, as JSON has it.

    Args:
        events: to the runner.

    Raises:
        OSError: as the action does; ``EIO`` where its process was killed.
        Abandoned: the other end of ``events`` was closed; its process may go on.
    """
    # The supervisor only notes it, while it has a job: here it ends at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ours, theirs = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        _do(action, theirs, supervisor)
    os.close(theirs)
    try:
        told = _told(ours, events)
    finally:
        os.close(ours)
    os.waitpid(pid, 0)
    if not told:
        raise OSError(errno.EIO, "the process that moves files was killed")
    answer = json.loads(told)
    if "error" in answer:
        raise OSError(*answer["error"])
    return answer["done"]


def _told(pipe: int, events: Connection) -> bytes:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(events.fileno(), select.POLLIN)  # only ever its end
    found = b""
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == events.fileno():
                raise Abandoned
            data = os.read(pipe, _CHUNK)
            if not data:
                return found
            found += data


def _do(action: Callable[[], Any], pipe: int, supervisor: int) -> NoReturn:
    proctree.die_with_parent(signal.SIGKILL)
    if os.getppid() != supervisor:  # it ended before the kernel knew our wish
        os._exit(1)
    try:
        answer: dict[str, Any] = {"done": action()}
    except OSError as error:
        answer = {"error": [error.errno or errno.EIO, error.strerror or str(error)]}
        answer["error"] += [str(error.filename)] if error.filename else []
    except ConverterError as error:
        answer = {"error": [errno.ENOSYS, str(error)]}
    data = memoryview(json.dumps(answer).encode())
    while data:
        data = data[os.write(pipe, data) :]
    os._exit(0)
