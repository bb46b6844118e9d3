"""The columns of the table of models: one list for the page and for the spreadsheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from converter.display import summary
from converter.model import matrix, units
from converter.model.manifest import ArtifactRow
from converter.model.records import STAGES, Latency, OutputCheck, StageName
from converter.plugins.reports import _facts
from converter.plugins.reports._spreadsheet import Value

NONE = "–"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its head in the spreadsheet; stable, for programs.
        title: its head on the page; empty: it is in the spreadsheet only.
        group: the columns that are shown and hidden together.
        value: what a spreadsheet shows and the page sorts by; ``None`` where there is none.
        text: how the page shows it.
    """

    key: str
    title: str
    group: str
    value: Callable[[ArtifactRow], Value]
    text: Callable[[ArtifactRow], str]
    numeric: bool = False
    about: str = ""


def columns(rows: Sequence[ArtifactRow]) -> list[Column]:
    """All columns, with those of the providers that occur in these rows."""
    # By what occurs in the rows: a report can be made again without the configuration of its run.
    timed = [column for provider in _facts.providers(rows) for column in _latency_columns(provider)]
    return [*_IDENTITY, *_FILE, *_VERIFICATION, *(timed or _NOT_TIMED), *_time_columns(), *_REST]


# What a column says of rows that have nothing in it.
_NOTHING = {NONE, "", "not requested", "not run", "skipped"}


def on_page(rows: Sequence[ArtifactRow]) -> list[Column]:
    """The columns of the page: those that say something of at least one row."""
    return [column for column in columns(rows) if column.title and _says(column, rows)]


def _says(column: Column, rows: Sequence[ArtifactRow]) -> bool:
    return column.group == "always" or any(
        column.value(row) is not None or column.text(row) not in _NOTHING for row in rows
    )


def number(value: float | None) -> str:
    """Three significant digits without an exponent: ``1,234``, ``12.3``, ``0.0123``."""
    if value is None:
        return NONE
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _plain(
    key: str, title: str, group: str, value: Callable[[ArtifactRow], Value], numeric: bool = False
) -> Column:
    """A column that shows its value as it is."""

    def text(row: ArtifactRow) -> str:
        found = value(row)
        return NONE if found is None else f"{found:,}" if isinstance(found, int) else str(found)

    return Column(key, title, group, value, text, numeric)


def _nodes(row: ArtifactRow, before: bool) -> int | None:
    if row.onnx is None:
        return None
    simplify = row.onnx.simplify
    if not before:
        return row.onnx.nodes
    return simplify.nodes_before if simplify else row.onnx.nodes


def _worst(row: ArtifactRow, field: str) -> Value:
    output = _facts.worst_output(row)
    return getattr(output, field) if output else None


def _share(row: ArtifactRow) -> float | None:
    output = _facts.worst_output(row)
    return matrix.share(output) if output else None


def _error_text(row: ArtifactRow) -> str:
    output = _facts.worst_output(row)
    if output is None:
        missing = "not measured" if row.verify.status == "not_measured" else NONE
        return summary.uncompared(row) or missing
    return bounded(output)


def bounded(output: OutputCheck) -> str:
    """The largest error of an output, and what it may be."""
    if output.atol:
        # Without the second part an error of a large element would look too large, and be right.
        relative = f" + {output.rtol:.0e}·|y|" if output.rtol else ""
        return f"{output.max_abs:.1e} of {output.atol:.1e}{relative}"
    if output.rtol:
        return f"{output.max_rel or 0:.1e} of {output.rtol:.1e} relative"
    # Integers and booleans, which must be equal.
    return f"{output.max_abs:.1e} of none"


def _size_text(row: ArtifactRow) -> str:
    size = _facts.file_bytes(row)
    return NONE if size is None else units.size(size)


def _latency_columns(provider: str) -> list[Column]:
    short = _facts.short(provider)

    def field(row: ArtifactRow, name: str) -> float | None:
        record = _facts.latency(row, provider)
        return getattr(record, name) if record else None

    def text(row: ArtifactRow, name: str) -> str:
        record = _facts.latency(row, provider)
        if record is None:
            return NONE
        if record.status != "measured":
            return record.status.replace("_", " ")
        value = number(getattr(record, name))
        if value == NONE:
            return value
        marks = {"speedup": "×", "p50_ms": "*" if record.notes else ""}
        return value + marks.get(name, "")

    def said(row: ArtifactRow, name: str) -> str | None:
        record = _facts.latency(row, provider)
        return _SAID[name](record) if record else None

    def column(name: str, title: str, about: str) -> Column:
        value, shown = partial(field, name=name), partial(text, name=name)
        return Column(f"{name}_{short}", title, "latency", value, shown, True, about)

    return [
        column("p50_ms", f"p50 {short}, ms", "median latency; * is doubtful, the model says why"),
        column("p99_ms", "", ""),
        column("speedup", f"speedup {short}", "PyTorch's median over this one"),
        *(_plain(f"{name}_{short}", "", "", partial(said, name=name)) for name in _SAID),
    ]


