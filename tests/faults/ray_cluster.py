"""A cluster of Ray on the loopback interface: a head and nodes, each of processes of its own.

Run as a program: it prints the address, and the process and the id of each node, as JSON, and ends
the cluster when its standard input ends::

    python tests/faults/ray_cluster.py [NODES] [CORES] [FOLDER]

With the name of a folder it hides that from two nodes, each of which then has ``HOME``, ``TMPDIR``
and a mount namespace of its own: an empty file system lies over the folder, and over the folder of
the other node (``FOLDER.n0``, ``FOLDER.n1``).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
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


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    raylets: a process for each node that runs jobs; ``ids`` are those of the nodes.
    head: the processes of the head.
    """

    address: str
    raylets: list[int]
    head: list[int]
    ids: list[str] = field(default_factory=list)


@contextmanager
def started(
    environ: Mapping[str, str],
    nodes: int = 2,
    cores: int = 2,
    *,
    hidden: str = "",
    background: bool = False,
) -> Iterator[Cluster]:
    """A cluster, until the end of the block; see above for what is hidden.

    Args:
        background: it ignores SIGINT, like all that a shell starts with `&`.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, str(nodes), str(cores), *([hidden] if hidden else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_IGN) if background else None,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = process.stdout.readline()
        if not told:
            raise RuntimeError(
                f"Ray did not start {nodes} nodes within minutes: is the machine busy?"
            )
        yield Cluster(**json.loads(told))
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(60)


def kill_node(cluster: Cluster, place: int) -> None:
    """Kill a node as a machine that loses its power: Ray's processes, the daemon, its jobs."""
    from converter.processes import proctree

    # Of its own, so that no tree leads from the raylet to it.
    daemons = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and f"-{cluster.ids[place][:16]}.socket" in _command(path)
    ]
    roots = [cluster.raylets[place], *daemons]
    # Stopped first: what is told of a death among them would be told by a node that still lives.
    victims = [*roots, *(pid for root in roots for pid in proctree.descendants(root))]
    proctree.send(victims, signal.SIGSTOP)
    proctree.send(victims, signal.SIGKILL)


def _command(path: Path) -> str:
    try:
        return (path / "cmdline").read_text()
    except OSError:  # it has ended
        return ""


def main(nodes: int = 2, cores: int = 2, hidden: Path | None = None) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["RAY_raylet_start_wait_time_s"] = "180"  # noqa: SIM112 - Ray's own
    from ray.cluster_utils import Cluster as Machines

    common = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
    cluster = Machines()
    names = [f"n{place}" for place in range(nodes)]
    own: list[dict[str, object]] = [
        {"num_cpus": 0, "include_dashboard": False},
        *({"num_cpus": cores, "labels": {"place": n}, "resources": {n: 1}} for n in names),
    ]
    made = []
    places = [Path(f"{hidden}.{name}") for name in ("n0", "n1")]
    for place in places if hidden is not None else ():
        place.mkdir()
    for number, options in enumerate(own):
        if hidden is not None and number > 0:
            folder, other = places if number == 1 else reversed(places)
            _move_to(folder, other, hidden, number == 2)
        # One after the other: the agents of a node have 15 s to begin.
        made.append(cluster.add_node(wait=False, **common, **options))
        cluster.wait_for_nodes(timeout=180)
    told = {
        "address": cluster.address,
        "raylets": [node.all_processes["raylet"][0].process.pid for node in made[1:]],
        "ids": [node.node_id for node in made[1:]],
        "head": [
            one.process.pid for kind in cluster.head_node.all_processes.values() for one in kind
        ],
    }
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *map(Path, sys.argv[3:4]))
