"""Tasks of Ray that say something, and a look at its nodes.

Like the tasks it has nothing but the standard library and Ray: where the driver is a client
(``ray://``), which Ray gives no streams, it is an actor of the cluster and travels by value.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from typing import Any

from converter.plugins.executors import _ray_task

_REAP_S = 35.0  # of a task that was cancelled; it waits itself for what it started
_MOST = 300  # characters of an error of Ray
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NODE_ID = "ray.io/node-id"  # a label that Ray gives each node

Said = tuple[int, bytes | None, str]
"""The number of a stream, and a message; at its end ``None``, and what ended it if it did not."""


class Streams:
    """Args: home: see ``_ray_task.carry``."""

    def __init__(self, home: dict[str, Any]) -> None:
        import ray

        # Once a cluster, not once a task: an environment has kilobytes.
        self._home = ray.put(home)
        # Likewise: each new one is sent to the head, and brought to every worker from there.
        # Retries are ours: Ray would begin again with a job that has killed its machine.
        self._carry = ray.remote(max_retries=0, num_returns="streaming")(_ray_task.carry)
        self._live: dict[int, Any] = {}
        self._silent: set[int] = set()
        self._cancelled: dict[int, float] = {}
        self._daemons: dict[str, int] = {}

    def start(
        self, key: int, wanted: dict[str, Any], parcel: bytes | None, place: dict[str, Any]
    ) -> None:
        """Submit a task.

        Args:
            wanted, parcel: see ``_ray_task.carry``.
            place: options of Ray; ``node`` and ``avoid`` are ids of nodes.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {name: value for name, value in place.items() if name not in ("node", "avoid")}
        if node := place.get("node"):
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        elif avoid := place.get("avoid"):
            options["label_selector"] = {_NODE_ID: f"!in({','.join(sorted(avoid))})"}
        self._live[key] = self._carry.options(**options).remote(self._home, wanted, parcel)
        self._silent.add(key)

    def poll(self, timeout_s: float) -> list[Said]:
        """What was said; a message of each stream at most."""
        import ray

        if not self._live:
            return []
        for key, end in self._cancelled.items():
            if time.monotonic() > end and key in self._live:
                ray.cancel(self._live[key], force=True)
        streams = list(self._live.values())
        if not ray.wait(streams, num_returns=1, timeout=timeout_s)[0]:
            return []
        ready = {id(one) for one in ray.wait(streams, num_returns=len(streams), timeout=0)[0]}
        return [self._next(key) for key, one in list(self._live.items()) if id(one) in ready]

    def _next(self, key: int) -> Said:
        import ray

        try:
            message: bytes = ray.get(next(self._live[key]))
        except StopIteration:
            return self._end(key, "")
        except ray.exceptions.RayError as error:
            return self._end(key, _words(error))
        if key in self._silent:
            self._silent.discard(key)
            hello = json.loads(message)
            self._daemons[hello["id"]] = hello["machine"]["pid"]
        return key, message, ""

    def _end(self, key: int, why: str) -> Said:
        del self._live[key]
        self._silent.discard(key)
        self._cancelled.pop(key, None)
        return key, None, why

    def cancel(self, keys: Collection[int]) -> None:
        """Have tasks ended; each says so when what it started has ended."""
        import ray

        for key in keys:
            if key in self._live:
                self._cancelled[key] = time.monotonic() + _REAP_S
                # Its exception lets it wait for the daemon; the worker stays for others.
                ray.cancel(self._live[key], force=False)

    def close(self) -> None:
        """End all tasks and all daemons, and wait until they have ended."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.cancel(list(self._live))
        end = time.monotonic() + _REAP_S
        while self._live and time.monotonic() < end:
            self.poll(0.2)
        stop = ray.remote(max_retries=0, num_cpus=0)(_ray_task.stop)
        living = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        told = [
            stop.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(self._home, pid)
            for node, pid in self._daemons.items()
            if node in living
        ]
        if told:
            ray.wait(told, num_returns=len(told), timeout=_REAP_S)


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, those that were lost too."""
    import ray

    return [
        {
            "id": node["NodeID"],
            "alive": node["Alive"],
            "name": node["NodeManagerHostname"],
            "address": node["NodeManagerAddress"],
            "resources": node["Resources"],
            "labels": node["Labels"],
        }
        for node in ray.nodes()
    ]


def _words(error: Exception) -> str:
    """One line of an error of Ray, whose text may be pages."""
    # An exception of the task itself stands behind the stack of the worker.
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {cause}"
    lines = _COLOURS.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    if len(lines[0]) <= _MOST:
        return lines[0]
    whole = lines[0][:_MOST].rpartition(". ")[0]
    return f"{whole}." if whole else f"{lines[0][:_MOST]}…"
