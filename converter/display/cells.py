"""The matrix of a run in words: a line for each model, counts, and each reason once."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from converter.display import columns
from converter.display.columns import WIDTH, Table
from converter.display.screen import Paragraph
from converter.model import matrix
from converter.model.manifest import ArtifactRow
from converter.model.matrix import Cause, Cell, Column, Matrix

_NAME_WIDTH = 24  # of 80 columns
_GAP = 1
_NAMES = 4
_OK = "ok"
_MARKS = {"failed": "F", "unavailable": "U", "skipped": "s", "xfail": "x", "not_run": "-"}
Marks = dict[tuple[str, Column], str]
_WORDS = {"not_run": "not_run", "skipped": "skipped", "unavailable": "unavailable"}


def paragraphs(
    found: Matrix, rows: Sequence[ArtifactRow], directory: Path, most: int
) -> list[Paragraph]:
    """The parts of a summary; none where the matrix says no more than the list of models.

    Args:
        most: lines of the table, where only models that are not ok everywhere have one if there
            are more; and reasons.
    """
    if not found.says_more:
        return []
    causes = [c for c in matrix.causes(found.all) if not c.first.column.lacks]
    shown = _shown(found, most)
    table, marks = _table(found, shown[:most], causes)
    parts: list[Paragraph] = [table] if shown else []
    if len(shown) > most:
        parts.append(f"{len(shown) - most} more are not ok in every cell; report.html has them.")
    if len(shown) < len(found.models):
        left = len(found.models) - len(shown)
        parts.append(f"{left} more {'is' if left == 1 else 'are'} ok in every cell.")
    parts.append(_counts(found, marks is not None))
    told = {row.label for row in rows if is_told(row)}
    lines = [line for cause in causes[:most] for line in _reason(cause, marks, told, directory)]
    if len(causes) > most:
        lines.append(f"{len(causes) - most} more reasons; report.html has them")
    if lines:
        parts.append("\n".join(lines))
    return parts


def is_told(row: ArtifactRow) -> bool:
    """Whether what is wrong with a row is told with the failures, beside the matrix.

    What is optional fails no model: there the matrix says why, for all models with that reason.
    """
    return row.error is not None and not row.optional


def _shown(found: Matrix, most: int) -> list[str]:
    if len(found.models) <= most:
        return found.models
    return [m for m in found.models if any(c is not None and _is_news(c) for c in found.line(m))]


def _is_news(cell: Cell) -> bool:
    # What no model can have is said once, in the line of the column.
    return cell.status != "ok" and not cell.column.lacks


def _table(
    found: Matrix, models: Sequence[str], causes: Sequence[Cause]
) -> tuple[Table, Marks | None]:
    """With titles and codes where 80 columns hold them, else with numbers that the lines below say.

    One form for a terminal and a log: a reason has the same number in both.
    """
    titles = [column.title for column in found.columns]
    words = [[_word(cell) for cell in found.line(model)] for model in models]
    wide = columns.table(["model", *titles], _lines(models, words), left=1)
    natural = sum(wide.fitted(1 << 20)[1]) + _GAP * len(titles)
    if natural <= WIDTH:
        return wide, None
    marks = {
        cell.place: f"{_MARKS[cause.first.status]}{number}"
        for number, cause in enumerate(causes, 1)
        for cell in cause.cells
    }
    heads = [f"[{number}]" for number in range(1, len(titles) + 1)]
    cells = [[_mark(cell, marks) for cell in found.line(model)] for model in models]
    return columns.table(["model", *heads], _lines(models, cells), left=1), marks


def _lines(models: Sequence[str], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [
        [columns.shorten(model, _NAME_WIDTH), *line]
        for model, line in zip(models, cells, strict=True)
    ]


def _word(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return _OK if cell.status == "ok" else _WORDS.get(cell.status, cell.code or cell.status)


def _mark(cell: Cell | None, marks: Marks) -> str:
    if cell is None:
        return ""
    return _OK if cell.status == "ok" else marks.get(cell.place, "U")


def _counts(found: Matrix, numbered: bool) -> str:
    """``[4] openvino fp32  34 of 34``, a line for each column."""
    width = max(len(column.title) for column in found.columns)
    lines = []
    for number, column in enumerate(found.columns, 1):
        ok, asked = found.right(column)
        told = f"not available: {column.lacks}" if column.lacks else f"{ok} of {asked}"
        place = f"{f'[{number}]':>4} " if numbered else ""
        lines.append(f"{place}{column.title.ljust(width)}  {told}")
    return "\n".join(lines)


def _reason(cause: Cause, marks: Marks | None, told: set[str], directory: Path) -> list[str]:
    """One reason, with the models that it concerns; one that the failures tell is named only."""
    first = cause.first
    mark = first.status if marks is None else marks[first.place]
    code = f" {first.code}" if first.code else ""
    where = ", ".join(column.title for column in cause.columns)
    head = f"{mark}{code} on {where} ({_names(cause.models)})"
    if all(cell.label in told for cell in cause.cells):
        lines = [f"{head}: told below"]
    else:
        lines = [f"{head}: {first.reason.splitlines()[0] if first.reason else first.status}"]
        lines += [f"    {first.hint}"] if first.hint else []
        lines += [f"    {directory / first.log}"] if first.log else []
    shown = next((cell for cell in cause.cells if cell.show), None)
    if shown is not None:
        lines.append(f"    For the maintainers of {_version(shown)}: {bundle(shown, directory)}")
    return lines


def bundle(cell: Cell, directory: Path) -> str:
    """The command that lays a file out for others, with PyTorch's outputs."""
    return shlex.join(["python", "-m", "converter", "bundle", from_here(directory), cell.show])


def from_here(path: Path) -> str:
    """A path as it is from where the run was started: few pages name a folder of their machine."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _version(cell: Cell) -> str:
    return cell.version or cell.column.runtime


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
