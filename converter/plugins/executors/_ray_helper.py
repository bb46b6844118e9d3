"""The process that speaks Ray for a driver.

Of its own, since Ray takes the handler of SIGTERM, prints what it likes, and ends the process that
it is in when the head of the cluster has gone. It ends with its driver, however that ends, and all
that it has started with it.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from converter.plugins.executors import _ray_streams, _ray_task
from converter.plugins.executors._ray_streams import Said, Streams

_WAIT_S = 0.05
_IDLE_S = 0.2
_LOOK_S = 1.0
_REACH_S = 10.0
_STORE_BYTES = 100 << 20  # messages alone go through it


@dataclass(frozen=True)
class Opening:
    """Which cluster is meant.

    Attributes:
        address: ``None``: a new one on this machine, with ``cpus``.
        home: see ``_ray_task.carry``.
    """

    address: str | None
    cpus: float
    home: dict[str, Any]


class _Streaming(Protocol):
    def start(
        self, key: int, wanted: dict[str, Any], parcel: bytes | None, place: dict[str, Any]
    ) -> None: ...
    def poll(self, timeout_s: float) -> list[Said]: ...
    def cancel(self, keys: list[int]) -> None: ...
    def close(self) -> None: ...


class _Remote:
    """The streams of a client: an actor of the cluster has them."""

    def __init__(self, home: dict[str, Any]) -> None:
        import ray

        self._actor = ray.remote(num_cpus=0)(Streams).remote(home)

    def start(
        self, key: int, wanted: dict[str, Any], parcel: bytes | None, place: dict[str, Any]
    ) -> None:
        self._actor.start.remote(key, wanted, parcel, place)

    def poll(self, timeout_s: float) -> list[Said]:
        import ray

        found: list[Said] = ray.get(self._actor.poll.remote(timeout_s))
        return found

    def cancel(self, keys: list[int]) -> None:
        self._actor.cancel.remote(keys)

    def close(self) -> None:
        import ray

        ray.get(self._actor.close.remote())


def main(descriptor: int) -> None:
    """Serve the driver at the other end of ``descriptor`` until that end closes."""
    # Of the terminal: the driver notes it, and says what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver = Connection(descriptor)
    opening: Opening = driver.recv()
    # Before the import, which reads them. The second is of a cluster that is started here.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own
    try:
        if opening.address is not None:
            _look(opening.address)
        import ray

        _join(opening)
    # All that `ray.init` raises of a cluster that is not there, or of another version.
    except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
        driver.send(("refused", f"{type(error).__name__}: {str(error).strip()}"))
        return
    for module in (_ray_task, _ray_streams):
        ray.cloudpickle.register_pickle_by_value(module)
    is_client = (opening.address or "").startswith("ray://")
    streams: _Streaming = _Remote(opening.home) if is_client else Streams(opening.home)
    try:
        _serve(driver, streams)
    finally:
        streams.close()
        ray.shutdown()


def _look(address: str) -> None:
    """Find out at once what Ray would try for minutes: whether anybody listens.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # `auto`
        return
    socket.create_connection((host, int(port)), _REACH_S).close()
    if host not in ("127.0.0.1", "localhost"):
        return
    # Ray replaces such a host by an outer address of this machine, where a head that was started
    # with `--node-ip-address=127.0.0.1` does not listen. It does so as long as it believes that
    # this machine can be part of a cluster.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses an interface
            socket.create_connection((probe.getsockname()[0], int(port)), _REACH_S).close()
        except OSError:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def _join(opening: Opening) -> None:
    import ray

    # Ray's own words stand in its own logs.
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if opening.address is not None:
        ray.init(address=opening.address, **quiet)
        return
    ray.init(
        # Not None, which takes the cluster that RAY_ADDRESS or a file of another user names.
        address="local",
        num_cpus=opening.cpus,
        object_store_memory=_STORE_BYTES,
        include_dashboard=False,
        # Its servers then listen on the loopback interface alone.
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def _serve(driver: Connection, streams: _Streaming) -> None:
    seen: list[dict[str, Any]] | None = None
    looked = 0.0
    live: set[int] = set()
    while True:
        if time.monotonic() - looked > _LOOK_S:
            looked, now = time.monotonic(), _ray_streams.nodes()
            # Also where nothing is new: it says that this process and the head still answer.
            driver.send(("nodes", now if now != seen else None))
            seen = now
        while driver.poll(0 if live else _IDLE_S):
            try:
                what, *rest = driver.recv()
            except (EOFError, ConnectionResetError):
                return
            if what == "start":
                live.add(rest[0])
            getattr(streams, what)(*rest)
        for said in streams.poll(_WAIT_S) if live else ():
            if said[1] is None:
                live.discard(said[0])
            driver.send(("said", *said))
