"""Latency, before and after: who is a suspect, and what timing again says of it.

The medians of two nights differ by what else the machine did. So a slower model is only a
suspect; it is decided by timing the baseline's file again, on the same machine, alternating with
the new one. What cannot be timed again is judged by the manifests alone, and only where both nights
measured a stable median on the same machine that nothing speaks against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from converter.compare import missing_latency
from converter.compare.missing_latency import key, shaped
from converter.compare.status import fails
from converter.model.artifact import label
from converter.model.batch import CompareSpec
from converter.model.changes import Change, Severity
from converter.model.manifest import ArtifactRow, Environment, Manifest
from converter.model.records import Latency


@dataclass(frozen=True)
class Suspect:
    """A model that was slower tonight than the baseline says, by more than noise and limit."""

    model: str
    artifact: str
    before: Latency
    after: Latency

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.model, self.artifact)

    @property
    def key(self) -> str:
        return f"{self.label}|{key(self.after)}"


@dataclass(frozen=True)
class Remeasured:
    """Both files timed again side by side, or the reason why they were not."""

    before: Latency | None = None
    after: Latency | None = None
    reason: str = ""


def suspects(old: Manifest, new: Manifest, limits: CompareSpec) -> list[Suspect]:
    """What to time again, the slowest first. A file that is the same need not be."""
    before = {row.label: row for row in old.rows}
    found = [
        suspect
        for row in new.rows
        if row.label in before and not fails(row) and not _same_file(before[row.label], row)
        for suspect in _slower(before[row.label], row, limits.latency)
    ]
    # The budget may not reach all of them.
    return sorted(found, key=lambda suspect: -_ratio(suspect.before, suspect.after))


def changes(
    before: ArtifactRow,
    after: ArtifactRow,
    limits: CompareSpec,
    remeasured: Mapping[str, Remeasured],
    same_machine: Callable[[Latency, Latency], bool],
) -> list[Change]:
    """What differs in the latency of one model, by provider, shapes and threads."""
    found = missing_latency.changes(before, after)
    for suspect in _slower(before, after, limits.latency):
        if _same_file(before, after):
            why = "the file is the same: the machine or the packages are slower"
            found.append(_change(suspect, "note", why))
        else:
            again = remeasured.get(suspect.key, Remeasured())
            comparable = same_machine(suspect.before, suspect.after)
            found.append(_judge(suspect, again, limits, comparable))
    for was, now in _pairs(before, after):
        sound = not (_doubt(was) or _doubt(now))
        # Nobody times a faster file again: the two figures alone must carry the claim.
        if sound and same_machine(was, now) and faster(was, now, limits.latency):
            found.append(_change(Suspect(after.name, after.id, was, now), "improvement", ""))
    return found


def slower(before: Latency, after: Latency, limit: float) -> bool:
    """Beyond the limit, and beyond the noise of both medians."""
    return _ratio(before, after) > 1 + max(limit, _noise(before) + _noise(after))


def faster(before: Latency, after: Latency, limit: float) -> bool:
    return slower(after, before, limit)


def same_machine(old: Environment, new: Environment, before: Latency, after: Latency) -> bool:
    """Whether two times can be compared at all.

    Args:
        old, new: the machines of the runners; on a cluster that of a latency is its node.
    """
    return _hardware(before, old) == _hardware(after, new)


def _hardware(record: Latency, runner: Environment) -> tuple[str, int, list[str]]:
    # Hardware only. A driver or a library that makes a model slower is what a comparison has to
    # show, and `causes` names it.
    if record.node is not None:
        return record.node.cpu, record.node.cores, record.node.gpus
    return runner.cpu, runner.cores, [gpu.name for gpu in runner.gpus]


def _judge(suspect: Suspect, again: Remeasured, limits: CompareSpec, same_machine: bool) -> Change:
    old, new = again.before, again.after
    if old is not None and new is not None and old.p50_ms and new.p50_ms:
        times = f"timed again side by side: {old.p50_ms:.3g} ms and {new.p50_ms:.3g} ms"
        # Two runs of one file differ a little beside each other as well.
        apart = _interval(new)[0] > _interval(old)[1]
        if apart and new.p50_ms > old.p50_ms * (1 + limits.latency):
            return _change(suspect, "regression", times)
        return _change(suspect, "note", f"{times}: the file is not to blame")
    why = f"not timed again: {again.reason or 'nothing could time it'}"
    if not same_machine:
        return _change(suspect, "note", f"{why}; the baseline is of another machine")
    if doubt := _doubt(suspect.before) or _doubt(suspect.after):
        return _change(suspect, "note", f"{why}; a figure is doubtful: {doubt}")
    return _change(suspect, "regression", why)


def _change(suspect: Suspect, severity: Severity, detail: str) -> Change:
    before, after = suspect.before, suspect.after
    shapes = shaped(after)
    growth = _ratio(before, after) - 1
    what = f"{growth:+.0%} on {after.provider}" + (f" ({shapes})" if shapes else "")
    return Change(
        model=suspect.model,
        kind="latency",
        severity=severity,
        before=before.p50_ms,
        after=after.p50_ms,
        detail=f"{what}; {detail}" if detail else what,
    )


def _slower(before: ArtifactRow, after: ArtifactRow, limit: float) -> list[Suspect]:
    return [
        Suspect(after.name, after.id, was, now)
        for was, now in _pairs(before, after)
        if was.status == now.status == "measured"
        if slower(was, now, limit)
    ]


def _pairs(before: ArtifactRow, after: ArtifactRow) -> Iterable[tuple[Latency, Latency]]:
    earlier = {key(record): record for record in before.latency}
    for record in after.latency:
        if key(record) in earlier:
            yield earlier[key(record)], record


def _doubt(record: Latency) -> str:
    """What speaks against a median; empty: nothing, it may be set against another one."""
    if record.status != "measured":
        return record.status
    if record.notes:
        return record.notes[0]
    return "" if record.stable else "not stable"


def _ratio(before: Latency, after: Latency) -> float:
    # Where a side has no median there is nothing to suspect.
    return after.p50_ms / before.p50_ms if before.p50_ms and after.p50_ms else 1.0


def _noise(record: Latency) -> float:
    """Half the width of the median's confidence interval, as a share of the median."""
    low, high = _interval(record)
    return (high - low) / 2 / record.p50_ms if record.p50_ms else 0.0


def _interval(record: Latency) -> tuple[float, float]:
    """Where the median lies with 95 % confidence; the median itself where that is not recorded."""
    median = record.p50_ms or 0.0
    return (record.ci95_ms[0], record.ci95_ms[1]) if record.ci95_ms else (median, median)


def _same_file(before: ArtifactRow, after: ArtifactRow) -> bool:
    old, new = ([part.sha256 for part in row.files] for row in (before, after))
    return bool(old) and old == new
