"""What earlier runs and the store say about the time that the models of a run take."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from functools import cached_property, partial

from pydantic import ValidationError

import registry
from converter.cache import stores
from converter.cache.entries import DamagedError, Stored
from converter.cache.stores import AnyStore
from converter.display.estimate import Estimate, Took, peak, took
from converter.finalize import history
from converter.layout import environment, runfiles
from converter.model.job import Job
from converter.plugins.executors import Counting, Executor, Past
from converter.runner.context import RunContext
from converter.storage import side_by_side

# Of torchvision's models on one core (2 GHz): of any, for each parameter, for each multiply-add of
# a forward pass.
_SECONDS, _PARAMETER_S, _OPERATION_S = 0.5, 3e-8, 3.5e-10
_PEAK, _PARAMETER_BYTES = 600 << 20, 14


class Remembered:
    """What the past says of a run; it is read when it is first asked for, once.

    Args:
        labels: of all artifacts of the run.
    """

    def __init__(self, context: RunContext, labels: Iterable[str]) -> None:
        self._context = context
        self._labels = list(labels)

    def estimate(self, executor: Executor) -> Estimate:
        """How long a run takes, as far as the past tells.

        Args:
            executor: that converts; one that does not know how wide it is counts as this machine.
        """
        workers = executor.workers if isinstance(executor, Counting) else environment.cores
        measures = bool(self._context.spec.benchmark.providers)
        return Estimate(self._labels, self._before, workers, latency=measures)

    def pasts(self, jobs: Iterable[Job]) -> dict[str, Past]:
        """What conversions took before, for an executor that can use it.

        Args:
            jobs: those of which nothing is known go by the size that their library states.
        """
        estimated = {job.label: found for job in jobs if (found := _of_size(job)) is not None}
        known = {
            label: Past(took.conversion, took.peak_bytes) for label, took in self._before.items()
        }
        return estimated | known

    @cached_property
    def _before(self) -> dict[str, Took]:
        before = _of_the_last_run(self._context)
        missing = {label for label in self._labels if label not in before}
        if missing and self._context.store is not None:
            before |= _of_the_store(stores.opened(self._context.store), missing)
        return before


def _of_size(job: Job) -> Past | None:
    """What a model of that size takes; only its place among others is to be right."""
    size = registry.size(job.source.registry) if job.source.registry is not None else None
    if size is None:
        return None
    seconds = _SECONDS + size.parameters * _PARAMETER_S + size.operations * _OPERATION_S
    peak = _PEAK + size.parameters * _PARAMETER_BYTES
    return Past(seconds, int(peak), estimated=True)


def _of_the_last_run(context: RunContext) -> dict[str, Took]:
    """The seconds of the last complete run of the experiment, by label."""
    path = history.latest(context.home, context.point) if context.home is not None else None
    if path is None:
        return {}
    try:
        rows = runfiles.read(path).rows
    except (OSError, ValidationError):  # of another version: it is an estimate only
        return {}
    return {row.label: found for row in rows if (found := took(row)) is not None}


def _of_the_store(store: AnyStore, labels: set[str]) -> dict[str, Took]:
    """The seconds of the newest entry of each label, made from whatever."""
    found = {}
    wanted = sorted(labels)
    entries = side_by_side.in_order(partial(_newest, store), wanted, store.at_a_time)
    # A server that does not answer: it is an estimate only.
    with suppress(OSError), closing(entries):
        for label, stored in zip(wanted, entries, strict=True):
            if stored is None:
                continue
            stages = dict(stored.result.stages)
            stages.pop("benchmark", None)
            seconds = sum(stage.seconds or 0.0 for stage in stages.values())
            latency = stored.latency.stage.seconds if stored.latency is not None else None
            found[label] = Took(seconds, latency, peak(stages))
    return found


def _newest(store: AnyStore, label: str) -> Stored | None:
    """The newest entry of a label; ``None``: there is none, or none that is whole."""
    newest = max(((e.created_at, key) for key, e in store.named(label)), default=None)
    try:
        return store.read(newest[1]) if newest is not None else None
    except DamagedError:
        return None
