"""What runs within a worker process of Ray: it connects an attempt to the daemon of its node.

It travels to the node by value, so that it has nothing but the standard library and Ray: the
converter is imported by the daemon, from where the driver has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

_BOOT = (
    # Code of `-c` and not a module of `-m`: the path must be ours before anything of ours is
    # imported. Forked once more, since Ray ends the children of a worker with it.
    "import json, os, sys\n"
    "places, given = json.loads(sys.argv[1]), json.loads(sys.argv[2])\n"
    "sys.path[:] = places + [place for place in sys.path if place not in places]\n"
    "if os.fork():\n"
    "    os._exit(0)\n"
    "from converter.processes.daemon import serve\n"
    "serve(**given)\n"
)
_POLL_S = 0.2
_START_S = 120.0
_REAP_S = 30.0
_TRIES = 5
_LONGEST = 107  # unix(7)


def carry(home: dict[str, Any], wanted: dict[str, Any], parcel: bytes | None) -> Iterator[bytes]:
    """Give the daemon of this node what is wanted, and pass on what it says; JSON each.

    Args:
        home: the surroundings of the driver, in which a daemon is started: ``driver`` (a word of
            its own), ``lease_s``, ``niceness``, ``scratch``, ``path``, ``environ``, ``folder``, and
            ``of_the_node``: variables that are this machine's.
        wanted: see ``converter.processes.daemon``.
        parcel: of an attempt.
    """
    import ray

    # A cluster that was started in the background of a shell (`nohup ray start … &`) ignores it,
    # and so do its workers: Ray, which cancels a task by it, says that it did, and nothing happens.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    node = ray.get_runtime_context().get_node_id()
    connection, hello = _connected(home, node)
    try:
        gpus = [str(number) for number in ray.get_gpu_ids()]
        yield json.dumps({**hello, "id": node, "gpus": gpus}).encode()
        if parcel is not None:
            # Also where there is none: a job that did not ask for a GPU must not take another's.
            wanted = {**wanted, "environ": {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}}
        connection.send_bytes(json.dumps(wanted).encode())
        if parcel is not None:
            connection.send_bytes(parcel)
            yield from _said(connection)
    finally:
        # Also where this task is cancelled, by an exception at any line above: it ends when all
        # processes of the attempt have ended.
        _hang_up(connection)


def stop(home: dict[str, Any], pid: int) -> None:
    """End the daemon of this node with all that it started, and wait until it has ended."""
    import ray

    connection = _connect(_socket(home, ray.get_runtime_context().get_node_id()))
    if connection is not None:
        with contextlib.suppress(OSError, EOFError):
            connection.recv_bytes()
            connection.send_bytes(b'{"stop": true}')
        _drain(connection)
    end = time.monotonic() + _REAP_S
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.01)


def _said(connection: Connection) -> Iterator[bytes]:
    while True:
        # In slices: Ray cancels a task by an exception, which no blocking call lets in.
        if not connection.poll(_POLL_S):
            continue
        try:
            message = connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        yield message


def _socket(home: dict[str, Any], node: str) -> str:
    folder = os.path.join(tempfile.gettempdir(), f"converter-{os.getuid()}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RuntimeError(f"{folder} is open to other users: remove it")
    path = os.path.join(folder, f"{home['driver']}-{node[:16]}.socket")
    if len(os.fsencode(path)) > _LONGEST:
        raise RuntimeError(
            f"TMPDIR is too long for a socket ({folder}): start Ray with a shorter one"
        )
    return path


def _connect(path: str) -> Connection | None:
    found = socket.socket(socket.AF_UNIX)
    try:
        found.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        found.close()
        return None
    return Connection(found.detach())


def _connected(home: dict[str, Any], node: str) -> tuple[Connection, dict[str, Any]]:
    """A connection to the daemon of this node, started where there is none, and what it says."""
    path = _socket(home, node)
    for _ in range(_TRIES):
        with open(os.path.join(os.path.dirname(path), "lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = _connect(path)
            if connection is None:
                _start(home, path)
                connection = _connect(path)
        if connection is None:
            continue
        try:
            return connection, json.loads(connection.recv_bytes())
        except (EOFError, ConnectionResetError):  # it was about to end
            connection.close()
    raise RuntimeError(f"the daemon of the converter ends as soon as it is connected to: {path}")


def _start(home: dict[str, Any], path: str) -> None:
    # Of those that were killed; nobody connects to one here meanwhile, who has no lock for it.
    for name in os.listdir(os.path.dirname(path)):
        other = os.path.join(os.path.dirname(path), name)
        if not name.endswith(".socket"):
            continue
        if (living := _connect(other)) is not None:
            living.close()
            continue
        for left in (other, other.removesuffix(".socket") + ".log"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
    told, ready = os.pipe()
    given = {"path": path, "ready": ready}
    given |= {key: home[key] for key in ("lease_s", "niceness", "scratch")}
    environ = {
        name: text for name, text in home["environ"].items() if name not in home["of_the_node"]
    }
    environ |= {name: os.environ[name] for name in home["of_the_node"] if name in os.environ}
    log = path.removesuffix(".socket") + ".log"
    with open(log, "wb") as errors:
        subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(home["path"]), json.dumps(given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            # Not that of the worker of Ray, in which earlier tasks have left theirs.
            env=environ,
            cwd=home["folder"] if os.path.isdir(home["folder"]) else "/",
            pass_fds=[ready],
            start_new_session=True,
        ).wait()
    os.close(ready)
    try:
        began = select.select([told], [], [], _START_S)[0] and os.read(told, 1)
    finally:
        os.close(told)
    if not began:
        with open(log, errors="replace") as text:
            said = text.read().strip().splitlines()
        raise RuntimeError(f"the daemon of the converter does not start: {' '.join(said[-1:])}")


def _hang_up(connection: Connection) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_WR)
    _drain(connection)


def _drain(connection: Connection) -> None:
    """Read to the end of a connection: the daemon closes it when what hung on it has ended."""
    end = time.monotonic() + _REAP_S
    with contextlib.suppress(EOFError, OSError):
        while connection.poll(max(0.0, end - time.monotonic())):
            connection.recv_bytes()
    connection.close()
