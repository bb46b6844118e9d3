"""The order of attempts, with a carrier that plays a script in place of processes and nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from converter.layout import delivery
from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import ErrorRecord, JobResult, Latency, Spent
from converter.plugins.executors import Event, Finished, GivenUp, Past, Started, Tick
from converter.plugins.executors import _dispatch as dispatch
from converter.plugins.executors._dispatch import Dispatcher, Rules
from converter.processes.carrier import Message, Work

NODE = {"name": "gpu01", "address": "10.0.0.1", "cpu": "EPYC", "cores": 8}


class Scripted:
    """Plays for each attempt of a job the next of its scripts; ``...`` in one says no more."""

    def __init__(self, scripts: dict[str, list[list[Any]]], *, nodes: bool = True, slots: int = 8):
        self.several_nodes = nodes
        self.scripts = scripts
        self.slots = slots
        self.begun: list[Work] = []
        self.closed: list[int] = []
        self._said: dict[int, deque[Any]] = {}

    def opened(self) -> AbstractContextManager[None]:
        return nullcontext()

    def room(self) -> bool:
        return len(self._said) < self.slots

    def idle(self) -> bool:
        return self.room()

    def start(self, key: int, work: Work) -> None:
        self.begun.append(work)
        self._said[key] = deque(self.scripts[work.job.name].pop(0))
        delivery.clear_staging(work.job)
        Path(work.job.staging_dir, f"of attempt {work.attempt}").touch()

    def poll(self, timeout_s: float) -> list[tuple[int, Message]]:
        found: list[tuple[int, Message]] = []
        for key, said in list(self._said.items()):
            if not said or said[0] is ...:
                continue
            message = said.popleft()
            found.append((key, message))
            if {"result", "lost", "node_lost", "unsuited", "no_node"} & message.keys():
                del self._said[key]
        return found

    def close(self, keys: Collection[int]) -> None:
        self.closed += keys
        for key in keys:
            self._said.pop(key, None)


def on(node: str) -> Message:
    return {"node": {**NODE, "id": node}}


def ended(status: str = "ok", code: str | None = None, **more: Any) -> Message:
    error = None
    if code is not None:
        error = ErrorRecord(stage=None, code=Code(code), message="killed")
    result = JobResult(name="m", status="ok", **more)
    told = result.model_copy(update={"status": status, "error": error})
    return {"result": told.model_dump(mode="json")}


SIGNAL = ended("crashed", "SIGNAL")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "models" / "m").mkdir(parents=True)
    return Job(
        name="m",
        source={"registry": "none"},
        inputs={},
        opset=17,
        exporters=["torchscript"],
        model_dir=str(tmp_path / "models" / "m"),
        staging_dir=str(tmp_path / ".staging" / "m"),
    )


def played(carrier: Scripted, jobs: Sequence[Job], rules: Rules) -> tuple[JobResult, list[Event]]:
    events = [e for e in Dispatcher(carrier, rules).run(jobs) if not isinstance(e, Tick)]
    (result,) = [event.result for event in events if isinstance(event, Finished)]
    return result, events


def test_a_lost_node_is_no_try_of_the_jobs_own(job: Job) -> None:
    lost = [on("a"), {"pid": 1}, {"node_lost": "the node a was lost"}]
    killed = [on("b"), {"pid": 2}, SIGNAL]
    carrier = Scripted({"m": [lost, lost, killed, killed]})
    result, _ = played(carrier, [job], Rules(1, node_retries=3))
    assert result.error is not None
    assert (result.status, result.error.code, result.attempts) == ("crashed", "SIGNAL", 4)
    assert [work.attempt for work in carrier.begun] == [1, 2, 3, 4]
    assert [work.avoid for work in carrier.begun[:3]] == [set(), {"a"}, {"a"}]


def test_a_job_whose_nodes_are_lost_again_and_again_ends(job: Job) -> None:
    lost = [on("a"), {"stage": "load"}, {"node_lost": "the node a was lost"}]
    result, _ = played(Scripted({"m": [lost] * 3}), [job], Rules(5, node_retries=2))
    assert result.error is not None
    assert (result.error.code, result.error.stage, result.attempts) == ("NO_NODE", "load", 3)
    assert result.error.message == "the node a was lost; 2 nodes were lost before"
    assert "The cluster's own log" in result.error.hint


def test_a_row_tells_of_each_lost_try_where_it_was_and_why(job: Job, clock: list[float]) -> None:
    spent = Spent(started_at="2026-01-01T00:00:00Z", seconds=2.0, cpu_seconds=3.0)
    lost = [on("a"), {"pid": 1}, {"node_lost": "the node a was lost"}]
    killed = [on("b"), {"pid": 2}, ended("crashed", "SIGNAL", spent=spent)]
    carrier = Scripted({"m": [lost, killed, [{"unsuited": "other versions"}], [on("c"), ended()]]})
    result, events = played(carrier, [job], Rules(1, node_retries=1))
    assert result.status == "ok"
    first, second, third = result.other_tries
    assert (first.attempt, first.node, first.reason) == (1, "gpu01", "the node a was lost")
    # What the runner saw of it; nobody knows the time of its processors.
    assert first.spent is not None
    assert (first.spent.seconds > 0, first.spent.cpu_seconds) == (True, None)
    assert (second.attempt, second.reason, second.spent) == (2, "SIGNAL: killed", spent)
    assert (third.attempt, third.node, third.spent) == (3, "", None)
    told = [event.lost for event in events if isinstance(event, GivenUp)]
    assert told == result.other_tries
    log = Path(job.model_dir, delivery.LOG).read_text()
    assert [line for line in log.splitlines() if line] == [
        "---- attempt 1 on gpu01 was given up: the node a was lost ----",
        "---- attempt 2 on gpu01 was given up: SIGNAL: killed ----",
        "---- attempt 3 was given up: other versions ----",
    ]


def test_a_node_that_gets_no_files_costs_a_try_elsewhere(job: Job) -> None:
    stranded = {**ended("failed", "IO"), "stranded": True}
    carrier = Scripted({"m": [[on("a"), {"pid": 1}, stranded], [on("b"), ended()]]})
    result, _ = played(carrier, [job], Rules(0, node_retries=1))
    assert (result.status, result.attempts) == ("ok", 2)
    assert carrier.begun[1].avoid == {"a"}
    assert [one.reason for one in result.other_tries] == ["IO: killed"]


def test_where_no_node_gets_the_files_the_last_one_says_why(job: Job) -> None:
    stranded = {**ended("failed", "IO"), "stranded": True}
    result, _ = played(Scripted({"m": [[on("a"), stranded]] * 3}), [job], Rules(5, node_retries=2))
    assert result.error is not None
    assert (result.error.code, result.attempts, len(result.other_tries)) == ("IO", 3, 2)


def test_what_a_full_store_refuses_is_not_tried_again(job: Job) -> None:
    full = {**ended("failed", "IO"), "stranded": False}
    result, _ = played(Scripted({"m": [[on("a"), full]]}), [job], Rules(5, node_retries=2))
    assert (result.status, result.attempts) == ("failed", 1)


def test_what_the_last_of_several_lost_tries_took_is_that_of_the_row(
    job: Job, clock: list[float]
) -> None:
    lost = [on("a"), {"pid": 1}, {"node_lost": "the node a was lost"}]
    result, _ = played(Scripted({"m": [lost, lost]}), [job], Rules(0, node_retries=1))
    assert [one.attempt for one in result.other_tries] == [1]
    assert result.spent is not None
    assert result.spent.cpu_seconds is None


def test_a_node_that_does_not_suit_costs_nothing(job: Job) -> None:
    unsuited = [{"unsuited": "other versions"}]
    carrier = Scripted({"m": [*[unsuited] * 5, [on("b"), ended()]]})
    result, _ = played(carrier, [job], Rules(0))
    assert (result.status, result.attempts) == ("ok", 6)


def test_a_job_that_gets_no_node_is_not_tried_again(job: Job) -> None:
    result, _ = played(Scripted({"m": [[{"no_node": "no node has it"}]]}), [job], Rules(3, None, 3))
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("NO_NODE", "no node has it")


def test_each_try_on_several_nodes_has_a_staging_folder_of_its_own(job: Job) -> None:
    lost = [on("a"), {"node_lost": "gone"}]
    carrier = Scripted({"m": [lost, [on("b"), ended()]]})
    result, _ = played(carrier, [job], Rules(0, node_retries=1))
    places = {work.job.staging_dir for work in carrier.begun}
    assert len(places) == 2
    assert job.staging_dir not in places
    assert result.status == "ok"
    assert [path.name for path in Path(job.staging_dir).iterdir()] == ["of attempt 2"]
    assert [path.name for path in Path(job.staging_dir).parent.iterdir()] == ["m"]


def test_a_result_and_its_latencies_say_where_they_were_made(job: Job) -> None:
    timed = Latency(provider="cpu", status="measured")
    carrier = Scripted({"m": [[on("a"), {"pid": 7}, ended(latency=[timed])]]})
    result, events = played(carrier, [job], Rules(0))
    assert result.node is not None
    assert (result.node.id, result.node.name) == ("a", "gpu01")
    assert [entry.node for entry in result.latency] == [result.node]
    assert events[0] == Started("m", 1, 7, "gpu01")


def test_here_a_result_names_no_node(job: Job) -> None:
    result, events = played(Scripted({"m": [[{"pid": 7}, ended()]]}, nodes=False), [job], Rules(0))
    assert result.node is None
    assert events[0] == Started("m", 1, 7)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only number is the time; each look at it takes a second."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(dispatch.time, "monotonic", monotonic)
    return now


def test_a_slow_job_is_started_elsewhere_and_the_first_result_counts(
    job: Job, clock: list[float]
) -> None:
    slow: list[Any] = [on("a"), {"pid": 1}, ...]
    carrier = Scripted({"m": [slow, [on("b"), {"pid": 2}, ended()]]})
    rules = Rules(0, past={"m": Past(10.0, peak_bytes=5)}, slow_s=5)
    result, _ = played(carrier, [job], rules)
    assert (result.status, result.attempts) == ("ok", 2)
    assert result.node is not None
    assert result.node.id == "b"
    assert clock[0] > 30  # three times what it took
    first, second = carrier.begun
    assert (first.peak_bytes, second.avoid) == (5, {"a"})
    assert second.job.model_dir != job.model_dir
    assert carrier.closed == [0]
    assert [one.reason for one in result.other_tries] == ["attempt 2 was faster"]
    assert [path.name for path in Path(job.staging_dir).parent.iterdir()] == ["m"]


@pytest.mark.parametrize("loss", [SIGNAL, {"lost": ""}, {"node_lost": "gone"}])
def test_of_two_that_run_a_lost_one_is_dropped(job: Job, clock: list[float], loss: Message) -> None:
    slow: list[Any] = [on("a"), {"pid": 1}, *[{"stage": "load"}] * 60, ended()]
    carrier = Scripted({"m": [slow, [on("b"), {"pid": 2}, loss]]})
    rules = Rules(3, past={"m": Past(10.0)}, slow_s=0, node_retries=3)
    result, _ = played(carrier, [job], rules)
    assert (result.status, result.attempts) == ("ok", 1)
    assert [one.attempt for one in result.other_tries] == [2]
    assert result.node is not None
    assert result.node.id == "a"


def test_whether_a_node_is_idle_is_asked_once_a_round(job: Job, tmp_path: Path) -> None:
    """It takes a look at all that runs: once for each of thousands would be their square."""

    class Counting(Scripted):
        asked, polls = 0, 0

        def idle(self) -> bool:
            self.asked += 1
            return True

        def poll(self, timeout_s: float) -> list[tuple[int, Message]]:
            self.polls += 1
            return super().poll(timeout_s)

    names = [f"m{number}" for number in range(20)]
    jobs = [
        job.model_copy(update={"name": name, "staging_dir": str(tmp_path / ".staging" / name)})
        for name in names
    ]
    carrier = Counting({name: [[on("a"), {"pid": 1}, ended()]] for name in names}, slots=20)
    list(Dispatcher(carrier, Rules(0)).run(jobs))
    assert carrier.asked <= carrier.polls


def test_nothing_is_started_twice_while_others_wait(job: Job, clock: list[float]) -> None:
    slow: list[Any] = [on("a"), {"pid": 1}, *[{"stage": "load"}] * 60, ended()]
    carrier = Scripted({"m": [slow, [ended()]]}, slots=1)
    jobs = deque([job, job])
    rules = Rules(0, past={"m": Past(10.0)}, slow_s=0)
    events = [e for e in Dispatcher(carrier, rules).run(jobs) if isinstance(e, Finished)]
    assert [event.result.attempts for event in events] == [1, 1]


def test_what_the_second_printed_is_in_the_log(job: Job, clock: list[float]) -> None:
    class Printing(Scripted):
        def start(self, key: int, work: Work) -> None:
            super().start(key, work)
            with Path(work.job.model_dir, delivery.LOG).open("a") as log:
                log.write(f"attempt {work.attempt}\n")

    slow: list[Any] = [on("a"), {"pid": 1}, ...]
    carrier = Printing({"m": [slow, [on("b"), {"pid": 2}, ended()]]})
    played(carrier, [job], Rules(0, past={"m": Past(10.0)}, slow_s=0))
    assert Path(job.model_dir, delivery.LOG).read_text() == (
        "attempt 1\n\n---- attempt 1 on gpu01 was given up: attempt 2 was faster ----\nattempt 2\n"
    )


def test_closing_early_closes_what_runs_and_leaves_no_folder(job: Job) -> None:
    carrier = Scripted({"m": [[on("a"), {"pid": 1}, ...]]})
    events = Dispatcher(carrier, Rules(0)).run([job])
    next(event for event in events if isinstance(event, Started))
    events.close()
    assert carrier.closed == [0]
    assert [path.name for path in Path(job.staging_dir).parent.iterdir()] == ["m"]


def test_in_order_a_lost_job_is_tried_again_before_the_others(job: Job, tmp_path: Path) -> None:
    other = job.model_copy(update={"name": "n", "staging_dir": str(tmp_path / ".staging" / "n")})
    lost = [on("a"), {"node_lost": "gone"}]
    scripts: dict[str, list[list[Any]]] = {"m": [lost, [ended()]], "n": [[ended()]]}
    rules = Rules(0, node_retries=1, in_order=True)
    carrier = Scripted(scripts, slots=1)
    list(Dispatcher(carrier, rules).run([job, other]))
    assert [work.job.name for work in carrier.begun] == ["m", "m", "n"]


def test_what_took_long_before_begins_first(job: Job, tmp_path: Path) -> None:
    def of(name: str) -> Job:
        staging = str(tmp_path / ".staging" / name)
        return job.model_copy(update={"name": name, "staging_dir": staging})

    names = ("short", "long", "new", "also", "later")
    past = {"short": Past(1.0), "long": Past(60.0), "also": Past(1.0), "later": Past(30.0)}
    for known, expected in (
        (past, ["new", "long", "later", "short", "also"]),
        ({}, ["short", "long", "new", "also", "later"]),
    ):
        carrier = Scripted({name: [[on("a"), {"pid": 1}, ended()]] for name in names}, slots=1)
        waiting = deque(of(name) for name in names[:4])
        for event in Dispatcher(carrier, Rules(0, past=known)).run(waiting):
            if isinstance(event, Started) and len(carrier.begun) == 1:
                waiting.append(of("later"))  # as what derives from a file does
        assert [work.job.name for work in carrier.begun] == expected
