"""Every executor in the folder keeps the contract."""

from __future__ import annotations

import pytest
from executor_contract import ExecutorContract

from converter.model.batch import ExecutorSpec
from converter.model.errors import ConfigError
from converter.plugins import executors, loader
from converter.plugins.executors import Executor
from converter.plugins.executors.inline import InlineExecutor
from converter.plugins.executors.process import ProcessExecutor
from converter.plugins.executors.ray import RayExecutor
from converter.plugins.executors.slurm import SlurmExecutor


class TestInline(ExecutorContract):
    def executor(self, entry: str) -> Executor:
        return InlineExecutor(entry)


@pytest.mark.integration
class TestProcess(ExecutorContract):
    def executor(self, entry: str) -> Executor:
        return ProcessExecutor(ExecutorSpec(name="process", workers=2), entry)


@pytest.mark.cluster
@pytest.mark.slow
class TestRay(ExecutorContract):
    def executor(self, entry: str) -> Executor:
        return RayExecutor(ExecutorSpec(name="ray", workers=2), entry)


@pytest.mark.cluster
@pytest.mark.slow
class TestSlurm(ExecutorContract):
    def executor(self, entry: str) -> Executor:
        return SlurmExecutor(ExecutorSpec(name="slurm", workers=2, cluster="local"), entry)


def test_every_executor_is_under_contract() -> None:
    tested = {name.removeprefix("Test").lower() for name in globals() if name.startswith("Test")}
    assert tested == set(loader.names("executors"))


@pytest.mark.parametrize("name", loader.names("executors"))
def test_an_executor_is_made_by_its_name(name: str) -> None:
    assert executors.create(ExecutorSpec(name=name))


def test_an_unknown_executor_names_the_choices() -> None:
    words = r"executor\.name: found 'kubernetes', expected one of inline"
    with pytest.raises(ConfigError, match=words):
        executors.create(ExecutorSpec(name="kubernetes"))
