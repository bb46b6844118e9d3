"""A cluster of Ray on the loopback interface: a head and two nodes, each of processes of its own.

Run as a program: it prints the address and the process of each node's raylet as JSON, and ends the
cluster when its standard input ends.
"""

from __future__ import annotations

import json
import os
import sys


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
    for options in own:
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
