"""What a sweep prints at its end: the matrix, and what is behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from converter.display import columns, summary
from converter.display.columns import WIDTH
from converter.display.screen import Paragraph, Screen, plain
from converter.layout import claim
from converter.model.errors import ExitCode
from converter.sweep import page
from converter.sweep.record import SWEEP, Sweep, SweepModel

_NAME_WIDTH = 24  # of 80 columns
_MOST = 40  # rows of a table, lines of a list; sweep.html has all
_FEW = 5  # points that a line names
_LETTERS = {
    "ok": ".", "failed": "F", "crashed": "C", "timeout": "T", "oom": "M", "skipped": "s",
    "xfail": "x", "xpass": "X", "not_run": "-", "absent": " ",
}  # fmt: skip
_WORD = max(len(status) for status in _LETTERS)
_SIGNALS = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


def show(sweep: Sweep, folder: Path) -> None:
    screen = Screen(sys.stdout)
    screen("")
    screen(*paragraphs(sweep, folder, screen.width))


def render(sweep: Sweep, folder: Path) -> str:
    """The text for a log, lines of at most 80 columns but for names, messages and paths."""
    return "\n\n".join(map(plain, paragraphs(sweep, folder, WIDTH)))


def paragraphs(sweep: Sweep, folder: Path, width: int) -> list[Paragraph]:
    """What a sweep prints at its end; of one that a signal ended, how far it came.

    Args:
        width: columns that there are.
    """
    heading = f"sweep over {', '.join(sweep.sweep.keys) or 'nothing'}"
    parts: list[Paragraph] = ["\n".join([heading, *_point_lines(sweep)])]
    code = sweep.sweep.exit_code
    if code in _SIGNALS:
        return [*parts, _interrupted(sweep, folder)]
    fine = [model for model in sweep.models if _is_fine(model)]
    few = len(sweep.models) <= _MOST
    shown = [model for model in sweep.models if few or model not in fine]
    if shown:
        parts += _tables(shown, len(sweep.points), width)
    if len(shown) < len(sweep.models):
        parts.append(f"{len(fine)} more are as expected at every point; {page.FILE} has every row.")
    if causes := _causes(sweep.models):
        left = [f"… and {len(causes) - _MOST} more"] if len(causes) > _MOST else []
        parts.append("\n".join([*causes[:_MOST], *left]))
    if not sweep.sweep.complete:
        parts.append(f"The sweep did not come to its end: {_done(sweep)} points ran.")
    return [*parts, f"exit code {code}\n{folder / SWEEP}\n{folder / page.FILE}"]


def _done(sweep: Sweep) -> str:
    done = sum(point.exit_code not in (None, *_SIGNALS) for point in sweep.points)
    return f"{done} of {len(sweep.points)}"


def _interrupted(sweep: Sweep, folder: Path) -> str:
    """The one line that matters: where the results are, and how to go on."""
    told = f"Interrupted: {_done(sweep)} points finished; results in {folder}."
    begun = [point for point in sweep.points if point.exit_code in _SIGNALS and point.directory]
    if not begun:
        return told
    return f"{told} Resume with: {claim.resume_command(folder / str(begun[-1].directory))}"


def _point_lines(sweep: Sweep) -> Iterator[str]:
    """``[1] opset=13  exit code 1: 2 ok, 1 failed``."""
    width = max((len(point.name) for point in sweep.points), default=0)
    for number, point in enumerate(sweep.points, 1):
        code = "not run" if point.exit_code is None else f"exit code {point.exit_code}"
        listed = ", ".join(f"{count} {status}" for status, count in point.counts.items())
        told = listed or "; ".join(point.problems)
        yield f"[{number}] {point.name.ljust(width)}  {code}{': ' if told else ''}{told}"


def _is_fine(model: SweepModel) -> bool:
    return all(cell.status in (*summary.EXPECTED, "absent") for cell in model.cells)


def _tables(models: Sequence[SweepModel], points: int, width: int) -> Iterator[Paragraph]:
    """One table, or several below each other where the points do not fit beside each other."""
    names = [columns.shorten(model.name, _NAME_WIDTH + width - WIDTH) for model in models]
    beside = max(map(len, (*names, "model"))) + len(" opsets")
    words = beside + points * (_WORD + 1) <= width
    # With letters a column is as wide as its heading, `[12]`.
    fit = (width - beside) // ((_WORD if words else len(f"[{points}]")) + 1)
    for first in range(0, points, fit):
        numbers = range(first, min(first + fit, points))
        head = ["model", "opsets", *(f"[{number + 1}]" for number in numbers)]
        rows = []
        for name, model in zip(names, models, strict=True):
            states = [model.cells[number].status for number in numbers]
            cells = states if words else [_LETTERS[state] for state in states]
            rows.append([name, opset_range(model), *cells])
        yield columns.table(head, rows, left=1)
    if not words:
        seen = {cell.status for model in models for cell in model.cells} - {"absent"}
        yield ", ".join(f"{_LETTERS[state]} {state}" for state in _LETTERS if state in seen)


def opset_range(model: SweepModel) -> str:
    """``13-17``, ``17``, or ``-`` where it works at no opset."""
    low, high = model.lowest_opset, model.highest_opset
    if low is None:
        return "-"
    return str(low) if low == high else f"{low}-{high}"


def _causes(models: Sequence[SweepModel]) -> list[str]:
    """One line for each model, code and stage that is not as expected: at which points."""
    found: dict[tuple[str, str], list[int]] = {}
    for model in models:
        for number, cell in enumerate(model.cells, 1):
            # A point that did not run has a line of its own above, which is not repeated for each
            # model.
            if cell.status in (*summary.EXPECTED, "absent", "not_run"):
                continue
            where = f" in {cell.stage}" if cell.stage else ""
            what = f"{cell.status}{where}: {cell.code}" if cell.code else f"{cell.status}"
            found.setdefault((model.name, what), []).append(number)
    return [f"{name} {_where(numbers)} {what}" for (name, what), numbers in found.items()]


def _where(numbers: Sequence[int]) -> str:
    """``[1][3]``; of many points the first."""
    listed = "".join(f"[{number}]" for number in numbers[:_FEW])
    left = len(numbers) - _FEW
    return f"{listed} and {left} more" if left > 0 else listed
