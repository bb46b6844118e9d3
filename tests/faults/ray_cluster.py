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
    os.environ["RAY_raylet_start_wait_time_s"] = "180"  # noqa: SIM112 - Ray's own
    from ray.cluster_utils import Cluster

    common = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
    head = {**common, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster()
    cluster.add_node(wait=False, **head)
    nodes = [
        cluster.add_node(
            wait=False,
            num_cpus=2,
            labels={"place": f"n{number}"},
            resources={f"n{number}": 1},
            **common,
        )
        for number in range(2)
    ]
    cluster.wait_for_nodes(timeout=180)
    told = {
        "address": cluster.address,
        "nodes": {node.unique_id: node.all_processes["raylet"][0].process.pid for node in nodes},
        "head": [
            one.process.pid for kind in cluster.head_node.all_processes.values() for one in kind
        ],
    }
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
