"""A process that has imported the heavy libraries once and forks itself for each job.

The first job waits for the imports (seconds), each later one for a fork (milliseconds).
Python's own fork server is not used: it would keep the runner, deaf to signals, waiting
for those imports, and it stays in the terminal's process group.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import NoReturn

from converter.processes import share
from converter.processes.carrier import Assignment
from converter.processes.preload import preload, preload_for
from converter.processes.supervisor import supervise

_BOOT = (
    # Code of `-c` and not a module of `-m`: the path must be ours before anything of ours is
    # imported.
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from converter.processes.forkserver import serve; "
    "serve(int(sys.argv[1]), json.loads(sys.argv[3]), int(sys.argv[4]))"
)


_LONGEST = 1 << 16  # of a request


class ForkServer:
    """The runner's side. The server ends when this process does, however it ends.

    Args:
        environ: changes to the environment in which the libraries start.
        libraries: to import beside the usual ones.
    """

    def __init__(
        self, environ: Mapping[str, str] | None = None, libraries: Sequence[str] = ()
    ) -> None:
        # Packets keep their bounds: one request is one message with one descriptor.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._shared = share.made()
        with theirs:
            # `-c` alone would look for the converter in the working directory.
            arguments = [str(theirs.fileno()), json.dumps(sys.path), json.dumps(libraries)]
            arguments.append(str(self._shared.fileno()))
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                # What a library prints at its import must not stand in the output of a command.
                stdout=subprocess.DEVNULL,
                env={**os.environ, **(environ or {})},
                pass_fds=[theirs.fileno(), self._shared.fileno()],
                process_group=0,  # signals of the terminal are for the runner alone
            )
        self._socket = ours
        self.pid = self._process.pid

    def start(self, assignment: Assignment) -> Connection:
        """Have a supervisor forked for an attempt; returns at once.

        Returns:
            The connection that carries its messages; closing it kills the job.

        Raises:
            ConnectionError: the server has ended.
        """
        # A pair for each attempt: its other end closes when the supervisor ends, however it ends,
        # and that is how a lost one is noticed.
        ours, theirs = socket.socketpair()
        with theirs:
            # Our copy of its end is closed below: it would hide that the supervisor has ended.
            connection = Connection(ours.detach())
            try:
                # Only the first: of most jobs it is the one that makes the file.
                needed = json.dumps(assignment.job.exporters[:1]).encode()
                socket.send_fds(self._socket, [needed], [theirs.fileno()])
                connection.send(assignment)
            except ConnectionError:
                connection.close()
                raise
        return connection

    def share(self, jobs: int) -> None:
        """Say how many jobs divide the cores among them from their next stages on."""
        share.tell(self._shared, jobs)

    def close(self) -> None:
        """End the server, and with it every supervisor."""
        self._socket.close()
        self._shared.close()
        if self._process.returncode is None:
            # It may be at its imports. Its group, too: a supervisor that is stopped before it has a
            # session of its own has not yet asked for a signal at the end of its parent.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def serve(descriptor: int, libraries: Sequence[str], shared: int) -> None:
    """The server's side: fork for each descriptor received, until the runner's end closes."""
    there: set[str] = set()
    share.inherit(shared)
    with _uncollected():
        preload(libraries)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=descriptor) as requests:
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, _LONGEST, 1)
            # No message either: the other end is closed, also where the runner was killed.
            if not descriptors:
                return
            if missing := set(json.loads(message)) - there:
                there |= missing
                with _uncollected():
                    preload_for(missing)
            if os.fork() == 0:
                # A supervisor that kept it would hide from the runner that the server has ended.
                requests.close()
                _in_supervisor(descriptors[0])
            os.close(descriptors[0])


def _reap(_signal: int, _frame: object) -> None:
    """Take leave of supervisors that have ended.

    The kernel would do it for a signal that is ignored, but then their time is counted nowhere:
    `time` shows what the jobs of a command have cost only if all are waited for.
    """
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextmanager
def _uncollected() -> Iterator[None]:
    """Within it nothing is looked at for garbage, and behind it not what was made in it.

    Looking takes a sixth of the time of the imports, and in a fork it would copy every page.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _in_supervisor(descriptor: int) -> NoReturn:
    status = 1
    try:
        events = Connection(descriptor)
        assignment: Assignment = events.recv()
        # A server outlives the run that started it: these are of its start.
        os.environ.clear()
        os.environ.update(assignment.environ)
        sys.path[:] = assignment.path
        if assignment.luggage is not None:
            os.makedirs(assignment.folder, exist_ok=True)
        os.chdir(assignment.folder)
        supervise(assignment, events)
        status = 0
    finally:
        # Told here: `os._exit` below prints nothing.
        if error := sys.exception():
            sys.excepthook(type(error), error, error.__traceback__)
        # Never back into the loop of the server, nor through what the libraries do at an exit.
        os._exit(status)
