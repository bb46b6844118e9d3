"""Latencies that were measured, and have no figure beside them now.

A figure that went must not look like one that did not change. Only a measurement that fails is
worse: what was not tried, or not at the same threads and shapes, says nothing about the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from converter.compare.status import fails
from converter.model.changes import Change
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import Latency, StageRecord


def key(record: Latency) -> str:
    """What two records must share to be compared."""
    return f"{record.provider}|{record.shapes}|{record.threads}"


def shaped(record: Latency) -> str:
    """``image=1x3x224x224``; empty where the shapes are not recorded."""
    return " ".join(f"{name}={'x'.join(map(str, size))}" for name, size in record.shapes.items())


def asked_for(run: Manifest) -> bool:
    """Whether a run was to measure latencies at all, or has any."""
    files = [row for row in run.rows if row.files]
    return any(row.latency or _stage(row).status != "not_requested" for row in files)


def not_asked_for(
    before: Mapping[str, ArtifactRow], after: Mapping[str, ArtifactRow]
) -> list[Change]:
    """One note for a run that measures none, where its models had latencies."""
    count = sum(
        bool(_measured(row)) and name in after and bool(after[name].files)
        for name, row in before.items()
    )
    if not count:
        return []
    models = "1 model" if count == 1 else f"{count} models"
    detail = f"the run did not ask for latencies; {models} had one before"
    return [
        Change(model="", kind="latency", before="measured", after="not requested", detail=detail)
    ]


def changes(before: ArtifactRow, after: ArtifactRow) -> list[Change]:
    """The change of each measured record whose partner went, failed or was measured otherwise."""
    found: dict[str, Change] = {}
    partners = {key(record) for record in _measured(after)}
    lost = [record for record in _measured(before) if key(record) not in partners]
    taken = {key(record) for record in _measured(before)}
    free = [record for record in _measured(after) if key(record) not in taken]
    for was in lost:
        ended = next((r for r in after.latency if _ended(r) and r.provider == was.provider), None)
        if ended is not None:
            # By its provider alone: one failure at several sizes is told once.
            found[was.provider] = _failed(after, ended)
        elif (now := _nearest(was, free)) is not None:
            # One partner each: two lost records must not be told of the same new one.
            free.remove(now)
            found[key(was)] = _otherwise(after, was, now)
        elif any(record.provider == was.provider for record in after.latency):
            found[key(was)] = _gone(after, was, f" at {shaped(was)}" if was.shapes else "")
        else:
            found[was.provider] = _gone(after, was, "")
    return list(found.values())


def _measured(row: ArtifactRow) -> list[Latency]:
    return [record for record in row.latency if record.status == "measured"]


def _ended(record: Latency) -> bool:
    """Nothing was measured: such a record need not know the shapes."""
    return record.status in ("unavailable", "failed")


def _nearest(was: Latency, free: Iterable[Latency]) -> Latency | None:
    """The record of the provider that differs least: in threads before shapes."""
    same = [record for record in free if record.provider == was.provider]
    return next((record for record in same if record.shapes == was.shapes), next(iter(same), None))


def _failed(after: ArtifactRow, ended: Latency) -> Change:
    worse = ended.status == "failed" and not fails(after)  # that is told by the model's status
    return Change(
        model=after.name,
        kind="latency",
        severity="regression" if worse else "note",
        before="measured",
        after=ended.status,
        detail=f"{ended.provider}: {ended.status}: {ended.reason or 'no reason was recorded'}",
    )


def _otherwise(after: ArtifactRow, was: Latency, now: Latency) -> Change:
    differs = []
    if was.threads != now.threads:
        differs.append(f"threads {was.threads} → {now.threads}")
    if was.shapes != now.shapes:
        differs.append(f"shapes {shaped(was) or 'none'} → {shaped(now) or 'none'}")
    return Change(
        model=after.name,
        kind="latency",
        before=was.p50_ms,
        after=now.p50_ms,
        detail=f"{now.provider}: not comparable, {', '.join(differs)}",
    )


def _gone(after: ArtifactRow, was: Latency, where: str) -> Change:
    stage = _stage(after)
    why = "the run ended before it" if stage.status == "not_run" else ", ".join(stage.warnings)
    detail = f"{was.provider}: not measured now{where}"
    return Change(
        model=after.name,
        kind="latency",
        before="measured",
        after="no record",
        detail=f"{detail}: {why}" if why else detail,
    )


def _stage(row: ArtifactRow) -> StageRecord:
    return row.stages.get("benchmark", StageRecord())
