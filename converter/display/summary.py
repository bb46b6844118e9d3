"""What a run prints at its end: a table, each failure in full, where to look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from converter.display import cells, columns, latencies
from converter.display.columns import Table
from converter.display.screen import Paragraph, plain
from converter.model import matrix
from converter.model.errors import Code
from converter.model.manifest import ArtifactRow, Manifest, ModelRecord, counts
from converter.model.records import StageName
from converter.model.units import size

# Not `xpass`: it fails the run, so that a stale `expect` does not stay.
EXPECTED = ("ok", "xfail", "skipped")
_ALL_ROWS = 40  # a longer table would hide what is not ok, and each row was printed before
_CAUSES, _NAMED = 20, 5  # of more failures than that: causes that are told, models of each
_HEAD = ("model", "status", "opset", "exporter", "nodes", "size", "max abs", "seconds")
_PROOF: tuple[StageName, ...] = ("reference", "verify")


def render(manifest: Manifest, directory: Path) -> str:
    """The whole summary for a log, lines of at most 80 columns but for paths and messages."""
    return "\n\n".join(map(plain, paragraphs(manifest, directory)))


def paragraphs(manifest: Manifest, directory: Path) -> list[Paragraph]:
    """What a run prints at its end; of one that a signal ended, only what failed before."""
    rows = manifest.rows
    found = matrix.of(manifest)
    # What a matrix tells is not told again.
    apart = [row for row in rows if not found.says_more or cells.is_told(row)]
    if manifest.run.ended_by == "signal":
        apart = rows
    notes = told(apart, directory)
    failures: list[Paragraph] = ["\n".join(notes)] if notes else []
    if manifest.run.ended_by == "signal":
        return failures
    shown = rows if len(rows) <= _ALL_ROWS else [row for row in rows if row.status != "ok"]
    parts: list[Paragraph] = []
    if shown:
        parts.append(table(shown[:_ALL_ROWS]))
    if len(shown) > _ALL_ROWS:
        left = len(shown) - _ALL_ROWS
        parts.append(f"{left} more are not ok; report.html and manifest.json have every row.")
    if len(shown) < len(rows):
        parts.append(f"{len(rows) - len(shown)} more are ok; manifest.json has every row.")
    parts += latencies.paragraphs(rows, _ALL_ROWS)
    parts += [*cells.paragraphs(found, rows, directory, _ALL_ROWS), *failures]
    return [*parts, "\n".join([totals(manifest.models), *verification(rows), str(directory)])]


def totals(models: Sequence[ModelRecord]) -> str:
    """``12 models: 10 ok, 1 failed, 1 skipped; 9 from the store; 1 tried again``.

    Where a model has several artifacts, what became of those follows: ``24 artifacts: 22 ok, …``.
    """
    rows = [row for model in models for row in model.rows]
    told = _counted(models, "model")
    if len(rows) > len(models):
        told += f"; {_counted(rows, 'artifact')}"
    stored = sum(row.cached for row in rows)
    more = f"; {stored} from the store" if stored else ""
    again = sum(map(retried, rows))
    more += f"; {again} tried again" if again else ""
    return f"{told}{more}"


def _counted(found: Sequence[ModelRecord | ArtifactRow], what: str) -> str:
    number = counts(found)
    total = sum(number.values())
    order = sorted(number, key=lambda status: (status != "ok", status))
    listed = ", ".join(f"{number[status]} {status}" for status in order)
    return f"{total} {what}{'s' * (total != 1)}: {listed or 'none'}"


def retried(row: ArtifactRow) -> bool:
    """Whether a process of the job was lost in this run, and another one took its place."""
    return row.attempts > 1 and not row.cached


def verification(rows: Sequence[ArtifactRow]) -> list[str]:
    """What the proof costs: ``verification took 23 % of conversion time``.

    The reference counts as well: the conversion alone would not need it. Where latencies were
    measured, its share of conversions and latencies together follows. Rows of the store do not
    count: they cost this run nothing of it. None where nothing ran.
    """
    spent: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        for name, stage in row.stages.items() if not row.cached else ():
            spent[name] += stage.seconds or 0.0
    proof, benchmark = sum(spent[name] for name in _PROOF), spent["benchmark"]
    whole = sum(spent.values())
    # Nothing was converted: from the store, only measured, or nothing at all.
    if whole <= benchmark:
        return []
    told = f"verification took {100 * proof / (whole - benchmark):.0f} % of conversion time"
    return [f"{told}, {100 * proof / whole:.0f} % with their latencies" if benchmark else told]


def table(rows: Sequence[ArtifactRow]) -> Table:
    """A line for each row."""
    return columns.table(_HEAD, map(_cells, rows), left=2)


def _cells(row: ArtifactRow) -> tuple[str, ...]:
    onnx = row.onnx
    return (
        row.label,
        row.status,
        str(onnx.opset if onnx else row.request.opset or "-"),
        onnx.exporter if onnx else "-",
        str(onnx.nodes) if onnx else "-",
        size(row.bytes) if row.files else "-",
        worst(row),
        f"{seconds(row):.1f}",
    )


def uncompared(row: ArtifactRow) -> str | None:
    """What kept an output from being compared at all, such as ``shape``; ``None``: nothing did.

    Where there is such an output the errors of the others, however small, are not the row's.
    """
    for case in row.verify.cases:
        for check in case.outputs:
            if not check.passed and check.max_abs is None:
                return check.not_compared or "not compared"
        if not case.outputs:  # the file did not run, or gave another number of outputs
            return "not compared"
    return None


def max_abs(row: ArtifactRow) -> float | None:
    """The largest absolute error of any output in any case; ``None`` where one was not computed."""
    if uncompared(row) is not None:
        return None
    checks = [output for case in row.verify.cases for output in case.outputs]
    return max((check.max_abs for check in checks if check.max_abs is not None), default=None)


def worst(row: ArtifactRow) -> str:
    error = max_abs(row)
    return "-" if error is None else f"{error:.1e}"


def seconds(row: ArtifactRow) -> float:
    """Time spent in the stages of a row."""
    return sum(stage.seconds or 0.0 for stage in row.stages.values())


def reason(row: ArtifactRow) -> str:
    """Why a row is not ok, in one line; empty for one that is."""
    if row.status == "xpass":
        return "expected to fail, but it is ok: remove its 'expect'"
    if row.error is not None:
        first = row.error.message.splitlines()[0] if row.error.message else ""
        return f"{row.error.code}: {first}"
    if row.status == "skipped":
        return row.verify.reason or ""
    return ""


def code(row: ArtifactRow) -> str:
    """The code of a row's error, for the line of its progress; empty where it has none."""
    return str(row.error.code) if row.error is not None else ""


