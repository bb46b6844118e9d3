"""What a Ray cluster of several nodes makes of jobs that only write a file, and what limits it.

    python benchmarks/cluster_scaling.py [--jobs 1000] [--cores 2] [1 2 4]

For each number of nodes a cluster is started on this machine, its nodes as processes of their own,
and the same jobs run on it after one for each core that waits for the libraries. Prints jobs a
second, and what one job takes of the driver's core: of the process of the command, and of the one
that speaks Ray for it. The larger of the two bounds what a driver can hand out, on however many
nodes: `--dispatch-s` of `benchmarks/cluster_simulation.py`. All nodes share the cores of this
machine, so that jobs a second are those of one machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import executor_overhead

from converter.model.batch import ExecutorSpec
from converter.plugins.executors._ray_carrier import links
from converter.plugins.executors.ray import RayExecutor

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "tests" / "faults"))

import ray_cluster  # noqa: E402


def measured(address: str, cores: int, jobs: int) -> str:
    """A line on some jobs on a cluster that runs."""
    spec = ExecutorSpec.model_validate({"name": "ray", "address": address})
    executor = RayExecutor(spec, executor_overhead.ENTRY)
    first = executor_overhead.seconds(executor, cores)  # the libraries are imported
    (link,) = links.values()
    own, helper = time.process_time(), _cpu_seconds(link._process.pid)
    took = executor_overhead.seconds(executor, jobs)
    own, helper = time.process_time() - own, _cpu_seconds(link._process.pid) - helper
    link.close()
    links.clear()
    return (
        f"first {first:.1f} s, {jobs} jobs {took:.2f} s, {jobs / took:.1f} jobs/s; a job takes "
        f"{1000 * own / jobs:.2f} ms of the driver, {1000 * helper / jobs:.2f} ms of its helper"
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=2, help="of each node, as Ray counts them (2)")
    asked = parser.parse_args()
    for nodes in asked.nodes:
        with ray_cluster.started(os.environ, nodes, asked.cores) as cluster:
            line = measured(cluster.address, nodes * asked.cores, asked.jobs)
            print(f"{nodes} {'node' if nodes == 1 else 'nodes'}: {line}", flush=True)


if __name__ == "__main__":
    main()
