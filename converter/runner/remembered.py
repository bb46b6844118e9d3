"""What earlier runs and the store say about the time that the models of a run take."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial

from pydantic import ValidationError

from converter.cache import stores
from converter.cache.entries import DamagedError, Stored
from converter.cache.stores import AnyStore
from converter.display.estimate import Estimate, Took, peak, took
from converter.finalize import history
from converter.layout import environment
from converter.model import manifest
from converter.plugins.executors import Counting, Executor, Past
from converter.runner.context import RunContext
from converter.storage import side_by_side


def estimate(context: RunContext, labels: Iterable[str], executor: Executor) -> Estimate:
    """How long a run takes, as far as the past tells.

    Args:
        labels: of all its artifacts.
        executor: that converts; one that does not know how wide it is counts as this machine.
    """
    wanted = list(labels)
    before = _before(context, wanted)
    workers = executor.workers if isinstance(executor, Counting) else environment.cores
    measures = bool(context.spec.benchmark.providers)
    return Estimate(wanted, before, workers, latency=measures)


def pasts(context: RunContext, labels: Iterable[str]) -> dict[str, Past]:
    """What conversions took before, for an executor that can use it."""
    return {
        label: Past(known.conversion, known.peak_bytes)
        for label, known in _before(context, list(labels)).items()
    }


def _before(context: RunContext, wanted: list[str]) -> dict[str, Took]:
    before = _of_the_last_run(context)
    missing = {label for label in wanted if label not in before}
    if missing and context.store is not None:
        before |= _of_the_store(stores.opened(context.store), missing)
    return before


def _of_the_last_run(context: RunContext) -> dict[str, Took]:
    """The seconds of the last complete run of the experiment, by label."""
    path = history.latest(context.home, context.point) if context.home is not None else None
    if path is None:
        return {}
    try:
        rows = manifest.read(path).rows
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
