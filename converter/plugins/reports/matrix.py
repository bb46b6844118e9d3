"""``matrix.csv``: a line for each model, runtime and precision that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from converter.model import matrix
from converter.model.manifest import Manifest
from converter.model.matrix import Cell
from converter.model.records import Latency, OutputCheck
from converter.plugins.reports import _spreadsheet
from converter.plugins.reports._spreadsheet import Value

FILE = "matrix.csv"


def render(manifest: Manifest, directory: Path) -> str:
    found = matrix.of(manifest)
    lines = ([value(cell) for value in _COLUMNS.values()] for cell in found.all)
    return _spreadsheet.text(_COLUMNS, lines)


def _worst(value: Callable[[OutputCheck], Value]) -> Callable[[Cell], Value]:
    return lambda cell: value(cell.worst) if cell.worst else None


def _latency(value: Callable[[Latency], Value]) -> Callable[[Cell], Value]:
    return lambda cell: value(cell.latency) if cell.latency else None


# Stable, for programs.
_COLUMNS: dict[str, Callable[[Cell], Value]] = {
    "model": lambda cell: cell.model,
    "runtime": lambda cell: cell.column.runtime,
    "precision": lambda cell: cell.column.precision,
    "artifact": lambda cell: cell.column.artifact or None,
    "provider": lambda cell: cell.column.provider,
    "version": lambda cell: cell.version or None,
    "status": lambda cell: cell.status,
    "code": lambda cell: cell.code or None,
    "optional": lambda cell: "yes" if cell.optional else "no",
    "arithmetic": lambda cell: cell.arithmetic or None,
    # Of the output closest to its tolerance there.
    "output": _worst(lambda output: output.name),
    "max_abs": _worst(lambda output: output.max_abs),
    "atol": _worst(lambda output: output.atol),
    "rtol": _worst(lambda output: output.rtol),
    "error_over_tolerance": _worst(matrix.share),
    "rel_l2": lambda cell: cell.rel_l2,
    "sqnr_db": lambda cell: cell.sqnr_db,
    "bytes": lambda cell: cell.bytes,
    "latency": _latency(lambda entry: entry.status),
    "p50_ms": _latency(lambda entry: entry.p50_ms),
    "p99_ms": _latency(lambda entry: entry.p99_ms),
    "doubts": _latency(lambda entry: "; ".join(entry.notes) or None),
    "reason": lambda cell: cell.reason or None,
}
