"""Cells of the matrix, before and after: what a file came to on each provider.

What a row's status tells of the file as a whole is not told again here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from converter.compare.status import fails
from converter.model import matrix
from converter.model.changes import Change, Severity
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.matrix import Cell

# Calibration and kernels of another version move it by less.
_DECIBELS = 1.0

Cells = Mapping[str, Mapping[str, Cell]]
"""By the label of the artifact, then by provider."""


def cells(manifest: Manifest) -> Cells:
    """The cells of a run."""
    found: dict[str, dict[str, Cell]] = {}
    for cell in matrix.of(manifest).all:
        if cell.column.artifact:
            found.setdefault(cell.label, {})[cell.column.provider] = cell
    return found


def changes(
    row_before: ArtifactRow, row: ArtifactRow, before: Mapping[str, Cell], after: Mapping[str, Cell]
) -> Iterator[Change]:
    """What became of one artifact, provider by provider."""
    turned = fails(row_before) != fails(row)  # which its status tells
    for provider, was in before.items():
        now = after.get(provider)
        if now is None:
            if was.status == "ok":
                yield _change(row, was, "note", "not asked for", "")
        elif not (turned and _is_of_row(row, now, was)):
            yield from _between(row, was, now)
    yield from _accuracy(row_before, row)


def _between(row: ArtifactRow, was: Cell, now: Cell) -> Iterator[Change]:
    if was.status == now.status:
        if was.status == "failed" and was.code != now.code and not now.of_file:
            yield _change(row, was, "note", now.code, now.reason)
        return
    if was.status == "ok" and now.status in ("failed", "unavailable"):
        yield _change(row, was, "regression", now.code or now.status, now.reason)
    elif was.status == "ok" and now.status == "not_run":
        yield _change(row, was, "note", "not run", now.reason)
    elif now.status == "ok" and was.status in ("failed", "unavailable"):
        yield _change(row, was, "improvement", "ok", "")


def _is_of_row(row: ArtifactRow, now: Cell, was: Cell) -> bool:
    """Whether the status of the row says what became of this cell."""
    if now.status == "ok":
        return was.of_file or was.status == "failed"
    error = row.error
    return error is not None and error.code == now.code and now.reason in error.message


def _change(row: ArtifactRow, was: Cell, severity: Severity, after: str, reason: str) -> Change:
    where = f"on {was.column.provider}"
    return Change(
        model=row.name,
        kind="runtime",
        severity=severity,
        before="ok" if was.status == "ok" else was.code or was.status,
        after=after,
        detail=f"{where}: {reason}" if reason else where,
    )


def _accuracy(before: ArtifactRow, after: ArtifactRow) -> Iterator[Change]:
    """A quantised file that keeps less of PyTorch's outputs."""
    was = before.accuracy.sqnr_db if before.accuracy else None
    now = after.accuracy.sqnr_db if after.accuracy else None
    if was is None or now is None or was - now <= _DECIBELS:
        return
    yield Change(
        model=after.name,
        kind="accuracy",
        severity="regression",
        before=round(was, 2),
        after=round(now, 2),
        detail=f"signal to quantisation noise in dB, allowed -{_DECIBELS:g}",
    )