def _stable(record: Latency) -> str | None:
    return None if record.stable is None else "yes" if record.stable else "no"


def _notes(record: Latency) -> str | None:
    """What speaks against the figures of the file, or why there are none."""
    return "; ".join([*([record.reason] if record.reason else []), *record.notes]) or None


# Beside the figures of the spreadsheet, which has no mark for a doubtful one.
_SAID: dict[str, Callable[[Latency], str | None]] = {
    "latency_status": lambda record: record.status,
    "stable": _stable,
    "notes": _notes,
    "torch_notes": lambda record: "; ".join(record.torch_notes) or None,
    "remarks": lambda record: "; ".join(record.remarks) or None,
}


def _time_columns() -> list[Column]:
    def seconds(row: ArtifactRow, stage: StageName) -> float | None:
        record = row.stages.get(stage)
        return record.seconds if record else None

    def text(row: ArtifactRow, stage: StageName) -> str:
        record = row.stages.get(stage)
        if record is None or record.seconds is None:
            return record.status.replace("_", " ") if record else NONE
        return f"{record.seconds:.2f}"

    return [
        Column(
            f"{stage}_seconds",
            f"{stage}, s",
            "stages",
            partial(seconds, stage=stage),
            partial(text, stage=stage),
            True,
        )
        for stage in STAGES
    ]


def _code(row: ArtifactRow) -> str | None:
    return row.error.code if row.error else None


def _unreached(row: ArtifactRow) -> int | None:
    """How many branches of the model no case reached; ``None`` where nothing was verified."""
    return len(_facts.unreached(row)) if row.verify.domain else None


def _opset(row: ArtifactRow) -> int | None:
    return row.onnx.opset if row.onnx else row.request.opset


def _exporter(row: ArtifactRow) -> str | None:
    return row.onnx.exporter if row.onnx else None


def _benchmark_status(row: ArtifactRow) -> str:
    return row.stages["benchmark"].status.replace("_", " ")


def _seconds_text(row: ArtifactRow) -> str:
    return f"{summary.seconds(row):.1f}"


_IDENTITY = [
    _plain("name", "Model", "always", lambda row: row.label),
    _plain("model", "", "", lambda row: row.name),
    _plain("artifact", "", "", lambda row: row.id),
    _plain("precision", "", "", lambda row: row.precision),
    _plain("status", "Status", "always", lambda row: row.status),
    _plain("code", "", "", _code),
    _plain("source", "Source", "file", lambda row: row.source),
    _plain("tags", "", "", lambda row: " ".join(row.tags)),
]
_FILE = [
    _plain("opset", "Opset", "file", _opset, numeric=True),
    _plain("exporter", "Exporter", "file", _exporter),
    _plain("nodes_before", "Nodes", "file", partial(_nodes, before=True), numeric=True),
    _plain("nodes", "simplified", "file", partial(_nodes, before=False), numeric=True),
    Column("bytes", "Size", "file", _facts.file_bytes, _size_text, True, "with external data"),
    _plain("parameters", "", "", lambda row: row.onnx.parameters if row.onnx else None),
]
_VERIFICATION = [
    _plain("verify", "", "", lambda row: row.verify.status),
    _plain("unreached", "", "", _unreached),
    _plain("max_abs", "", "", summary.max_abs),  # of any output, as in the terminal
    # The largest error may be well allowed: these are of the output closest to its tolerance.
    _plain("worst_output", "", "", partial(_worst, field="name")),
    _plain("worst_max_abs", "", "", partial(_worst, field="max_abs")),
    _plain("atol", "", "", partial(_worst, field="atol")),
    _plain("rtol", "", "", partial(_worst, field="rtol")),
    Column(
        "error_over_tolerance",
        "Worst error",
        "verification",
        _share,
        _error_text,
        True,
        "largest error of the output closest to its tolerance, and what it may be",
    ),
]
_NOT_TIMED = [
    Column("p50_ms", "p50, ms", "latency", lambda row: None, _benchmark_status, True),
    Column("speedup", "speedup", "latency", lambda row: None, _benchmark_status, True),
]
_REST = [
    Column("seconds", "Total, s", "always", summary.seconds, _seconds_text, True, "of all stages"),
    _plain("message", "", "", lambda row: row.error.message if row.error else None),
    _plain("hint", "", "", lambda row: row.error.hint if row.error else None),
    _plain("failing_since", "", "", lambda row: row.failing_since),
    _plain("path", "", "", lambda row: row.files[0].path if row.files else None),
    _plain("sha256", "", "", lambda row: row.files[0].sha256 if row.files else None),
]
