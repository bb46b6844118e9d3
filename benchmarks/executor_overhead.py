"""What a job costs beside its own work, for each executor: jobs that only write a file.

    python benchmarks/executor_overhead.py [--jobs 100] [--workers 2] [--sandbox off]
        [process ray slurm]

The same jobs run on each, after one that waits for the libraries. Prints seconds for all of them
and milliseconds a job. `ray` starts a Ray of its own on this machine, `slurm` runs tasks on this
machine; each needs its extra.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.model.records import JobResult, WorkerEvent
from converter.plugins.executors import Executor, Finished
from converter.plugins.executors.process import ProcessExecutor

# Not __main__, which a worker does not have.
ENTRY = "executor_overhead:write"


def write(job: Job, emit: Callable[[WorkerEvent], None]) -> JobResult:
    """A job that stages a file."""
    emit("load")
    (Path(job.staging_dir) / f"{job.name}.onnx").write_text("whole")
    return JobResult(name=job.name, status="ok")


def executor(name: str, workers: int, sandbox: str) -> Executor:
    spec = ExecutorSpec.model_validate({"name": name, "workers": workers, "sandbox": sandbox})
    if name == "process":
        return ProcessExecutor(spec, ENTRY)
    if name == "ray":
        from converter.plugins.executors.ray import RayExecutor

        return RayExecutor(spec, ENTRY)
    from converter.plugins.executors.slurm import SlurmExecutor

    here = ExecutorSpec.model_validate({**dict(spec), "cluster": "local"})
    return SlurmExecutor(here, ENTRY)


def jobs(folder: Path, count: int) -> list[Job]:
    made = []
    for number in range(count):
        model = folder / "models" / f"m{number}"
        model.mkdir(parents=True)
        made.append(
            Job(
                name=f"m{number}", source={"registry": "none"}, inputs={}, opset=17,
                exporters=["torchscript"], model_dir=str(model),
                staging_dir=str(folder / ".staging" / f"m{number}"),
            )
        )  # fmt: skip
    return made


def seconds(runs: Executor, count: int) -> float:
    """For all jobs; one that is not ok ends the measurement."""
    with tempfile.TemporaryDirectory() as folder:
        waiting = jobs(Path(folder), count)
        began = time.perf_counter()
        with closing(runs.run(waiting)) as events:
            for event in events:
                if isinstance(event, Finished) and event.result.status != "ok":
                    sys.exit(f"{event.result.name}: {event.result.error}")
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("executors", nargs="*", default=["process", "ray"])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sandbox", choices=["auto", "on", "off"], default="auto")
    asked = parser.parse_args()
    for name in asked.executors:
        first = seconds(executor(name, asked.workers, asked.sandbox), 1)
        took = seconds(executor(name, asked.workers, asked.sandbox), asked.jobs)
        each = 1000 * took / asked.jobs
        print(f"{name}: first {first:.1f} s, {asked.jobs} jobs {took:.2f} s, {each:.1f} ms a job")


if __name__ == "__main__":
    main()
