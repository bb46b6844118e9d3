"""One verdict for each model, runtime and precision: the cells of a run's matrix.

The one place that says which artifact fills which cell. A cell is an artifact on a provider that it
was to run on (``ArtifactRecord.runtimes``): a file that two runtimes read fills two cells. A column
is a runtime, a precision and the artifact; two artifacts of one precision on one runtime, such as
an ONNX file and the same in the runtime's own format, have two columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from converter.model.artifact import ONNX, PRECISIONS, QUANTISED, label
from converter.model.errors import Code
from converter.model.manifest import ArtifactRow, Manifest, RuntimeInfo, fingerprint
from converter.model.records import CaseCheck, Latency, OutputCheck, ProviderVerdict

CellStatus = Literal["ok", "failed", "unavailable", "skipped", "xfail", "not_run"]
# What a runtime does to a file that another one runs right: for its own maintainers to see. Of the
# others our plugins are the reason, or the machine.
_OF_THE_RUNTIME = (
    Code.SESSION, Code.VERIFY_VALUE, Code.VERIFY_NONFINITE, Code.VERIFY_SHAPE, Code.SIGNAL,
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One runtime and precision.

    Attributes:
        runtime: its name, for people.
        precision: ``fp32``.
        artifact: the id of the files; empty where there can be none, and ``lacks`` says why.
        shares: another artifact is of this precision on this runtime.
    """

    provider: str
    runtime: str
    precision: str
    artifact: str
    shares: bool = False
    lacks: str = ""

    @property
    def title(self) -> str:
        """What tells it from the other columns: ``openvino fp32: openvino_ir``."""
        name = f"{self.runtime} {self.precision}"
        return f"{name}: {self.artifact}" if self.shares else name


@dataclass(frozen=True)
class Cell:
    """What came of one artifact on one provider.

    Attributes:
        status: ``skipped``: there was no file to make it from; ``not_run``: the run ended before.
        code, reason: why it is not ``ok``.
        hint, log: what to do, and the log relative to the run directory, where the artifact's own
            error says so.
        worst: the output that came closest to its tolerance there, or went furthest beyond it.
        rel_l2: the largest relative L2 distance to PyTorch of any output of any case.
        sqnr_db: of a quantised file the signal to quantisation noise ratio.
        bytes: of all files of the artifact.
        of_file: the reason is about the file, wherever it was to run.
        show: the artifact to hand to the runtime's maintainers, for ``bundle``: it is right on the
            standard runtime. Empty: there is none, or nothing to show.
    """

    model: str
    column: Column
    status: CellStatus
    code: str = ""
    reason: str = ""
    hint: str = ""
    log: str = ""
    version: str = ""
    arithmetic: str = ""
    worst: OutputCheck | None = None
    rel_l2: float | None = None
    sqnr_db: float | None = None
    bytes: int | None = None
    latency: Latency | None = None
    optional: bool = False
    of_file: bool = False
    show: str = ""

    @property
    def place(self) -> tuple[str, Column]:
        """Where it stands in the matrix."""
        return self.model, self.column

    @property
    def label(self) -> str:
        """``resnet18``, ``resnet18/fp16``."""
        return label(self.model, self.column.artifact or ONNX)

    @property
    def p50_ms(self) -> float | None:
        return self.latency.p50_ms if self.latency else None


@dataclass(frozen=True)
class Matrix:
    """All cells of a run; ``models`` has a line for each model that was to run anywhere."""

    columns: list[Column]
    models: list[str]
    cells: dict[tuple[str, Column], Cell]

    def line(self, model: str) -> list[Cell | None]:
        """The cells of a model, in the order of the columns; ``None``: it was not asked for."""
        return [self.cells.get((model, column)) for column in self.columns]

    def of(self, column: Column) -> list[Cell]:
        return [found for model in self.models if (found := self.cells.get((model, column)))]

    @property
    def all(self) -> list[Cell]:
        """Every cell, model by model."""
        return [cell for model in self.models for cell in self.line(model) if cell is not None]

    @property
    def says_more(self) -> bool:
        """Whether it tells more than the list of models does: several runtimes or precisions."""
        return len(self.columns) > 1

    def right(self, column: Column) -> tuple[int, int]:
        """How many cells of a column are ok, and how many were asked for."""
        found = self.of(column)
        return sum(cell.status == "ok" for cell in found), len(found)


@dataclass(frozen=True)
class Cause:
    """Cells that are not ok for one reason; ``first`` speaks for all of them."""

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def columns(self) -> list[Column]:
        return list(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(cell.model for cell in self.cells))


