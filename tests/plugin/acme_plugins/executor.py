"""An executor: each job in this very process, with a line for each."""

from __future__ import annotations

from collections.abc import Sequence

from converter.model.base import Frozen
from converter.model.batch import ExecutorSpec
from converter.model.job import Job
from converter.plugins.executors import Events, Executor, Finished
from converter.plugins.executors.inline import InlineExecutor


class Options(Frozen):
    """What it may be told.

    Attributes:
        word: what a line begins with.
    """

    word: str = "acme"


class _Telling:
    def __init__(self, word: str) -> None:
        self._word = word

    def run(self, jobs: Sequence[Job]) -> Events:
        for event in InlineExecutor().run(jobs):
            if isinstance(event, Finished):
                print(f"{self._word} {event.result.label} {event.result.status}")
            yield event


def create(spec: ExecutorSpec) -> Executor:
    return _Telling(Options.model_validate(spec.own_options).word)
