"""What a job costs the driver of a Ray cluster of many nodes, which is played here.

    python benchmarks/dispatch_cost.py [--nodes 100] [--cores 16] [--jobs 8000] [--batch 20]

The dispatcher and the carrier are real, and the folders of jobs too; in place of the process that
speaks Ray stands one that lets jobs begin on a core that is free, says of each what a job of three
stages says, and ends some of them at a time. Prints milliseconds of the driver's CPU for a job,
which must not grow with the nodes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import executor_overhead

from converter.layout import environment
from converter.model.batch import ExecutorSpec
from converter.model.records import JobResult
from converter.plan import packages
from converter.plugins.executors import Finished, _ray_carrier
from converter.plugins.executors._ray_link import Link, Node
from converter.plugins.executors._ray_streams import Said
from converter.plugins.executors.ray import Options, RayExecutor
from converter.processes.daemon import Machine, Parcel


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
    spec = ExecutorSpec.model_validate({"name": "ray", "address": "played:1"})
    key = _ray_carrier._key(spec, Options.model_validate(spec.own_options))
    _ray_carrier.links[key] = cast(Link, Played(given.nodes, given.cores, given.batch))
    with tempfile.TemporaryDirectory() as folder:
        jobs = deque(executor_overhead.jobs(Path(folder), given.jobs))
        began = time.process_time()
        done = sum(isinstance(event, Finished) for event in RayExecutor(spec).run(jobs))
        took = time.process_time() - began
    print(f"{done} jobs on {given.nodes} nodes: {1000 * took / done:.2f} ms of the driver each")


if __name__ == "__main__":
    main()
