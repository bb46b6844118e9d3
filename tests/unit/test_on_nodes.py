"""What executors on nodes say of their cluster before a job runs, and the order of latencies."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from test_dispatch import Scripted, ended, on

from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.job import Derived, Job
from converter.model.records import JobResult, NodeInfo
from converter.plugins import executors
from converter.plugins.executors import (
    Finished,
    _nodes,
    _ray_carrier,
    _ray_link,
    _ray_streams,
    ray,
    slurm,
)
from converter.plugins.executors._ray_link import Node
from converter.plugins.executors._ray_streams import Said

MACHINE = {"cpu": "EPYC", "cores": 8, "gpus": [{"name": "A100"}], "python": "", "packages": {}}
RAY = ExecutorSpec.model_validate({"name": "ray", "address": "head:6379", "cpus": 2.0})


def node(**changes: Any) -> NodeInfo:
    usual = {"id": "old", "name": "gpu01", "address": "", "cpu": "EPYC", "cores": 8}
    return NodeInfo.model_validate({**usual, **changes})


def of_ray(name: str, *, alive: bool = True, cpus: float = 8.0) -> Node:
    return Node(name, alive, name, name, {"CPU": cpus}, {"kind": name})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a connection to Ray knows of two nodes that live and one that was lost."""
    monkeypatch.setattr(_nodes, "here", lambda: {"python": ""})
    nodes = [of_ray("a"), of_ray("b", cpus=4.0), of_ray("gone", alive=False)]
    machines = {"a": MACHINE, "b": {**MACHINE, "cpu": "Xeon"}, "gone": {**MACHINE, "cpu": "Atom"}}
    link = SimpleNamespace(alive=True, nodes=nodes, machines=machines)
    options = ray.Options.model_validate(RAY.own_options)
    monkeypatch.setitem(_ray_carrier.links, _ray_carrier._key(RAY, options), link)
    return link


def test_ray_is_as_wide_as_the_cores_of_its_nodes(cluster: SimpleNamespace) -> None:
    assert ray.create(RAY).workers() == 6  # type: ignore[attr-defined]
    two = RAY.model_copy(update={"workers": 2})
    assert ray.create(two).workers() == 2  # type: ignore[attr-defined]
    cluster.nodes.pop(0)
    assert ray.create(RAY).workers() == 2  # type: ignore[attr-defined]


def test_of_a_cluster_that_was_not_joined_nothing_is_known() -> None:
    assert ray.create(RAY).workers() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "places", "expected"),
    [
        ({}, [], True),
        ({"gpus": ["A100"]}, [], True),
        ({"gpus": ["H100"]}, [], False),
        ({"cores": 16}, [], False),
        ({"packages": {"torch": "2.0"}}, [], False),
        ({}, ["kind=a"], True),
        ({}, ["kind=b"], False),
        ({"cpu": "Xeon"}, ["kind=b"], True),
        ({"cpu": "Atom"}, [], False),
    ],
)
def test_ray_takes_latencies_on_machines_like_those_of_its_nodes(
    cluster: SimpleNamespace, changes: dict[str, Any], places: list[str], expected: bool
) -> None:
    benchmark = BenchmarkSpec(providers=["cpu"], nodes=places)
    takes = executors.measures_elsewhere(RAY, benchmark)
    assert takes is not None
    assert takes(node(**changes)) is expected


