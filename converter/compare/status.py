"""Models that came and went, broke and mended."""

from __future__ import annotations

from converter.compare import same_request
from converter.model.changes import Change, Severity
from converter.model.manifest import ArtifactRow, ModelRecord

# Neither xfail, which the configuration states, nor xpass, which has a file.
_FAILING = ("failed", "crashed", "timeout", "oom")


def fails(row: ArtifactRow | ModelRecord) -> bool:
    """Whether a model was run and gave no file; an unexpected success is none of that."""
    return row.status in _FAILING


def works(row: ArtifactRow) -> bool:
    """Whether a model gave a file that is right."""
    return row.status in ("ok", "xpass")


def changes(before: ArtifactRow | None, after: ArtifactRow | None) -> list[Change]:
    """The change of one model's status: at most one."""
    if before is None or after is None:
        return [_presence(before, after)]
    if before.status == "not_run" or (after.status == "not_run" and not works(before)):
        return []  # nothing is known of one of the two, and nothing is lost
    kind: str
    severity: Severity
    if not fails(before) and fails(after):
        kind, severity = "newly_failing", "regression"
    # An xfail did not work either: when it does, its `expect` is to be removed.
    elif works(after) and (fails(before) or before.status == "xfail"):
        kind, severity = "fixed", "improvement"
    elif before.status != after.status or (
        fails(after) and _fingerprint(before) != _fingerprint(after)
    ):
        kind, severity = "status", "regression" if _lost(before, after) else "note"
    else:
        return []
    return [
        Change(
            model=after.name,
            kind=kind,
            severity=severity,
            before=before.status,
            after=after.status,
            detail=_detail(kind, before, after),
            cause=_fingerprint(after) if fails(after) else None,
        )
    ]


def _lost(before: ArtifactRow, after: ArtifactRow) -> bool:
    """Whether a model gave a file, and gives none though nobody asked for that."""
    if not works(before):
        return False
    return after.status == "not_run" or (
        after.status == "skipped" and same_request.same(before, after)
    )


def _detail(kind: str, before: ArtifactRow, after: ArtifactRow) -> str:
    if kind == "fixed" and before.failing_since:
        return f"had been failing since {before.failing_since}"
    if after.error:
        return f"{after.error.code}: {after.error.message}"
    if after.status == "not_run":
        return "the run ended before it"
    return (after.verify.reason or "skipped") if after.status == "skipped" else ""


def _presence(before: ArtifactRow | None, after: ArtifactRow | None) -> Change:
    if after is not None:
        return Change(model=after.name, kind="added", after=after.status)
    assert before is not None
    return Change(model=before.name, kind="removed", before=before.status)


def _fingerprint(row: ArtifactRow) -> str | None:
    return row.error.fingerprint if row.error else None
