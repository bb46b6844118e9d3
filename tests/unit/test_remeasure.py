"""Where slower files are timed again: on the machine that their latency was taken on."""

from __future__ import annotations

from typing import Any

import pytest

from converter.config import standard
from converter.finalize import remeasure
from converter.layout import environment
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.records import NodeInfo
from converter.plugins.executors import ray
from converter.plugins.executors.process import ProcessExecutor


def node(**changes: Any) -> NodeInfo:
    here = environment.collect({})
    usual = {"id": "f00", "name": "gpu01", "address": "", "cpu": here.cpu, "cores": here.cores}
    return NodeInfo.model_validate({**usual, **changes})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an executor of latencies on Ray was made with."""
    found: list[Any] = []
    monkeypatch.setattr(ray, "create_alone", lambda *given: found.append(given) or "there")
    return found


def test_a_latency_of_this_machine_is_taken_again_here(asked: list[Any]) -> None:
    assert isinstance(remeasure._executor(None, standard.spec()), ProcessExecutor)
    assert asked == []


def test_a_latency_of_a_node_is_taken_again_there(asked: list[Any]) -> None:
    spec = standard.spec(executor={"name": "ray"}, benchmark={"providers": ["cpu"]})
    assert remeasure._executor(node(cpu="another"), spec) == "there"
    ((executor, benchmark),) = asked
    assert isinstance(executor, ExecutorSpec)
    assert isinstance(benchmark, BenchmarkSpec)
    assert (executor.timeout_s, benchmark.nodes) == (60.0, ["f00"])


def test_where_no_executor_leads_to_the_node_a_machine_like_it_will_do() -> None:
    assert isinstance(remeasure._executor(node(), None), ProcessExecutor)
    for other in (node(cpu="another"), node(cores=1000), node(gpus=["H100"])):
        for spec in (None, standard.spec()):
            reason = remeasure._executor(other, spec)
            assert reason == "its latency was taken on gpu01, which this machine is not like"