@pytest.mark.parametrize(
    ("id_", "places", "expected"),
    [("n0", [], True), ("gone", [], False), ("n0", ["n1"], False), ("n0", ["n1", "fast"], True)],
)
def test_slurm_takes_latencies_on_nodes_that_it_has(
    id_: str, places: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_names", lambda: frozenset({"n0", "n1"}))
    spec = ExecutorSpec.model_validate({"name": "slurm", "cluster": "slurm"})
    benchmark = BenchmarkSpec(providers=["cpu"], nodes=places)
    assert slurm.takes_latencies(spec, benchmark, node(id=id_)) is expected


class Playing(SimpleNamespace):
    """A connection to two nodes that says what it was given to say."""

    def start(self, wanted: dict[str, Any], parcel: object, place: dict[str, Any]) -> int:
        self.started.append(place)
        return len(self.started) - 1

    def cancel(self, keys: Collection[int]) -> None:
        self.cancelled += keys

    def poll(self, timeout_s: float) -> list[Said]:
        return [self.said.pop(0)] if self.said else []


def hello(node: str, **machine: Any) -> bytes:
    told = {"name": node, **MACHINE, **machine}
    return json.dumps({"machine": told, "id": node, "gpus": []}).encode()


@pytest.fixture
def played(cluster: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Playing:
    link = Playing(started=[], cancelled=[], said=[], **vars(cluster))
    options = ray.Options.model_validate(RAY.own_options)
    monkeypatch.setitem(_ray_carrier.links, _ray_carrier._key(RAY, options), link)
    return link


def results(link: Playing, job: Job, said: list[Said]) -> JobResult:
    link.said += said
    (found,) = [e.result for e in ray.create(RAY).run([job]) if isinstance(e, Finished)]
    return found


DONE = json.dumps({"result": JobResult(name="m", status="ok").model_dump(mode="json")}).encode()


def test_a_node_that_joins_with_other_versions_gets_no_more(
    played: Playing, tmp_path: Path
) -> None:
    found = results(
        played,
        made(tmp_path, "m"),
        [(0, hello("b", packages={"onnx": "1.0"}), ""), (1, hello("a"), ""), (1, DONE, "")],
    )
    assert (found.status, found.node and found.node.id) == ("ok", "a")
    assert played.cancelled == [0]
    assert [place["avoid"] for place in played.started] == [[], ["b"]]
    (lost,) = found.other_tries
    assert lost.reason == "b has other versions: onnx 1.0 (here missing)"


def test_a_worker_that_ray_kills_costs_a_try_and_its_row_says_why(
    played: Playing, tmp_path: Path
) -> None:
    words = "Task was killed due to the node running low on memory."
    said = [(0, hello("a"), ""), (0, None, words), (1, hello("b"), ""), (1, DONE, "")]
    found = results(played, made(tmp_path, "m"), said)
    assert (found.status, found.attempts) == ("ok", 2)
    assert [(one.node, one.reason) for one in found.other_tries] == [("a", words)]
    assert played.started[1]["avoid"] == ["a"]


def test_here_latencies_are_of_no_node() -> None:
    process = ExecutorSpec(name="process")
    assert executors.measures_elsewhere(process, BenchmarkSpec(providers=["cpu"])) is None


@pytest.mark.parametrize("plugin", [ray, slurm])
def test_latencies_that_are_tried_again_keep_their_order(
    plugin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [on("a"), {"node_lost": "gone"}]
    carrier = Scripted({"m": [lost, [ended()]], "n": [[ended()]]}, slots=1)
    name = "RayCarrier" if plugin is ray else "SlurmCarrier"
    monkeypatch.setattr(plugin, name, lambda *arguments: carrier)
    spec = ExecutorSpec(name="ray")
    alone = plugin.create_alone(spec, BenchmarkSpec(providers=["cpu"]))
    list(alone.run([made(tmp_path, "m"), made(tmp_path, "n")]))
    assert [work.job.name for work in carrier.begun] == ["m", "m", "n"]


def made(folder: Path, name: str) -> Job:
    (folder / "models" / name).mkdir(parents=True)
    return Job(
        name=name, source={"registry": "none"}, inputs={}, opset=17, exporters=["torchscript"],
        model_dir=str(folder / "models" / name), staging_dir=str(folder / ".staging" / name),
    )  # fmt: skip


def test_memory_is_asked_for_by_the_files_of_a_job_that_was_never_seen(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "name": "m",
        "source": {"registry": "none"},
        "inputs": {},
        "opset": 17,
        "exporters": [],
        "model_dir": "",
        "staging_dir": "",
    }
    gib, file = 1 << 30, tmp_path / "m.onnx"
    for name in ("m.onnx", "m.onnx.data"):
        with (tmp_path / name).open("wb") as sparse:
            sparse.truncate(gib)
    of_weights = {**asked, "weights": {"checkpoint": str(file)}}
    of_onnx = {**asked, "source": {"onnx": str(file)}}
    derived = {**asked, "plugin": "fp16", "parent_file": str(file)}
    elsewhere = {**asked, "weights": {"checkpoint": "https://a.b/c.pth", "sha256": "0" * 64}}
    found = [
        _nodes.estimated_bytes(kind.model_validate(one)) / gib
        for kind, one in (
            (Job, asked), (Job, of_weights), (Job, of_onnx), (Derived, derived), (Job, elsewhere),
        )
    ]  # fmt: skip
    assert found == [2, 5, 5, 25, 2]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        (":info_message: Attempting to recover 1 lost objects by resubmitting their tasks", ""),
        ("[2026-11-29 09:58:12,335 I 1 2] a.cc:1: Connected", ""),
        (
            "[2026-11-29 09:58:12,335 E 14418 14434] rpc_client.h:204: Failed to connect. It may be"
            "\n:actor_name:x\n[2026-11-29 09:58:13,335 W 14418 14434] b.cc:7: slow\n",
            "Failed to connect",
        ),
        ("Traceback\nRuntimeError: gone", "RuntimeError: gone"),
        (
            "[2026-11-29 09:58:12,335 C 1 2] gcs_client.cc:9: The head has restarted.\n"
            "*** StackTrace Information ***\n"
            "/venv/ray/_raylet.so(+0x13a6eca) [0x7fbc4f] ray::operator<<()\n"
            "/lib/x86_64-linux-gnu/libc.so.6(+0x1098ec) [0x7fbc50b278ec]\n",
            "The head has restarted.",
        ),
    ],
)
def test_why_ray_has_ended_is_its_last_error_and_no_chatter(log: str, said: str) -> None:
    assert _ray_link.last_word(log) == said


def test_an_error_of_ray_ends_with_a_sentence() -> None:
    first = "The node is dead or unavailable. " * 9
    assert _ray_streams._words(Exception(f"{first}To see more, use `ray list nodes`. More")) == (
        first.strip()
    )
    assert _ray_streams._words(Exception("x" * 301)) == f"{'x' * 300}…"