def of(manifest: Manifest) -> Matrix:
    """The matrix of a run, read from its manifest alone."""
    infos = {info.provider: info for info in manifest.runtimes}
    rows = manifest.rows
    placed = [(row, provider) for row in rows for provider in _runtimes(row)]
    columns = _columns(placed, infos)
    models = list(dict.fromkeys(row.name for row, _ in placed))
    first = next(iter(infos), "")
    right = {row.label for row in rows if _is_right_on(row, first)}
    cells: dict[tuple[str, Column], Cell] = {}
    for row, provider in placed:
        column = columns[provider, row.precision, row.id]
        info = infos.get(provider) or RuntimeInfo(provider=provider, name=provider, session="")
        cell = _cell(row, column, info)
        cells[row.name, column] = _shown(cell, row, right) if provider != first else cell
    for column in columns.values():
        if column.lacks:
            for model in models:
                cells[model, column] = Cell(model, column, "unavailable", reason=column.lacks)
    return Matrix(list(columns.values()), models, cells)


def causes(cells: Iterable[Cell]) -> list[Cause]:
    """The cells that are not ok by reason: failures first, then the larger groups."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if cell.status != "ok":
            # Numbers and names differ between models that fail alike. What two runtimes say in the
            # same words is two reasons.
            said = fingerprint(None, cell.code, None, cell.reason)
            where = "" if cell.of_file else cell.column.runtime
            groups.setdefault((cell.status, where, said), []).append(cell)
    order = ("failed", "not_run", "unavailable", "skipped", "xfail")
    found = [Cause(tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda cause: (order.index(cause.first.status), -len(cause.cells)))


def short(precision: str) -> str:
    """``fp32`` for ``float32``."""
    return precision.replace("bfloat", "bf").replace("float", "fp")


def share(output: OutputCheck) -> float:
    """The largest error as a multiple of what it may be; an exact output allows none.

    It is ``max_abs`` over ``atol``, or ``max_rel`` over ``rtol`` where only that was allowed.
    """
    error = output.max_abs or 0.0
    if output.atol:
        return error / output.atol
    if output.rtol:
        return (output.max_rel or 0.0) / output.rtol
    # Integers and booleans must be equal: any difference is beyond every tolerance.
    return math.inf if error else 0.0


def worst(cases: Iterable[CaseCheck]) -> OutputCheck | None:
    """The output that came closest to its tolerance, or went furthest beyond it.

    None where one could not even be compared: what came closest is not the worst then.
    """
    outputs: list[OutputCheck] = []
    for case in cases:
        if not case.outputs or any(o.max_abs is None and not o.passed for o in case.outputs):
            return None
        outputs += case.outputs
    measured = [output for output in outputs if output.max_abs is not None]
    return max(measured, key=lambda output: (not output.passed, share(output)), default=None)


def _runtimes(row: ArtifactRow) -> list[str]:
    # A manifest of before has no list; what was verified there is known all the same.
    return row.runtimes or [verdict.provider for verdict in row.verify.providers]


def _columns(
    placed: Sequence[tuple[ArtifactRow, str]], infos: dict[str, RuntimeInfo]
) -> dict[tuple[str, str, str], Column]:
    """The columns, by provider, precision and artifact: runtimes and precisions in their order."""
    providers = list(dict.fromkeys([*infos, *(provider for _, provider in placed)]))
    artifacts = list(dict.fromkeys(row.id for row, _ in placed))
    keys = {(provider, row.precision, row.id) for row, provider in placed}
    asked = {precision for _, precision, _ in keys}
    for provider in {provider for provider, _, _ in keys}:
        there = {precision for name, precision, _ in keys if name == provider}
        lacks = infos[provider].lacks if provider in infos else {}
        keys |= {(provider, precision, "") for precision in asked - there if precision in lacks}
    ordered = sorted(
        keys,
        key=lambda key: (
            providers.index(key[0]),
            PRECISIONS.index(key[1]) if key[1] in PRECISIONS else len(PRECISIONS),
            artifacts.index(key[2]) if key[2] else len(artifacts),
        ),
    )
    columns = {}
    for provider, precision, artifact in ordered:
        info = infos.get(provider)
        name = info.name if info else provider
        shares = sum(key[:2] == (provider, precision) for key in keys) > 1
        why = "" if artifact or info is None else info.lacks[precision]
        columns[provider, precision, artifact] = Column(
            provider, name, short(precision), artifact, shares, why
        )
    return columns


def _is_right_on(row: ArtifactRow, provider: str) -> bool:
    found = _verdict(row, provider)
    return bool(row.files) and found is not None and found.status == "passed"


def _verdict(row: ArtifactRow, provider: str) -> ProviderVerdict | None:
    """The verdict of a provider; of several one that refuses the file."""
    found = [verdict for verdict in row.verify.providers if verdict.provider == provider]
    return next((v for v in found if v.status != "passed"), next(iter(found), None))


def _cell(row: ArtifactRow, column: Column, info: RuntimeInfo) -> Cell:
    verdict = _verdict(row, info.provider)
    status, code, reason = _came_to(row, info, verdict)
    own = _runtimes(row)[0] == info.provider
    # Of a manifest that does not say what cases call a runtime they are all of the only one.
    cases = [c for c in row.verify.cases if _ran_on(c, info)]
    distances = [o.rel_l2 for c in cases for o in c.outputs if o.rel_l2 is not None]
    rel_l2 = max(distances, default=None)
    return Cell(
        model=row.name,
        column=column,
        status=status,
        code=code,
        reason=reason,
        hint=row.error.hint if row.error and row.error.code == code else "",
        log=(row.error.log or "") if row.error and row.error.code == code else "",
        version=verdict.version if verdict else "",
        arithmetic=(row.verify.arithmetic or "") if own else "",
        worst=worst(cases),
        rel_l2=rel_l2,
        sqnr_db=_sqnr(row, cases, own) if row.precision in QUANTISED else None,
        bytes=row.bytes if row.files else None,
        latency=next((entry for entry in row.latency if entry.provider == info.provider), None),
        optional=row.optional,
        of_file=status in ("skipped", "not_run") or (_is_whole(row) and reason == _told(row)),
    )


def _came_to(
    row: ArtifactRow, info: RuntimeInfo, verdict: ProviderVerdict | None
) -> tuple[CellStatus, str, str]:
    """Status, code and reason of an artifact on a provider.

    ``ok`` is only what a verdict of this provider calls right, of a file that is there.
    """
    whole = _is_whole(row)
    if verdict is not None and not (whole and verdict.status == "passed"):
        if verdict.status == "passed":
            return ("ok", "", "") if row.files else ("failed", "", "its file is not there")
        if verdict.status == "unavailable" or verdict.code is Code.EP_UNAVAILABLE:
            return "unavailable", verdict.code or "", verdict.reason or info.missing or ""
        status: CellStatus = "xfail" if row.status == "xfail" else "failed"
        return status, verdict.code or "", verdict.reason or ""
    if row.status == "skipped":
        return "skipped", "", row.verify.reason or ""
    if info.missing is not None and verdict is None:
        return "unavailable", Code.EP_UNAVAILABLE, info.missing
    if whole:
        return _without_file(row, verdict)
    return "not_run", "", "the run ended before it"


def _is_whole(row: ArtifactRow) -> bool:
    """Whether the error of a row is about its file, wherever it was to run."""
    # What phase 2 finds is about one provider: the verdicts of the others stay.
    return row.error is not None and row.error.stage != "benchmark"


def _told(row: ArtifactRow) -> str:
    return row.error.message if row.error else ""


def _without_file(row: ArtifactRow, verdict: ProviderVerdict | None) -> tuple[CellStatus, str, str]:
    """Of an artifact that was not made, or not let in."""
    assert row.error is not None
    code, reason = row.error.code, row.error.message
    if code is Code.EP_UNAVAILABLE:
        return "unavailable", code, reason
    first = _verdict(row, _runtimes(row)[0])
    if verdict is None and first is not None and first.status == "failed":
        reason = f"there is no file: it is wrong where it is verified first ({code})"
    return ("xfail" if row.status == "xfail" else "failed"), code, reason


def _ran_on(case: CaseCheck, info: RuntimeInfo) -> bool:
    # Some say which of their devices it was: `OpenVINO CPU`.
    called = case.provider == info.session or case.provider.startswith(f"{info.session} ")
    return called or not info.session


def _sqnr(row: ArtifactRow, cases: Sequence[CaseCheck], own: bool) -> float | None:
    """Decibels: the recorded figure, or that of the distances on the runtime's own cases.

    Those of patterns of values do not count, as they do not in the recorded figure: they lie beyond
    what the ranges of the file were taken from.
    """
    if own and row.accuracy is not None and row.accuracy.sqnr_db is not None:
        return row.accuracy.sqnr_db
    plain = [case for case in cases if case.label in ("traced", "second") or "=" in case.label]
    found: dict[str, list[float]] = {}
    for case in plain:
        for output in case.outputs:
            if output.rel_l2 is not None:
                found.setdefault(output.name, []).append(output.rel_l2)
    # 10 log10(|y|² / |y - x|²), and a distance is |y - x| / |y|; of the worst output.
    squares = (sum(one * one for one in listed) / len(listed) for listed in found.values())
    most = max(squares, default=0.0)
    return -10 * math.log10(most) if most else None


def _shown(cell: Cell, row: ArtifactRow, right: set[str]) -> Cell:
    """With the file that shows the runtime's maintainers what it does."""
    if cell.status != "failed" or cell.code not in _OF_THE_RUNTIME:
        return cell
    # A file of the runtime's own format was made from the model's ONNX file.
    shown = row.label if row.format == ONNX else row.name
    if shown not in right:
        return cell
    return replace(cell, show=shown)
