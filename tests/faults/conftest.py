"""Jobs with the entry points of ``entries.py``, and a watch over every process they start."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.model.records import JobResult
from converter.plugins.executors import Finished
from converter.plugins.executors.process import ProcessExecutor, servers

MARK = "CONVERTER_TEST_MARK"
Run = Callable[..., dict[str, JobResult]]


def marked(mark: str) -> dict[int, str]:
    """Processes of this machine whose environment has the mark, with their command lines."""
    found = {}
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_text()[:200]
        except OSError:
            continue
    return found


def all_gone(mark: str, but: set[int], within_s: float) -> dict[int, str]:
    """What is still there after a while: nothing, when all is well."""
    end = time.monotonic() + within_s
    while left := {pid: line for pid, line in marked(mark).items() if pid not in but}:
        if time.monotonic() > end:
            return left
        time.sleep(0.02)
    return {}


@pytest.fixture(scope="session")
def mark() -> Iterator[str]:
    """A word in the environment of every process started from here on."""
    while servers:  # they were started without the mark
        servers.popitem()[1].close()
    value = uuid.uuid4().hex
    os.environ[MARK] = value
    yield value
    del os.environ[MARK]


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    def make(name: str, tag: str = "good") -> Job:
        model_dir = tmp_path / "models" / name
        model_dir.mkdir(parents=True)
        return Job(
            name=name,
            source={"registry": "none"},
            inputs={},
            opset=17,
            exporters=["torchscript", "dynamo"],
            tags=[tag],
            model_dir=str(model_dir),
            staging_dir=str(tmp_path / ".staging" / name),
        )

    return make


@pytest.fixture
def run(mark: str, job: Callable[..., Job], tmp_path: Path) -> Run:
    """Run one job for each tag; none of their processes may be left the moment it returns."""

    def run_tags(*tags: str, **limits: object) -> dict[str, JobResult]:
        # Some leave a mark of their first try beside their staging folder.
        usual = {"name": "process", "workers": 2, "grace_s": 0.5, "writable": [str(tmp_path)]}
        spec = ExecutorSpec(**{**usual, **limits})
        jobs = [job(tag, tag) for tag in tags]
        events = ProcessExecutor(spec, "entries:by_tag").run(jobs)
        results = {e.result.name: e.result for e in events if isinstance(e, Finished)}
        assert all_gone(mark, {servers[True].pid}, 0.5) == {}
        return results

    return run_tags
