"""A cluster of Ray on the loopback interface: a head and two nodes, each of processes of its own.

Run as a program: it prints the address and the process of each node's raylet as JSON, and ends the
cluster when its standard input ends. With the name of a folder it hides that from the two nodes,
each of which then has ``HOME``, ``TMPDIR`` and a mount namespace of its own: an empty file system
lies over the folder, and over the folder of the other node (``FOLDER.n0``, ``FOLDER.n1``).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

_NEW_NAMESPACE, _RECURSIVE_PRIVATE = 0x00020000, 0x4000 | (1 << 18)
_libc = ctypes.CDLL(None, use_errno=True)


def _called(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def hide(*folders: Path) -> None:
    """Have what this thread starts from here on see empty folders in place of these."""
    _called(_libc.unshare(_NEW_NAMESPACE))
    _called(_libc.mount(b"none", b"/", None, _RECURSIVE_PRIVATE, None))
    for folder in folders:
        _called(_libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, None))


def _move_to(folder: Path, other: Path, hidden: Path, again: bool) -> None:
    """What is started from here on belongs to a machine of its own, as far as files go."""
    if again:
        _called(_libc.umount(str(folder).encode()))
        hide(other)
    else:
        hide(hidden, other)
    os.environ["RAY_TMPDIR"] = "/tmp"
    os.environ["HOME"] = os.environ["TMPDIR"] = str(folder)
    os.chdir(folder)


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["RAY_raylet_start_wait_time_s"] = "180"  # noqa: SIM112 - Ray's own
    from ray.cluster_utils import Cluster

    common = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
    cluster = Cluster()
    own: list[dict[str, object]] = [
        {"num_cpus": 0, "include_dashboard": False},
        *({"num_cpus": 2, "labels": {"place": n}, "resources": {n: 1}} for n in ("n0", "n1")),
    ]
    nodes = []
    hidden = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    places = [Path(f"{hidden}.{name}") for name in ("n0", "n1")]
    for place in places if hidden is not None else ():
        place.mkdir()
    for number, options in enumerate(own):
        if hidden is not None and number > 0:
            folder, other = places if number == 1 else reversed(places)
            _move_to(folder, other, hidden, number == 2)
        # One after the other: the agents of a node have 15 s to begin.
        nodes.append(cluster.add_node(wait=False, **common, **options))
        cluster.wait_for_nodes(timeout=180)
    told = {
        "address": cluster.address,
        "raylets": [node.all_processes["raylet"][0].process.pid for node in nodes[1:]],
        "head": [
            one.process.pid for kind in cluster.head_node.all_processes.values() for one in kind
        ],
    }
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
