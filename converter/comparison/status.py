"""Models that came and went, broke and mended."""

from __future__ import annotations

from converter.changes import Change, Severity
from converter.manifest import Row

_FAILING = ("failed", "crashed", "timeout", "oom")


def fails(row: Row) -> bool:
    """Whether a model was run and gave no file; an unexpected success is none of that."""
    return row.status in _FAILING


def changes(before: Row | None, after: Row | None) -> list[Change]:
    """The change of one model's status: at most one."""
    if before is None or after is None:
        return [_presence(before, after)]
    if "not_run" in (before.status, after.status):
        return []  # nothing is known of one of the two
    error = after.error
    works = after.status in ("ok", "xpass")
    kind: str
    severity: Severity
    if not fails(before) and fails(after):
        kind, severity = "newly_failing", "regression"
    elif works and (fails(before) or before.status == "xfail"):
        kind, severity = "fixed", "improvement"
    elif before.status != after.status or (
        fails(after) and _fingerprint(before) != _fingerprint(after)
    ):
        kind, severity = "status", "note"
    else:
        return []
    if kind == "fixed" and before.failing_since:
        detail = f"had been failing since {before.failing_since}"
    else:
        detail = f"{error.code}: {error.message}" if error else ""
    return [
        Change(
            model=after.name,
            kind=kind,
            severity=severity,
            before=before.status,
            after=after.status,
            detail=detail,
            cause=_fingerprint(after) if fails(after) else None,
        )
    ]


def _presence(before: Row | None, after: Row | None) -> Change:
    if after is not None:
        return Change(model=after.name, kind="added", after=after.status)
    assert before is not None
    return Change(model=before.name, kind="removed", before=before.status)


def _fingerprint(row: Row) -> str | None:
    return row.error.fingerprint if row.error else None
