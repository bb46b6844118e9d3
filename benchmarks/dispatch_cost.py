"""What a job costs the driver of a Ray cluster of many nodes, and its helper that speaks Ray.

    python benchmarks/dispatch_cost.py [--nodes 100] [--cores 16] [--jobs 8000] [--batch 20]

For the driver the nodes are played: the dispatcher and the carrier are real, and the folders of
jobs too; in place of the helper stands one that lets jobs begin on a core that is free, says of
each what a job of three stages says, and ends some of them at a time. For the helper the jobs are
played: tasks of a real Ray on this machine say the same, as many at a time as the nodes have cores
for, and as many again that wait.

Prints milliseconds of CPU for a job, which must not grow with the nodes; both together are
`--dispatch-s` of `benchmarks/cluster_simulation.py` where they share a core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import executor_overhead

from converter.layout import environment
from converter.model.batch import ExecutorSpec
from converter.model.records import JobResult
from converter.plan import packages
from converter.plugins.executors import Finished, _ray_carrier, _ray_helper
from converter.plugins.executors._ray_link import Link, Node
from converter.plugins.executors._ray_streams import Said, Streams
from converter.plugins.executors.ray import Options, RayExecutor
from converter.processes.daemon import Machine, Parcel

_PARCEL = 3500  # bytes of a small job


class Played:
    """In place of a ``Link``. Args: batch: jobs that end at a time."""

    alive = True

    def __init__(self, nodes: int, cores: int, batch: int) -> None:
        found = environment.collect(packages.versions())
        machine = Machine(**dict(found), name="node", pid=1).model_dump(mode="json")
        names = [f"{place:04}" for place in range(nodes)]
        self.nodes = [
            Node(name, True, name, name, {"CPU": float(cores), "memory": 2.0**40}, {})
            for name in names
        ]
        self.machines: dict[str, Any] = {}
        self._hellos = {
            name: json.dumps({"machine": machine, "id": name, "gpus": []}).encode()
            for name in names
        }
        self._batch = batch
        self._streams = 0
        self._free = deque(name for _ in range(cores) for name in names)
        self._waiting: deque[tuple[int, Parcel]] = deque()
        self._running: dict[int, tuple[Parcel, str]] = {}

    def start(self, wanted: dict[str, Any], parcel: Parcel, place: dict[str, Any]) -> int:
        self._streams += 1
        self._waiting.append((self._streams, parcel))
        return self._streams

    def cancel(self, keys: Collection[int]) -> None:
        """None is: each ends by itself."""

    def poll(self, timeout_s: float) -> list[Said]:
        said: list[Said] = []
        for stream in list(self._running)[: self._batch]:
            parcel, node = self._running.pop(stream)
            job = parcel.assignment.job
            Path(job.staging_dir).mkdir(parents=True, exist_ok=True)
            (Path(job.staging_dir) / f"{job.name}.onnx").touch()
            stages = [{"stage": stage} for stage in ("load", "export", "verify")]
            result = JobResult(name=job.name, status="ok").model_dump(mode="json")
            messages = [*stages, {"result": result}]
            said += [(stream, json.dumps(message).encode(), "") for message in messages]
            said.append((stream, None, ""))
            self._free.append(node)
        while self._free and self._waiting:
            stream, parcel = self._waiting.popleft()
            node = self._free.popleft()
            self._running[stream] = parcel, node
            said += [(stream, self._hellos[node], ""), (stream, b'{"pid": 1}', "")]
        return said


def on_the_driver(given: argparse.Namespace) -> float:
    """Seconds of CPU for a job."""
    spec = ExecutorSpec.model_validate({"name": "ray", "address": "played:1"})
    key = _ray_carrier._key(spec, Options.model_validate(spec.own_options))
    _ray_carrier.links[key] = cast(Link, Played(given.nodes, given.cores, given.batch))
    with tempfile.TemporaryDirectory() as folder:
        jobs = deque(executor_overhead.jobs(Path(folder), given.jobs))
        began = time.process_time()
        done = sum(isinstance(event, Finished) for event in RayExecutor(spec).run(jobs))
        took = time.process_time() - began
    assert done == given.jobs
    return took / done


def in_the_helper(given: argparse.Namespace) -> float:
    """Seconds of CPU for a job, in a process that does what the helper does."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray

    _ray_helper._join(_ray_helper.Opening(None, float(environment.cores()), {}))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    streams = Streams({"environ": dict(os.environ)})
    streams._carry = ray.remote(max_retries=0, num_returns="streaming")(_said)
    place = {"num_cpus": 1, "memory": 1 << 20, "name": "job"}
    warm, most = 4 * environment.cores(), 2 * given.nodes * given.cores
    begun, ended, since = 0, 0, 0.0
    while ended < warm + given.jobs:
        if ended >= warm and not since:
            since = time.process_time()
        # The first few alone: workers of Ray begin with them.
        while begun < (warm + given.jobs if since else warm) and begun - ended < most:
            streams.start(begun, {}, b" " * _PARCEL, place)
            begun += 1
        ended += sum(text is None for _, text, _ in streams.poll(0.05))
    took = time.process_time() - since
    ray.shutdown()
    return took / given.jobs


def _said(home: object, wanted: object, parcel: bytes) -> Iterator[bytes]:
    yield json.dumps(
        {"machine": {"pid": 1, "packages": " " * 2000}, "id": "a", "gpus": []}
    ).encode()
    for message in ("pid", "load", "export", "verify", "result" + " " * 1500):
        yield json.dumps({"stage": message}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value, words in (
        ("nodes", 100, "of the cluster"),
        ("cores", 16, "of each node"),
        ("jobs", 8000, "that run"),
        ("batch", 20, "jobs that end at a time"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{words} ({value})")
    given = parser.parse_args()
    where = f"a job of {given.jobs} on {given.nodes} nodes"
    print(f"{where}: {1000 * on_the_driver(given):.2f} ms of the driver", flush=True)
    print(f"{where}: {1000 * in_the_helper(given):.2f} ms of the process that speaks Ray")


if __name__ == "__main__":
    main()
