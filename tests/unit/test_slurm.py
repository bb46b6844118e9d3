"""Tasks of Slurm, without Slurm: what sbatch is asked for, files, and what becomes of tasks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import ConfigError
from converter.model.job import Job
from converter.plugins.executors import _nodes, _slurm_carrier, _slurm_queue, slurm
from converter.plugins.executors._slurm_carrier import SlurmCarrier
from converter.plugins.executors._slurm_files import Heart, Lease, Record, Tail
from converter.plugins.executors._slurm_options import Needs, Options, minutes, parameters
from converter.plugins.executors._slurm_queue import Parameters, RefusedError, SlurmQueue
from converter.processes.carrier import Message, Work


def spec_of(**options: object) -> ExecutorSpec:
    return ExecutorSpec(**{"name": "slurm", "cluster": "local", **options})


def asked(needs: Needs = Needs(), **options: object) -> dict[str, object]:  # noqa: B008
    spec = spec_of(**options)
    nodes = {"n0": False, "n1": False, "n2": True}
    return parameters(spec, Options.model_validate(spec.own_options), needs, nodes)


def test_sbatch_is_asked_for_what_is_configured() -> None:
    found = asked(partition="long", account="vision", sbatch={"mail-type": "FAIL"}, timeout_s=600)
    assert found == {
        "job_name": "converter",
        "partition": "long",
        "account": "vision",
        "cpus_per_task": 1,
        "time": 16,
        "no_requeue": True,
        "mail_type": "FAIL",
    }


@pytest.mark.parametrize(
    ("options", "memory"),
    [({}, None), ({"memory_mb": 3000}, "4024M"), ({"mem_mb": 500, "memory_mb": 3000}, "500M")],
)
def test_memory_is_that_of_the_job_and_its_libraries(
    options: dict[str, object], memory: str | None
) -> None:
    assert asked(**options).get("mem") == memory


def test_a_gpu_is_asked_for_where_one_is_needed() -> None:
    assert asked(Needs(gpu=True), gres="gpu:a100:1")["gres"] == "gpu:a100:1"
    assert "gres" not in asked(gres="gpu:a100:1")


def test_nodes_are_avoided() -> None:
    assert asked(Needs(unfit=("n2",), avoid=("n0",)))["exclude"] == "n0,n2"


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("n1", {"nodelist": "n1"}),
        ("a100", {"constraint": "a100"}),
        ("", {}),
        ("n1 n2", {"nodelist": "n2"}),  # where nothing runs
        ("n1 n0", {"nodelist": "n1"}),  # with several, sbatch would take both
        ("a100 h100", {"constraint": "a100|h100"}),
        ("n1 a100", {"constraint": "a100"}),
        ("n2 a100", {"nodelist": "n2"}),
    ],
)
def test_latencies_have_a_node_for_themselves(places: str, expected: dict[str, str]) -> None:
    found = asked(Needs(places=tuple(places.split())), cpus=4)
    assert found["exclusive"] is True
    assert "cpus_per_task" not in found
    place = {name: found[name] for name in ("nodelist", "constraint") if name in found}
    assert place == expected


def test_latencies_go_to_another_of_their_nodes_where_one_was_lost() -> None:
    assert asked(Needs(places=("n2", "n1"), avoid=("n2",)))["nodelist"] == "n1"


def test_slurm_may_begin_again_where_it_is_told_to() -> None:
    found = asked(sbatch={"requeue": True})
    assert found["requeue"] is True
    assert "no_requeue" not in found


def test_a_task_has_the_time_of_its_job_and_more() -> None:
    assert minutes(spec_of(timeout_s=1800, grace_s=5), Options()) == 36
    assert minutes(spec_of(), Options(time_min=7)) == 7


def test_a_task_that_would_end_before_its_job_may_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm.environment, "version", lambda package: "1.5.4")
    with pytest.raises(ConfigError, match=r"executor\.time_min: found 20, expected at least 35"):
        slurm.check(spec_of(time_min=20))
    slurm.check(spec_of(time_min=36))


def test_what_is_not_installed_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.environment, "version", lambda package: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError) as caught:
        slurm.check(spec_of(cluster="slurm"))
    first, second = caught.value.problems
    assert "onnx-zoo-converter[slurm]" in first.hint
    assert second.message == "the commands of Slurm (sbatch, srun) are not on PATH"


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho {name} "$@" >>{folder}/calls\n{script}\n')
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    return folder


def test_what_slurm_says_of_a_task_that_it_refuses_is_said(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm.environment, "version", lambda package: "1.5.4")
    command(commands, "srun", "")
    command(commands, "sbatch", "echo 'allocation failure: Invalid partition' >&2; exit 1")
    with pytest.raises(ConfigError, match="allocation failure: Invalid partition"):
        slurm.check(spec_of(cluster="slurm", partition="of another site"))
    called = (commands / "calls").read_text()
    assert "sbatch --test-only --job-name=converter --partition=of another site" in called
    assert "--no-requeue --wrap=true" in called


def test_nodes_are_told_with_what_runs_there(commands: Path) -> None:
    command(commands, "sinfo", "printf 'n1 allocated\\nn0 idle\\nn0 idle\\nn2 idle~\\nn3 idle*\\n'")
    assert _slurm_queue.nodes() == {"n0": True, "n1": False, "n2": True, "n3": False}


def test_states_are_those_of_squeue(commands: Path, tmp_path: Path) -> None:
    queue = SlurmQueue(tmp_path, 10, [])
    command(
        commands,
        "squeue",
        "echo '7_0|RUNNING|None'; echo '7_1|OUT_OF_MEMORY|'; echo '8|PENDING|(a | b)'",
    )
    assert queue.states(["7_0", "7_1", "8", "6"]) == {
        "7_0": "RUNNING",
        "7_1": "OUT_OF_MEMORY",
        "8": "PENDING",
    }
    assert queue.reasons["8"] == "(a | b)"
    assert (commands / "calls").read_text().endswith("--format=%i|%T|%r --jobs=6,7,8\n")
    command(
        commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    )
    assert queue.states(["6"]) == {}
    command(commands, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert queue.states(["6"]) is None


def test_many_tasks_are_cancelled_by_few_commands(commands: Path, tmp_path: Path) -> None:
    command(commands, "scancel", "")
    SlurmQueue(tmp_path, 10, []).cancel([f"7_{n}" for n in range(1001)])
    assert (commands / "calls").read_text().count("scancel") == 3


def test_a_record_is_read_as_it_grows(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "record")
    assert tail.read() == []
    record = Record(tmp_path / "record")
    record.write({"stage": "load"})
    assert tail.read() == [{"stage": "load"}]
    with (tmp_path / "record").open("ab") as stream:
        stream.write(b'{"stage": "exp')
        stream.flush()
        assert tail.read() == []
        stream.write(b'ort"}\n')
    assert tail.read() == [{"stage": "export"}]
    assert tail.read() == []


def test_an_attempt_is_begun_once(tmp_path: Path) -> None:
    Record(tmp_path / "record")
    with pytest.raises(FileExistsError):
        Record(tmp_path / "record")


def test_a_lease_lasts_as_long_as_the_driver_is_heard(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "heart", 0.5)
    lease = Lease(tmp_path / "heart", 3, 0.5)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        lease.look()
        assert not lease.expired
        time.sleep(0.02)
    heart.cancel([2])
    time.sleep(0.05)
    lease.look()
    assert not lease.cancelled
    heart.cancel([3])
    time.sleep(0.05)
    lease.look()
    assert lease.cancelled
    heart.close()
    time.sleep(0.6)
    lease.look()
    assert lease.expired


def test_a_file_server_that_hangs_costs_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "heart"
    path.write_text(json.dumps({"beat": 1, "cancelled": []}))
    lease = Lease(path, 1, 0.3)
    lease.look()
    time.sleep(0.1)
    content = path.read_text()

    def hanging(self: Path) -> str:
        time.sleep(0.4)
        return content

    monkeypatch.setattr(Path, "read_text", hanging)
    lease.look()
    assert not lease.expired


def test_a_task_whose_driver_has_gone_does_not_begin(tmp_path: Path) -> None:
    path = tmp_path / "heart"
    assert not Lease(path, 1, 0.3).begins()
    path.write_text(json.dumps({"beat": 1, "cancelled": [2]}))
    assert Lease(path, 1, 0.3).begins()
    assert not Lease(path, 2, 0.3).begins()
    os.utime(path, (0, 0))
    before = time.monotonic()
    assert not Lease(path, 1, 0.3).begins()
    assert time.monotonic() - before > 0.3


def test_a_clock_that_is_wrong_does_not_keep_a_task_from_its_work(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "heart", 0.5)
    os.utime(tmp_path / "heart", (0, 0))
    assert Lease(tmp_path / "heart", 1, 0.5).begins()
    heart.close()


class Fake:
    """A queue that does what a test says."""

    def __init__(self) -> None:
        self.arrays: list[tuple[int, Parameters]] = []
        self.known: dict[str, str] | None = {}
        self.cancelled: list[str] = []
        self.refuses: list[str] = []
        self.reasons: dict[str, str] = {}
        self.most = 1000

    def submit(self, calls: Sequence[bytes], parameters: Parameters) -> list[str]:
        self.arrays.append((len(calls), parameters))
        if len(calls) > self.most:
            raise RefusedError("Batch job submission failed: Invalid job array specification")
        if self.refuses:
            raise RefusedError(self.refuses.pop())
        made = [f"{len(self.arrays)}_{n}" for n in range(len(calls))]
        self.known = {**(self.known or {}), **dict.fromkeys(made, "PENDING")}
        return made

    def states(self, ids: Sequence[str]) -> dict[str, str] | None:
        return self.known

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids
        if self.known is not None:
            self.known |= dict.fromkeys(ids, "CANCELLED")

    def last_words(self, id_: str) -> str:
        return "slurmstepd: error: something"

    def close(self) -> None:
        pass


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(_slurm_carrier, "LocalQueue", lambda *arguments: fake)
    monkeypatch.setattr(_slurm_carrier, "SlurmQueue", lambda *arguments: fake)
    monkeypatch.setattr(_slurm_carrier, "_SETTLE_S", 0.0)
    monkeypatch.setattr(_slurm_carrier, "_LOCAL_POLL_S", 0.0)
    monkeypatch.setattr(_slurm_carrier, "_AGAIN_S", 0.0)
    return fake


def work(folder: Path, name: str = "a", **changes: object) -> Work:
    job = Job(
        name=name,
        source={"registry": "none"},
        inputs={},
        opset=17,
        exporters=["torchscript"],
        model_dir=str(folder / "models" / name),
        staging_dir=str(folder / ".staging" / name),
    )
    return Work(job, 1, "module:function", **changes)  # type: ignore[arg-type]


def carrier_of(**options: object) -> SlurmCarrier:
    spec = spec_of(**options)
    return SlurmCarrier(spec, Options.model_validate(spec.own_options))


def begun(folder: Path, key: int, node: str = "n0") -> Record:
    """What a task writes first."""
    (home,) = (folder / ".staging").glob(".tasks.*")
    record = Record(home / f"{key}.jsonl")
    versions = dict(_nodes.here())
    machine = {"name": "host", "cpu": "A processor", "cores": 4, "gpus": []}
    machine |= {"python": versions.pop("python"), "packages": versions}
    record.write({"machine": machine, "id": node, "gpus": []})
    return record


def polled(carrier: SlurmCarrier) -> list[tuple[int, Message]]:
    return [one for _ in range(3) for one in carrier.poll(0.0)]


def test_what_waits_is_submitted_in_few_arrays(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(batch=3)
    with carrier.opened():
        for key in range(5):
            carrier.start(key, work(tmp_path, f"m{key}"))
        carrier.start(5, work(tmp_path, "other", avoid=frozenset({"n1"})))
        assert carrier.poll(0.0) == []
        assert [count for count, _ in queue.arrays] == [3, 2, 1]
        assert queue.arrays[2][1]["exclude"] == "n1"
        carrier.close(range(6))
    assert list((tmp_path / ".staging").iterdir()) == []


def test_an_array_that_is_too_large_is_submitted_in_parts(queue: Fake, tmp_path: Path) -> None:
    queue.most = 2
    carrier = carrier_of()
    with carrier.opened():
        for key in range(5):
            carrier.start(key, work(tmp_path, f"m{key}"))
        assert carrier.poll(0.0) == []
        assert [count for count, _ in queue.arrays] == [5, 2, 2, 1]
        carrier.start(5, work(tmp_path, "later"))
        carrier.poll(0.0)
        assert queue.arrays[-1][0] == 1
        carrier.close(range(6))


def test_a_limit_that_our_own_tasks_fill_is_waited_for(
    queue: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = carrier_of(wait_s=0.05)
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        queue.refuses = ["QOSMaxSubmitJobPerUserLimit"] * 100
        carrier.start(1, work(tmp_path, "b"))
        for _ in range(3):
            time.sleep(0.06)
            assert carrier.poll(0.0) == []
        queue.refuses = []
        time.sleep(0.06)
        carrier.poll(0.0)
        assert len(queue.known or {}) == 2
        carrier.close([0, 1])


def test_what_a_task_waits_for_is_said_once(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(wait_s=0.05)
    with carrier.opened():
        for key in range(2):
            carrier.start(key, work(tmp_path, f"m{key}"))
        carrier.poll(0.0)
        queue.reasons = dict.fromkeys(queue.known or {}, "Resources")
        time.sleep(0.06)
        ((_, said),) = polled(carrier)
        assert said == {"waits": "its task waits in the queue of Slurm: Resources"}
        queue.reasons = dict.fromkeys(queue.known or {}, "PartitionTimeLimit")
        found = polled(carrier)
        assert [key for key, _ in found] == [0, 1]
        assert found[0][1]["no_node"] == (
            "Slurm does not start a task for it (PartitionTimeLimit): lower executor.time_min, "
            "or choose another executor.partition"
        )
        assert sorted(queue.cancelled) == ["1_0", "1_1"]


def test_a_controller_that_stays_away_ends_the_run(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(wait_s=0.05)
    with carrier.opened():
        queue.refuses = ["Unable to contact slurm controller (connect failure)"] * 100
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        time.sleep(0.1)
        with pytest.raises(OSError, match="Slurm does not answer: Unable to contact slurm"):
            polled(carrier)


def test_the_last_words_of_a_task_are_its_own(tmp_path: Path) -> None:
    queue = SlurmQueue(tmp_path, 10, [])
    text = "RuntimeError: no environment\nsrun: error: n1: task 0: Exited with exit code 1\n"
    (tmp_path / "7_0_log.err").write_text(text)
    assert queue.last_words("7") == "RuntimeError: no environment"


def test_what_a_cluster_refuses_for_now_is_said_once(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(wait_s=60.0)
    with carrier.opened():
        queue.refuses = ["Unable to contact slurm controller"] * 100
        carrier.start(0, work(tmp_path))
        words = "the cluster takes no task for it now: Unable to contact slurm controller"
        assert polled(carrier) == [(0, {"waits": words})]


def test_variables_that_would_change_a_task_are_kept_from_sbatch(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(commands, "sbatch", f"env > {commands}/environ")
    for name in ("SBATCH_EXPORT", "SLURM_MEM_PER_CPU", "SLURM_CONF", "SBATCH_QOS"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SBATCH_PARTITION", "x")
    before = dict(os.environ)
    assert _slurm_queue.refusal({"partition": "gpu"}) == ""
    seen = dict(line.split("=", 1) for line in (commands / "environ").read_text().splitlines())
    assert {"SLURM_CONF", "SBATCH_QOS"} <= seen.keys()
    assert not {"SBATCH_EXPORT", "SLURM_MEM_PER_CPU", "SBATCH_PARTITION"} & seen.keys()
    assert dict(os.environ) == before


def test_an_attempt_says_what_happens(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of()
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        assert not carrier.idle()
        # As it was before it began: an answer that is older is no news.
        record, queue.known = begun(tmp_path, 0), None
        record.write({"pid": 7})
        record.write({"alive": True})
        (_, node), pid = polled(carrier)
        assert node["node"]["id"] == "n0"
        assert pid == (0, {"pid": 7})
        record.write({"result": {"name": "a"}})
        assert polled(carrier) == [(0, {"result": {"name": "a"}})]
        assert carrier.idle()
    assert queue.cancelled == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("NODE_FAIL", r"the task 1_0 on n0 ended without a result \(NODE_FAIL\)"),
        ("OUT_OF_MEMORY", r"\(OUT_OF_MEMORY, Slurm's limit of memory: raise executor.mem_mb\)"),
        ("TIMEOUT", r"\(TIMEOUT, Slurm's limit of time: raise executor.time_min\)"),
        (None, r"\(Slurm does not know it any more\): slurmstepd: error: something"),
        ("REQUEUED", "the task 1_0 on n0 was put back into the queue"),
        ("PENDING", "the task 1_0 on n0 was put back into the queue"),
    ],
)
def test_a_task_that_ended_without_a_word_is_lost(
    queue: Fake, tmp_path: Path, state: str | None, words: str
) -> None:
    carrier = carrier_of()
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        queue.known = {"1_0": "RUNNING"}
        begun(tmp_path, 0)
        assert [list(message) for _, message in polled(carrier)] == [["node"]]
        queue.known = {"1_0": state} if state else {}
        ((key, message),) = polled(carrier)
        assert key == 0
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(message["node_lost"])
    assert queue.cancelled == ["1_0"]


def test_a_result_that_was_written_at_the_last_moment_counts(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of()
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        record, queue.known = begun(tmp_path, 0), {"1_0": "RUNNING"}
        polled(carrier)
        record.write({"result": {}})
        queue.known = {"1_0": "COMPLETED"}
        assert polled(carrier) == [(0, {"result": {}})]


def test_a_cluster_that_does_not_answer_loses_nothing(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of()
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        queue.known = None
        assert polled(carrier) == []
        queue.known = {}
        carrier.close([0])


def test_a_task_that_falls_silent_is_lost(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(lease_s=0.1)
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        begun(tmp_path, 0)
        queue.known = {"1_0": "RUNNING"}
        polled(carrier)
        time.sleep(0.25)
        ((_, message),) = polled(carrier)
        assert "was not heard of for" in message["node_lost"]


def test_a_job_goes_back_to_a_node_where_there_is_no_other(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of()
    queue.refuses = ["Requested node configuration is not available"]
    with carrier.opened():
        carrier.start(0, work(tmp_path, avoid=frozenset({"n0"})))
        assert polled(carrier) == []
        assert [asked.get("exclude") for _, asked in queue.arrays] == ["n0", None]
        carrier.close([0])


def test_a_task_does_not_wait_for_ever_for_another_node(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(wait_s=0.05)
    with carrier.opened():
        carrier.start(0, work(tmp_path, avoid=frozenset({"n0"})))
        carrier.poll(0.0)
        time.sleep(0.1)
        assert polled(carrier) == []
        assert queue.cancelled == ["1_0"]
        assert [asked.get("exclude") for _, asked in queue.arrays] == ["n0", None]
        carrier.close([0])


def test_a_task_that_is_refused_for_long_is_given_up(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(wait_s=0.05)
    queue.refuses = ["QOSMaxSubmitJobPerUserLimit"] * 100
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        assert [list(message) for _, message in carrier.poll(0.0)] == [["waits"]]
        time.sleep(0.1)
        ((_, message),) = polled(carrier)
        words = "the cluster takes no task for it: QOSMaxSubmitJobPerUserLimit"
        assert message == {"no_node": words}


def test_a_task_that_never_began_is_cancelled_in_the_queue(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of()
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        carrier.close([0])
        assert queue.cancelled == ["1_0"]


def test_as_wide_as_what_runs(queue: Fake, tmp_path: Path) -> None:
    carrier = carrier_of(cluster="slurm", batch=2)
    assert carrier_of(cluster="local", workers=3).workers() == 3
    assert carrier.workers() == 0
    with carrier.opened():
        for key in range(2):
            carrier.start(key, work(tmp_path, f"m{key}"))
        carrier.poll(0.0)
        begun(tmp_path, 0)
        polled(carrier)
        assert carrier.workers() == 1
        carrier.close(range(2))


def test_latencies_are_taken_on_the_node_that_is_named(queue: Fake, tmp_path: Path) -> None:
    benchmark = BenchmarkSpec(providers=["cpu"], nodes=["bench"])
    spec = spec_of(workers=1)
    carrier = SlurmCarrier(spec, Options.model_validate(spec.own_options), benchmark)
    with carrier.opened():
        carrier.start(0, work(tmp_path))
        carrier.poll(0.0)
        ((_, found),) = queue.arrays
        assert (found["exclusive"], found["constraint"]) == (True, "bench")
        carrier.close([0])


def test_without_its_commands_nothing_runs_on_this_machine_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_slurm_queue, "is_there", lambda: False)
    with pytest.raises(ConfigError, match="not on PATH"):
        slurm.check(ExecutorSpec.model_validate({"name": "slurm"}))
    assert not Options(cluster="local").is_slurm
