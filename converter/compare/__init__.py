"""Two runs side by side: what changed, what got worse, and what may be why.

Pure functions over two manifests. Only a slower model needs more than its manifests say: it is a
suspect until ``converter.finalize.remeasure`` has timed the baseline's file beside the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from converter.compare import (
    causes,
    files,
    latency,
    missing_latency,
    runtimes,
    status,
    verification,
)
from converter.compare.causes import InputsChanged
from converter.compare.latency import Remeasured
from converter.model.batch import CompareSpec
from converter.model.changes import Change, Comparison, Verdict
from converter.model.manifest import ArtifactRow, Manifest, models_of

__all__ = ["compare", "no_baseline", "since"]


def compare(
    old: Manifest,
    new: Manifest,
    limits: CompareSpec,
    remeasured: Mapping[str, Remeasured] | None = None,
    changed: InputsChanged = causes.recorded,
) -> Comparison:
    """What became of every model of either run.

    Args:
        old: the baseline.
        remeasured: what timing the suspects again gave, by ``Suspect.key``.
        changed: tells what two rows were made from that differs.
    """
    before = {row.label: row for row in old.rows}
    after = {row.label: row for row in new.rows}
    environment = causes.environment(old.environment, new.environment)
    comparable = partial(latency.same_machine, old.environment, new.environment)
    timed = missing_latency.asked_for(new)
    cells_before, cells = runtimes.cells(old), runtimes.cells(new)
    changes: list[Change] = []
    for name in [*after, *(name for name in before if name not in after)]:
        row, row_before = after.get(name), before.get(name)
        found = [*status.changes(row_before, row)]
        if row is not None and row_before is not None:
            places = cells_before.get(name, {}), cells.get(name, {})
            found += runtimes.changes(row_before, row, *places)
        if row is not None and row_before is not None and row.files and row_before.files:
            found += files.changes(row_before, row, limits)
            found += verification.changes(row_before, row)
            # Else each model would be told of separately; one note says it below.
            if timed:
                found += latency.changes(row_before, row, limits, remeasured or {}, comparable)
        # The rules above name the model only; which of its artifacts a row is they need not know.
        told = [_of_artifact(change, row or row_before) for change in found]
        changes += [causes.explained(c, row_before, row, environment, changed) for c in told]
    if not timed:
        changes += missing_latency.not_asked_for(before, after)
    return Comparison(
        baseline_run_id=old.run.id,
        baseline_started_at=old.run.started_at,
        verdict=_verdict(changes),
        changes=changes,
        causes=causes.grouped(changes, after),
        environment=environment,
    )


def _of_artifact(change: Change, row: ArtifactRow | None) -> Change:
    return change.model_copy(update={"artifact": row.id}) if row is not None else change


def no_baseline() -> Comparison:
    """The comparison of a first night: there is nothing to compare with, and nothing is wrong."""
    return Comparison(baseline_run_id=None, verdict="no_baseline")


def since(new: Manifest, old: Manifest | None) -> Manifest:
    """The manifest with ``failing_since`` in each row that is not as expected.

    Carried from night to night: the start of the first run, as far as baselines reach back, from
    which on the model has been failing.
    """
    before = {row.label: row for row in old.rows} if old else {}

    def started(row: ArtifactRow) -> str:
        earlier = before.get(row.label)
        if old is None or earlier is None or not status.fails(earlier):
            return new.run.started_at
        # A baseline of a version that did not record it: its own start is the earliest that is
        # known.
        return earlier.failing_since or old.run.started_at

    rows = [
        row.model_copy(update={"failing_since": started(row) if status.fails(row) else None})
        for row in new.rows
    ]
    return new.model_copy(update={"models": models_of(rows)})


def _verdict(changes: list[Change]) -> Verdict:
    severities = {change.severity for change in changes}
    # One regression outweighs any number of improvements: it is what somebody has to look at.
    if "regression" in severities:
        return "regression"
    if "improvement" in severities:
        return "better"
    return "changed" if changes else "same"
