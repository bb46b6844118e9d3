"""A driver of an executor in a process of its own, for tests that kill it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.model.batch import ExecutorSpec
from converter.model.job import Job

_CODE = """
import importlib, sys
sys.path[:0] = [{faults!r}]
from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.plugins.executors import StageEntered
plugin = importlib.import_module("converter.plugins.executors.{name}")
spec = ExecutorSpec.model_validate_json({spec!r})
jobs = [Job.model_validate_json(text) for text in {jobs!r}]
for event in getattr(plugin, "{name}".title() + "Executor")(spec, "entries:by_tag").run(jobs):
    if isinstance(event, StageEntered) and event.stage == "reference":
        print(event.name, flush=True)
"""


@contextmanager
def running(spec: ExecutorSpec, jobs: Sequence[Job]) -> Iterator[subprocess.Popen[str]]:
    """A driver all of whose jobs are in their stage `reference`; it is killed in the end."""
    code = _CODE.format(
        faults=str(Path(__file__).resolve().parent),
        name=spec.name,
        spec=spec.model_dump_json(),
        jobs=[one.model_dump_json() for one in jobs],
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as found:
        try:
            assert found.stdout is not None
            seen = {found.stdout.readline().strip() for _ in jobs}
            assert seen == {job.name for job in jobs}
            yield found
        finally:
            found.kill()
