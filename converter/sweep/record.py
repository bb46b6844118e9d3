"""``sweep.json``: every model at every point of a sweep, collected from the points' manifests.

Paths are relative to the sweep directory. Within a schema version fields may be added, never
removed or renamed; ``docs/schemas/sweep.schema.json`` is generated from these types by
``python -m converter.schemas``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from converter.display import summary
from converter.model.base import Frozen
from converter.model.errors import Code
from converter.model.manifest import ArtifactRow, Manifest, Request
from converter.model.records import StageName, Status

SWEEP = "sweep.json"
# A success that nobody expected is one: the model works at that point.
WORKS = ("ok", "xpass")
# Keys of a run that a model may state for itself, and of which a row says what it was asked for.
_MOVED = ("opset", "exporter", "training", "seed")


class SweepInfo(Frozen):
    """One sweep. ``keys`` are swept; ``overrides`` are what the command line changed."""

    experiment: str
    started_at: str
    finished_at: str | None = None
    complete: bool = False
    exit_code: int | None = None
    overrides: list[str] = Field(default_factory=list)
    keys: list[str] = Field(default_factory=list)


class PointRecord(Frozen):
    """One point.

    Attributes:
        state: ``started`` is also what a sweep that was killed leaves; ``refused``: its
            configuration is wrong or its run could not begin, and ``problems`` says why.
        directory: of its run.
        manifest: of its run; ``None`` where there is none.
        report: a page to read of its run; ``None`` where there is none.
        counts: models by status.
    """

    name: str
    overrides: list[str]
    state: Literal["not_run", "started", "refused", "done"]
    exit_code: int | None = None
    directory: str | None = None
    manifest: str | None = None
    report: str | None = None
    run_id: str | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)


class Cell(Frozen):
    """One model at one point; what the point's manifest says in full.

    Attributes:
        status: that of the row; ``absent``: the configuration of this point lacks the model;
            ``not_run`` where the point has no manifest.
        stage: where it failed.
        bytes: the ONNX file and its external data.
        max_abs: the largest absolute error of any output in any case.
        p50_ms: median latency on ``provider``, the first that was measured.
        pinned: swept keys that did not move this cell, since the model states its own value.
    """

    point: str
    status: Status | Literal["absent"]
    code: Code | None = None
    stage: StageName | None = None
    reason: str = ""
    opset: int | None = None
    exporter: str | None = None
    nodes: int | None = None
    bytes: int | None = None
    max_abs: float | None = None
    p50_ms: float | None = None
    provider: str | None = None
    cached: bool = False
    pinned: dict[str, str] = Field(default_factory=dict)


class SweepModel(Frozen):
    """One model: a cell for each point, in the order of the points.

    Attributes:
        opsets: at which it works at some point, ascending; the first and the last of them are
            ``lowest_opset`` and ``highest_opset``.
    """

    name: str
    lowest_opset: int | None = None
    highest_opset: int | None = None
    opsets: list[int] = Field(default_factory=list)
    cells: list[Cell]


class Sweep(Frozen):
    schema_version: Literal["1"] = "1"
    sweep: SweepInfo
    points: list[PointRecord]
    models: list[SweepModel]


def matrix(points: Sequence[PointRecord], manifests: Mapping[str, Manifest]) -> list[SweepModel]:
    """Model × point; ``manifests`` by the name of the point, for those that have one."""
    # A line for each artifact: a variant may fail at an opset at which its model works.
    rows = {name: {row.label: row for row in found.rows} for name, found in manifests.items()}
    models = dict.fromkeys(model for point in points for model in rows.get(point.name, {}))
    return [
        _model(name, [_cell(point, rows.get(point.name), name) for point in points])
        for name in models
    ]


def _model(name: str, cells: list[Cell]) -> SweepModel:
    found = {cell.opset for cell in cells if cell.status in WORKS and cell.opset is not None}
    opsets = sorted(found)
    return SweepModel(
        name=name,
        lowest_opset=opsets[0] if opsets else None,
        highest_opset=opsets[-1] if opsets else None,
        opsets=opsets,
        cells=cells,
    )


def _cell(point: PointRecord, rows: Mapping[str, ArtifactRow] | None, model: str) -> Cell:
    if rows is None:
        return Cell(point=point.name, status="not_run", reason="; ".join(point.problems))
    if (row := rows.get(model)) is None:
        return Cell(point=point.name, status="absent")
    onnx = row.onnx
    measured = next((entry for entry in row.latency if entry.status == "measured"), None)
    return Cell(
        point=point.name,
        status=row.status,
        code=row.error.code if row.error else None,
        stage=row.error.stage if row.error else None,
        reason=summary.reason(row),
        # What the file has, where there is one: a model may pin its own.
        opset=onnx.opset if onnx else row.request.opset,
        exporter=onnx.exporter if onnx else None,
        nodes=onnx.nodes if onnx else None,
        bytes=row.bytes if row.files else None,
        max_abs=summary.max_abs(row),
        p50_ms=measured.p50_ms if measured else None,
        provider=measured.provider if measured else None,
        cached=row.cached,
        pinned=dict(_pinned(point, row.request)),
    )


def _pinned(point: PointRecord, request: Request) -> Iterator[tuple[str, str]]:
    """Keys of the point that a model did not follow, with the value that it has instead."""
    for override in point.overrides:
        key, _, value = override.partition("=")
        if key in _MOVED and str(getattr(request, key)) != value:
            found = getattr(request, key)
            yield key, "of the file" if found is None else str(found)