def page(code: Code) -> str:
    """Where the documentation says what an error code means."""
    return f"docs/errors.md#{code.lower()}"


def told(rows: Sequence[ArtifactRow], directory: Path) -> list[str]:
    """The lines below the table; of very many failures one for each cause, the frequent ones first.

    What is left out is in the report and in the manifest.
    """
    found = [row for row in rows if row.status not in ("ok", "not_run")]
    if len(found) <= _ALL_ROWS:
        return [line for row in found for line in explain(row, directory)]
    causes: dict[tuple[str, str], list[ArtifactRow]] = {}
    for row in found:
        # A record of another program may have no fingerprint.
        cause = (row.error.fingerprint if row.error is not None else "") or reason(row)
        causes.setdefault((row.status, cause), []).append(row)
    ordered = sorted(causes.values(), key=lambda alike: (alike[0].status in EXPECTED, -len(alike)))
    lines = []
    for first, *others in ordered[:_CAUSES]:
        lines += explain(first, directory)
        if others:
            names = ", ".join(row.label for row in others[:_NAMED])
            names += ", …" if len(others) > _NAMED else ""
            lines.append(f"    and {len(others)} more for the same reason: {names}")
    if left := ordered[_CAUSES:]:
        number = sum(map(len, left))
        said = f"{number} more are not ok, for {len(left)} more reasons"
        lines.append(f"{said}: report.html and manifest.json have them")
    return lines


def explain(row: ArtifactRow, directory: Path) -> list[str]:
    """The lines below the table for a row that is not ok; none for one that is, or never ran.

    The one place that tells a failure in full: its reason, what to do, its log, its page.
    """
    if row.status in ("ok", "not_run"):
        return []
    lines = [f"{row.status} {row.label}: {reason(row)}"]
    if row.status in EXPECTED or row.error is None:
        return lines
    if row.error.hint:
        lines.append(f"    {row.error.hint}")
    # Code that was refused did not run: its log says no more than the hint.
    if row.error.log and row.error.code is not Code.TARGET_DENIED:
        lines.append(f"    {directory / row.error.log}")
    return [*lines, f"    {page(row.error.code)}"]
