"""``summary.md``: the run on half a page, for a CI job page or a chat message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converter.compare import wording
from converter.display import cells, latencies, summary
from converter.model import matrix
from converter.model.changes import Comparison
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.markup import cell, code
from converter.model.matrix import Cell, Matrix
from converter.plugins.reports import _facts

FILE = "summary.md"

# A job page has room for about a megabyte, a chat message for far less.
_CAUSES, _NAMES, _CHANGES, _MODELS = 20, 8, 20, 40
_SEVERITIES = ("regression", "improvement", "note")


def render(manifest: Manifest, directory: Path) -> str:
    run = manifest.run
    packages = manifest.environment.packages
    versions = [
        f"{name} {packages[name]}"
        for name in ("torch", "onnx", "onnxruntime", "onnxruntime-gpu")
        if packages.get(name)
    ]
    lines = [
        f"## {code(run.experiment)}: {_facts.verdict(manifest)}",
        "",
        f"{summary.totals(manifest.models)} · exit code {_exit(run.exit_code)} · "
        f"{run.started_at[:16].replace('T', ' ')} UTC · {code(', '.join(versions))}",
    ]
    if run.problems:
        lines += ["", "### After the last model", ""]
        lines += [f"- {code(problem)}" for problem in run.problems]
    rows = manifest.rows
    causes = _facts.causes(rows)
    lines += _problems("Not as expected", [cause for cause in causes if not cause.expected])
    found = matrix.of(manifest)
    lines += _matrix(found, directory)
    lines += _unreached(rows)
    if manifest.comparison is not None:
        lines += _comparison(manifest.comparison)
    lines += _latency(rows)
    # What is optional stands in the matrix, where there is one.
    left = [cause for cause in causes if not (found.says_more and cause.first.optional)]
    expected = [cause for cause in left if cause.expected]
    lines += _problems("Expected or optional", expected, hints=False)
    return "\n".join([*lines, "", f"Run {code(run.id)}; report.html has the details.", ""])


def _exit(number: int | None) -> str:
    return "none yet" if number is None else str(number)


def _problems(title: str, causes: list[_facts.Cause], hints: bool = True) -> list[str]:
    if not causes:
        return []
    lines = ["", f"### {title}", ""]
    for cause in causes[:_CAUSES]:
        names = _names([row.label for row in cause.rows])
        kind = f" {cause.code}" if cause.code else ""
        said = f": {code(cause.message)}" if cause.message else ""
        lines.append(f"- **{cause.first.status}{kind}** {names}{said}")
        if hints and cause.hint:
            lines.append(f"  - {code(cause.hint)}")
    if len(causes) > _CAUSES:
        lines.append(f"- and {len(causes) - _CAUSES} more causes")
    return lines


def _matrix(found: Matrix, directory: Path) -> list[str]:
    """Counts for each runtime and precision, a line for each model that is not ok everywhere."""
    if not found.says_more:
        return []
    lines = ["", "### Runtimes and precisions", ""]
    lines += ["| runtime and precision | ok |", "|---|---|"]
    for column in found.columns:
        ok, asked = found.right(column)
        told = f"not available: {code(column.lacks)}" if column.lacks else f"{ok} of {asked}"
        lines.append(f"| {cell(code(column.title))} | {cell(told)} |")
    open_ = [column for column in found.columns if not column.lacks]
    wrong = [
        model
        for model in found.models
        if any(cell.status != "ok" for cell in found.line(model) if cell and not cell.column.lacks)
    ]
    if not wrong:
        return [*lines, "", "Every cell is ok."]
    lines += ["", f"| model | {' | '.join(cell(code(column.title)) for column in open_)} |"]
    lines.append(f"|---|{'---|' * len(open_)}")
    for model in wrong[:_MODELS]:
        line = (found.cells.get((model, column)) for column in open_)
        lines.append(f"| {cell(code(model))} | {' | '.join(map(_verdict, line))} |")
    if len(wrong) > _MODELS:
        lines += ["", f"and {len(wrong) - _MODELS} more models"]
    if len(found.models) > len(wrong):
        lines += ["", f"{len(found.models) - len(wrong)} more are ok in every cell."]
    causes = [cause for cause in matrix.causes(found.all) if not cause.first.column.lacks]
    lines += ["", *(line for cause in causes[:_CAUSES] for line in _reason(cause, directory))]
    return [*lines, *([f"- and {len(causes) - _CAUSES} more reasons"] * (len(causes) > _CAUSES))]


def _verdict(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return "ok" if cell.status == "ok" else cell.code or cell.status.replace("_", " ")


def _reason(cause: matrix.Cause, directory: Path) -> list[str]:
    first = cause.first
    where = ", ".join(code(column.title) for column in cause.columns)
    kind = f" {first.code}" if first.code else ""
    head = f"- **{first.status.replace('_', ' ')}{kind}** on {where}, {_names(cause.models)}"
    lines = [f"{head}: {code(first.reason)}" if first.reason else head]
    shown = next((cell for cell in cause.cells if cell.show), None)
    if shown is not None:
        whose = code(shown.version or shown.column.runtime)
        lines.append(f"  - for the maintainers of {whose}: {code(cells.bundle(shown, directory))}")
    return lines


def _unreached(rows: Sequence[ArtifactRow]) -> list[str]:
    """What ``ok`` leaves open, in a line."""
    found = _facts.with_unreached(rows)
    if not found:
        return []
    models = "1 model is" if len(found) == 1 else f"{len(found)} models are"
    names = _names([row.label for row in found])
    return ["", f"{models} ok, but for branches that no case reached: {names}"]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(map(code, names[:_NAMES])) + more


def _latency(rows: Sequence[ArtifactRow]) -> list[str]:
    """Figures that are missing or doubtful, and remarks; nothing where there is none of it."""
    missing = latencies.not_measured(rows)
    lines = []
    for item in missing[:_CAUSES]:
        count = f"{len(item.models)} model{'s' * (len(item.models) != 1)}"
        kind = f"{code(_facts.short(item.provider))} {item.status}"
        lines.append(f"- **{kind}** for {count}, {_names(item.models)}: {code(item.reason)}")
    if len(missing) > _CAUSES:
        lines.append(f"- and {len(missing) - _CAUSES} more reasons")
    lines += _doubtful("", latencies.doubtful(rows), latencies.doubts(rows))
    lines += _doubtful("PyTorch ", latencies.torch_doubtful(rows), latencies.torch_doubts(rows))
    if remarks := latencies.remarks(rows):
        lines += ["- Remarks, such as:", *(f"  - {code(remark)}" for remark in remarks)]
    return ["", "### Latency", "", *lines] if lines else []


def _doubtful(whose: str, counts: tuple[int, int], doubts: Sequence[str]) -> list[str]:
    noted, total = counts
    if not noted:
        return []
    verb = "figure is" if total == 1 else "figures are"
    told = f"- {noted} of {total} {whose}{verb} doubtful, such as:"
    return [told, *(f"  - {code(doubt)}" for doubt in doubts)]


def _comparison(comparison: Comparison) -> list[str]:
    against = code(comparison.baseline_run_id) if comparison.baseline_run_id else "no baseline"
    lines = ["", f"### Against {against}: {comparison.verdict.replace('_', ' ')}", ""]
    worst_first = sorted(comparison.changes, key=lambda item: _SEVERITIES.index(item.severity))
    for change in worst_first[:_CHANGES]:
        words = wording.said(change)
        detail = f": {code(words)}" if words else ""
        why = f" ({code('; '.join(change.explained_by))})" if change.explained_by else ""
        about = code(change.about) if change.model else change.about
        lines.append(f"- {change.kind.replace('_', ' ')} {about}{why}{detail}")
    if len(comparison.changes) > _CHANGES:
        lines.append(f"- and {len(comparison.changes) - _CHANGES} more changes")
    if not comparison.changes and comparison.baseline_run_id:
        lines.append("Nothing changed.")
    lines += [
        f"- {code(item.name)} was {code(item.before or '-')}, is {code(item.after or '-')}"
        for item in comparison.environment
    ]
    return lines
