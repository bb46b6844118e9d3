"""A real Ray on several nodes: what is lost there costs a try, and leaves no process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import driver
import pytest
from conftest import MARK, all_gone, marked
from ray_cluster import Cluster, started

from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import ConfigError
from converter.model.job import Job
from converter.model.records import JobResult
from converter.plugins.executors import (
    Finished,
    Past,
    StageEntered,
    Started,
    _nodes,
    _ray_carrier,
    _ray_link,
)
from converter.plugins.executors import ray as plugin
from converter.plugins.executors._dispatch import Dispatcher, Rules
from converter.plugins.executors._ray_carrier import Options, RayCarrier, link_of, links
from converter.plugins.executors.ray import RayExecutor

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.slow]
LEASE_S = 2.0
Make = Callable[..., Job]


@contextmanager
def unmarked(hidden: str = "") -> Iterator[Cluster]:
    """A cluster whose processes are not those of a test."""
    environ = {key: value for key, value in os.environ.items() if key != MARK}
    with started(environ, hidden=hidden, background=True) as cluster:
        try:
            yield cluster
        finally:
            while links:  # before their cluster
                links.popitem()[1].close()


@pytest.fixture(scope="module")
def cluster(mark: str) -> Iterator[Cluster]:
    """For all tests that leave it as it was."""
    with unmarked() as cluster:
        yield cluster


@pytest.fixture
def doomed(mark: str) -> Iterator[Cluster]:
    """For a test that takes it apart."""
    with unmarked() as cluster:
        yield cluster


def spec_of(cluster: Cluster, **options: object) -> ExecutorSpec:
    usual = {"name": "ray", "address": cluster.address, "grace_s": 0.5, "lease_s": LEASE_S}
    return ExecutorSpec(**{**usual, **options})


def resident(mark: str) -> set[int]:
    """What may stay between jobs: the helper of Ray, the daemons and their fork servers."""
    stays = {one._process.pid for one in links.values()}
    daemons = daemons_of(mark)
    for pid in marked(mark):
        try:
            # A supervisor, and what a job starts, have sessions of their own.
            if {pid, parent_of(pid)} & daemons and os.getsid(pid) == os.getsid(parent_of(pid)):
                stays.add(pid)
        except ProcessLookupError:
            continue
    return stays | daemons


def daemons_of(mark: str) -> set[int]:
    found = set()
    for pid in marked(mark):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "converter.processes.daemon" in line:
            found.add(pid)
    return found


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error


def run(spec: ExecutorSpec, jobs: Sequence[Job]) -> dict[str, JobResult]:
    events = RayExecutor(spec, "entries:by_tag").run(jobs)
    found = [event.result for event in events if isinstance(event, Finished)]
    results = {result.name: result for result in found}
    assert len(found) == len(results) == len(jobs)
    return results


def code_of(result: JobResult) -> str | None:
    return result.error.code if result.error is not None else None


def test_what_a_job_does_to_its_process_costs_that_job(
    cluster: Cluster, mark: str, job: Make
) -> None:
    tags = ("segfault", "exits_0", "sys_exits_0", "leaves_a_child", "killed", "good")
    results = run(spec_of(cluster), [job(tag, tag) for tag in tags])
    assert {tag: (results[tag].status, code_of(results[tag])) for tag in tags} == {
        "segfault": ("crashed", "SIGNAL"),
        "exits_0": ("crashed", "NO_RESULT"),
        "sys_exits_0": ("crashed", "NO_RESULT"),
        "leaves_a_child": ("ok", None),
        "killed": ("crashed", "SIGNAL"),
        "good": ("ok", None),
    }
    assert results["killed"].attempts == 2
    error = results["segfault"].error
    assert error is not None
    assert error.message.startswith("killed by SIGSEGV in stage export; log: File ")
    assert all_gone(mark, resident(mark), 0.5) == {}


def test_a_hang_ends_within_limit_and_grace(cluster: Cluster, mark: str, job: Make) -> None:
    jobs = [job("deaf", "hangs_with_grandchild"), job("a", "good")]
    results = run(spec_of(cluster, timeout_s=1.0), jobs)
    assert (results["deaf"].status, code_of(results["deaf"])) == ("timeout", "TIMEOUT")
    assert results["a"].status == "ok"
    assert all_gone(mark, resident(mark), 0.5) == {}


def test_a_row_says_on_which_node_it_ran(cluster: Cluster, job: Make) -> None:
    node = run(spec_of(cluster), [job("a")])["a"].node
    assert node is not None
    assert node.address == "127.0.0.1"
    assert node.cpu
    assert node.packages == {}
    assert node.id in {one.id for one in link_of(spec_of(cluster), _options(cluster)).nodes}


def _options(cluster: Cluster) -> Options:
    return Options.model_validate(spec_of(cluster).own_options)


def test_no_variable_of_the_environment_passes_from_one_job_to_the_next(
    cluster: Cluster, job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVERTER_PROBE", "of the runner")
    monkeypatch.chdir(tmp_path)
    jobs = [job("first", "leaks"), *(job(f"then{n}", "seen") for n in range(4))]
    run(spec_of(cluster, workers=1), jobs)
    for n in range(4):
        text = (tmp_path / "models" / f"then{n}" / "log.txt").read_text()
        assert text == "None of the runner\n"


def test_closing_cancels_what_runs_and_waits_for_its_end(
    cluster: Cluster, mark: str, job: Make
) -> None:
    jobs = [job("a", "hangs_with_grandchild"), job("b", "hangs_hard"), job("c", "hangs")]
    events = RayExecutor(spec_of(cluster), "entries:by_tag").run(jobs)
    entered = set()
    for event in events:
        if isinstance(event, StageEntered):
            entered.add((event.name, event.stage))
        if {("a", "reference"), ("b", "reference")} <= entered:
            break
    before = time.monotonic()
    events.close()
    assert time.monotonic() - before < 10
    assert all_gone(mark, resident(mark), 0) == {}


@pytest.mark.parametrize("closed", [False, True], ids=["running", "closed"])
def test_a_helper_that_hangs_is_killed_and_leaves_no_process(
    cluster: Cluster, job: Make, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, own := f"helper-{closed}")
    monkeypatch.setattr(_ray_carrier if closed else _ray_link, "_CLOSE_S", 2.0)
    monkeypatch.setattr(_ray_link, "_SILENT_S", 100.0 if closed else 4.0)
    spec = spec_of(cluster, lease_s=LEASE_S + 1)  # a connection that no other test has
    events = RayExecutor(spec, "entries:by_tag").run([job("a", "hangs_hard")])
    next(event for event in events if isinstance(event, StageEntered))
    link = link_of(spec, Options.model_validate(spec.own_options))
    os.kill(link._process.pid, signal.SIGSTOP)
    if closed:
        events.close()
    else:
        with pytest.raises(OSError, match="speaks Ray said nothing for 4 s, and was killed"):
            list(events)
    # Ray takes some seconds to see that an owner has gone; then the lease runs.
    assert all_gone(own, set(), 20 + LEASE_S) == {}


def test_a_task_that_cannot_be_cancelled_is_ended_by_the_cluster(
    cluster: Cluster, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, own := "deaf")
    monkeypatch.setattr(_ray_carrier, "_CLOSE_S", 2.0)
    spec = spec_of(cluster, lease_s=LEASE_S + 1)  # a connection that no other test has
    events = RayExecutor(spec, "entries:by_tag").run([job("deaf", "hangs_hard")])
    next(event for event in events if isinstance(event, StageEntered))
    (worker,) = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().startswith(b"ray::deaf")
    ]
    os.kill(worker, signal.SIGSTOP)
    events.close()
    assert all_gone(own, set(), 20 + LEASE_S) == {}


def test_a_daemon_that_is_killed_costs_its_jobs_a_try(
    cluster: Cluster, mark: str, job: Make, tmp_path: Path
) -> None:
    jobs = [job(f"m{n}", "waits_for_go") for n in range(3)]
    killed, done = False, {}
    for event in RayExecutor(spec_of(cluster), "entries:by_tag").run(jobs):
        if isinstance(event, StageEntered) and not killed:
            killed = True
            for pid in daemons_of(mark):
                os.kill(pid, signal.SIGKILL)
            (tmp_path / "models" / "go").touch()
        if isinstance(event, Finished):
            done[event.result.name] = event.result
    assert {result.status for result in done.values()} == {"ok"}
    assert max(result.attempts for result in done.values()) == 2
    assert all_gone(mark, resident(mark), 2) == {}


def test_a_slow_job_is_started_elsewhere_and_the_first_result_counts(
    cluster: Cluster, mark: str, job: Make, tmp_path: Path
) -> None:
    spec = spec_of(cluster, writable=[str(tmp_path)])  # the first one leaves a mark
    rules = Rules(1, "entries:by_tag", 3, {"a": Past(0.2)}, slow_s=1.0)
    carrier = RayCarrier(spec, _options(cluster))
    events = list(Dispatcher(carrier, rules).run([job("a", "slow_at_first")]))
    nodes = [event for event in events if isinstance(event, Started)]
    assert [event.attempt for event in nodes] == [1, 2]
    *_, last = [event for event in events if isinstance(event, Finished)]
    assert (last.result.status, last.result.attempts) == ("ok", 2)
    assert [path.name for path in (tmp_path / ".staging" / "a").iterdir()] == ["a.onnx"]
    assert "the second" in (tmp_path / "models" / "a" / "log.txt").read_text()
    assert {path.name for path in (tmp_path / ".staging").iterdir()} == {"a", "begun"}
    assert all_gone(mark, resident(mark), 0.5) == {}


def test_a_job_that_no_node_can_hold_says_so(cluster: Cluster, job: Make) -> None:
    result = run(spec_of(cluster, cpus=64, workers=1, wait_s=1.0), [job("a")])["a"]
    assert (result.status, code_of(result)) == ("crashed", "NO_NODE")
    assert result.error is not None
    assert "no node has what the job asks for (CPU 64, memory" in result.error.message


def test_latencies_have_the_node_that_is_named(cluster: Cluster, job: Make) -> None:
    spec = spec_of(cluster)
    for place in ("place=n1", "n0", cluster.ids[1]):
        benchmark = BenchmarkSpec(providers=["cpu"], nodes=[place])
        (wanted,) = [
            one.id
            for one in link_of(spec, _options(cluster)).nodes
            if place in {*one.resources, f"place={one.labels.get('place')}", one.id}
        ]
        events = RayExecutor(
            spec.model_copy(update={"workers": 1}), "entries:by_tag", benchmark
        ).run([job(f"a{place}".replace("=", "-")), job(f"b{place}".replace("=", "-"))])
        results = [event.result for event in events if isinstance(event, Finished)]
        assert [result.node and result.node.id for result in results] == [wanted, wanted]


def test_a_node_with_other_versions_is_refused_before_anything_runs(
    cluster: Cluster, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {**_nodes.here(), "onnx": "0.0.1"}
    monkeypatch.setattr("converter.plugins.executors._nodes.here", lambda: here)
    installed = _installed("onnx")
    with pytest.raises(ConfigError) as caught:
        plugin.check(spec_of(cluster))
    assert len(caught.value.problems) == 2
    for problem in caught.value.problems:
        assert problem.key == "executor.allow_skew"
        assert f"other versions than this machine: onnx {installed} (here 0.0.1)" in problem.message
    plugin.check(spec_of(cluster, allow_skew=True))
    node = run(spec_of(cluster, allow_skew=True), [job("a")])["a"].node
    assert node is not None
    assert node.packages == {"onnx": installed}


def _installed(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def test_an_address_that_nobody_listens_at_is_refused_at_once() -> None:
    before = time.monotonic()
    with pytest.raises(ConfigError, match=r"found '127\.0\.0\.1:9', but Ray does not connect"):
        plugin.check(ExecutorSpec(name="ray", address="127.0.0.1:9"))
    assert time.monotonic() - before < 20


def test_a_node_that_is_killed_costs_its_jobs_a_try(
    doomed: Cluster, mark: str, job: Make, tmp_path: Path
) -> None:
    jobs = [job(f"m{n}", "waits_for_go") for n in range(8)]
    begun: set[str] = set()
    done: list[JobResult] = []
    for event in RayExecutor(spec_of(doomed), "entries:by_tag").run(jobs):
        if isinstance(event, StageEntered) and event.stage == "load":
            begun.add(event.name)
        if len(begun) == 4 and not (tmp_path / "models" / "go").exists():
            os.kill(doomed.raylets[1], signal.SIGKILL)
            (tmp_path / "models" / "go").touch()
        if isinstance(event, Finished):
            done.append(event.result)
    assert sorted(result.name for result in done) == sorted(one.name for one in jobs)
    assert {result.status for result in done} == {"ok"}
    # Nothing of the dead node is left once its daemon has been alone for its lease.
    assert all_gone(mark, resident(mark), LEASE_S + 1) == {}


@pytest.mark.parametrize("helper_too", [False, True], ids=["driver", "driver and helper"])
def test_a_driver_that_is_killed_leaves_no_process_after_the_lease(
    cluster: Cluster, job: Make, helper_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, own := f"driver-{helper_too}")
    jobs = [job("a", "hangs_with_grandchild"), job("b", "hangs_hard")]
    with driver.running(spec_of(cluster), jobs) as process:
        helper = [pid for pid, line in marked(own).items() if "_ray_helper" in line]
        assert len(helper) == 1
        process.kill()
        if helper_too:
            os.kill(helper[0], signal.SIGKILL)
    # Ray takes some seconds to see that an owner has gone; then the lease runs.
    assert all_gone(own, set(), 20 + LEASE_S) == {}


def test_a_head_that_is_killed_ends_the_run_with_words(
    doomed: Cluster, mark: str, job: Make
) -> None:
    events = RayExecutor(spec_of(doomed), "entries:by_tag").run([job("a", "hangs")])
    next(event for event in events if isinstance(event, StageEntered))
    for pid in doomed.head:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(OSError, match="the connection to Ray was lost"):
        list(events)
    assert all_gone(mark, resident(mark), 20 + LEASE_S) == {}
