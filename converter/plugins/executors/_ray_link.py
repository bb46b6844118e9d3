"""The driver's end of the process that speaks Ray (``_ray_helper``), and what it knows of nodes."""

from __future__ import annotations

import atexit
import errno
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from converter.exchange.luggage import OF_THE_NODE
from converter.layout import environment
from converter.model.errors import ConfigError, Problem
from converter.plugins.executors._ray_helper import Opening
from converter.plugins.executors._ray_streams import Said
from converter.processes.daemon import Parcel

_BOOT = (
    # Code of `-c` and not a module of `-m`: the path must be ours before anything of ours is
    # imported.
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from converter.plugins.executors._ray_helper import main; main(int(sys.argv[1]))"
)
_START_S = 120.0
_CLOSE_S = 90.0
# Far more than it takes Ray to give a head up, which ends that process: one that says nothing for
# as long is stopped, or hangs in a call of Ray.
_SILENT_S = 180.0
_LOG_LINE = re.compile(r"^\[[^\]]*?(?P<level>\b[DIWEFC]\b)?[\d ]*\] (\S+:\d+: )?")
# `/lib/x86_64-linux-gnu/libc.so.6(+0x1098ec) [0x7fbc50b278ec]`, `@ 0x7fbc50b27 main`: of a crash.
_FRAME = re.compile(r"\(\S*\+0x[0-9a-f]+\)|\[0x[0-9a-f]+\]|^\s*@\s+0x|^\*\*\* |StackTrace")
INSTALL = "Install the extra: pip install 'onnx-zoo-converter[ray]'."
_CONNECT = (
    "See docs/cluster.md. If the address is right, the head may ask for a token: it and this "
    "command need the same RAY_AUTH_MODE (token or disabled)."
)
_SHORTER = "Set TMPDIR to a shorter folder: Ray has sockets below it."


@dataclass(frozen=True)
class Node:
    """A node of the cluster, as Ray describes it; ``resources`` are all that it has."""

    id: str
    alive: bool
    name: str
    address: str
    resources: dict[str, float]
    labels: dict[str, str]

    @property
    def cpus(self) -> float:
        return self.resources.get("CPU", 0.0)

    def has(self, needs: dict[str, float]) -> bool:
        """Whether it could hold something, if nothing else ran there."""
        return all(self.resources.get(name, 0.0) >= amount for name, amount in needs.items())

    def is_called(self, name: str) -> bool:
        """Whether it is meant: by its name, address, a label or a resource, or by its id."""
        labels = {f"{key}={value}" for key, value in self.labels.items()}
        return name in {self.id, self.name, self.address, *labels, *self.resources}

    def __str__(self) -> str:
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


def _hint(why: str) -> str:
    """What to do where Ray does not connect."""
    return _SHORTER if "AF_UNIX path length" in why else _CONNECT


def last_word(log: str) -> str:
    """The last sentence of what Ray has printed that may say why it ended; empty: none does."""
    found = ""
    for line in log.splitlines():
        # `[2026-11-29 09:58:12,335 E 14418 14434] rpc_client.h:204: Failed to …. It may be …`
        head = _LOG_LINE.match(line)
        quiet = head is not None and head["level"] in ("D", "I", "W")
        # `:info_message:` and its like are for Ray's own reader of logs.
        frame = _FRAME.search(line) is not None
        if line.strip() and not quiet and not frame and not line.startswith(":"):
            found = _LOG_LINE.sub("", line).strip().partition(". ")[0][:200]
    return found


class Link:
    """A connection to a cluster, for all runs of this process.

    Attributes:
        nodes: as Ray describes them.
        machines: what the daemon of a node has said of it, by the id of the node.

    Args:
        address: ``None``: a cluster of its own on this machine, of ``cpus``.
        lease_s: seconds for which a daemon without connections stays.
        scratch: the folder of nodes that share none with this machine, see ``daemon.serve``.

    Raises:
        ConfigError: there is no such cluster, or Ray is not installed.
    """

    def __init__(
        self, address: str | None, cpus: float, lease_s: float, scratch: str | None = None
    ) -> None:
        self._address = address or "local"
        self.nodes: list[Node] = []
        self.machines: dict[str, dict[str, Any]] = {}
        self._keys = count()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._heard = time.monotonic()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                # What Ray prints must not stand in the output of a command.
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                pass_fds=[theirs.fileno()],
                # Signals of the terminal are for the runner alone.
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        home = {
            "driver": os.urandom(8).hex(),
            "lease_s": lease_s,
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "scratch": scratch,
            "of_the_node": [] if scratch is None else OF_THE_NODE,
            "path": list(sys.path),
            "environ": dict(os.environ),
            "folder": os.getcwd(),
        }
        self._connection.send(Opening(address, cpus, home))
        self._await_nodes()
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _await_nodes(self) -> None:
        end = time.monotonic() + _START_S
        why = f"it did not answer for {_START_S:g} s"
        while not self.nodes and time.monotonic() < end:
            try:
                if self._connection.poll(0.2) and (told := self._take()) is not None:
                    why = str(told)
                    break
            except OSError as error:
                why = str(error.strerror)
                break
        if not self.nodes:
            self._process.kill()
            self.close()
            raise ConfigError(
                Problem(
                    "executor.address",
                    f"found '{self._address}', but Ray does not connect: {why}",
                    INSTALL if environment.version("ray") is None else _hint(why),
                )
            )

    def start(self, wanted: dict[str, Any], parcel: Parcel | None, place: dict[str, Any]) -> int:
        """Submit a task; see ``Streams.start``.

        Raises:
            OSError: the cluster has gone.
        """
        key = next(self._keys)
        content = None if parcel is None else pickle.dumps(parcel)
        self._send("start", key, wanted, content, place)
        return key

    def cancel(self, keys: Collection[int]) -> None:
        """Have tasks ended; see ``Streams.cancel``."""
        self._send("cancel", list(keys))

    def poll(self, timeout_s: float) -> list[Said]:
        """What tasks have said.

        Raises:
            OSError: the cluster has gone.
        """
        found: list[Said] = []
        try:
            while self._connection.poll(0 if found else timeout_s):
                # News of nodes are no reason to wait on.
                timeout_s = 0
                if (said := self._take()) is not None:
                    found.append(said)
        except ConnectionError as error:
            raise self._gone() from error
        if time.monotonic() - self._heard > _SILENT_S:
            self.kill()
            silent = f"the process that speaks Ray said nothing for {_SILENT_S:g} s, and was killed"
            raise OSError(errno.ETIMEDOUT, silent, self._address)
        return found

    def _take(self) -> Any:
        try:
            what, *rest = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._gone() from error
        self._heard = time.monotonic()
        if what == "nodes":
            if rest[0] is not None:
                self.nodes = [Node(**node) for node in rest[0]]
            return None
        return rest[0] if what == "refused" else tuple(rest)

    def _send(self, *request: Any) -> None:
        try:
            self._connection.send(request)
        except ConnectionError as error:
            raise self._gone() from error

    def _gone(self) -> OSError:
        """What to say where the process that speaks Ray has ended."""
        self._process.wait()
        self._words.seek(0)
        said = last_word(self._words.read().decode(errors="replace"))
        last = f": {said}" if said else ""
        return OSError(errno.ECONNRESET, f"the connection to Ray was lost{last}", self._address)

    def kill(self) -> None:
        """End the process that speaks Ray; the cluster then ends what it was given, and daemons
        themselves after their lease.
        """
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End what runs on the cluster for this process, and wait until it has ended."""
        self._connection.close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._words.close()
