"""The tables in the section of a model, and of the comparison: their cells, without empty columns.

A column that says nothing in any of its lines is left out: of a file that was not timed beside
PyTorch nobody has to read that there is no speedup, twelve times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from converter.compare import wording
from converter.display import explanations
from converter.display.pages import escape, words
from converter.model import units
from converter.model.changes import Comparison
from converter.model.manifest import ArtifactRow
from converter.model.records import CaseCheck, Latency, OutputCheck, StageRecord, VerifyRecord
from converter.plugins.reports._columns import NONE, number
from converter.plugins.reports._facts import short

_NUMBER = ' class="number"'


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        cells: the first one is its head; text, or markup that is safe.
        mark: a class of all of it.
        span: the last cell takes all columns that are left.
    """

    cells: Sequence[str]
    mark: str = ""
    span: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: titles, which of them are of numbers, and lines."""

    heads: list[tuple[str, bool]]
    lines: list[Line]

    @property
    def markup(self) -> Markup:
        """The table; put together here, since a page may have tens of thousands."""
        heads = "".join(
            f'<th scope="col"{_NUMBER * each}>{title}</th>' for title, each in self.heads
        )
        lines = "\n".join(map(self._line, self.lines))
        return Markup(
            f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"
        )

    def _line(self, line: Line) -> str:
        first, *others = map(escape, line.cells)
        numbers = [number for _, number in self.heads[1:]]
        cells = [
            f"<td{_NUMBER * number}>{cell}</td>"
            for cell, number in zip(others, numbers, strict=False)
        ]
        if line.span:
            span = len(self.heads) - len(others)
            cells[-1] = f'<td colspan="{span}">{others[-1]}</td>'
        mark = f' class="{line.mark}"' if line.mark else ""
        return f'<tr{mark}><th scope="row">{first}</th>{"".join(cells)}</tr>'


def grid(heads: Sequence[str], lines: Iterable[Line]) -> Grid:
    """A table without the columns that say nothing.

    Args:
        heads: titles; one of a number begins with ``#``.
    """
    lines = list(lines)
    whole = [line for line in lines if not line.span]
    # What a line that spans says has columns to span, also where all lines do.
    least = max((len(line.cells) for line in lines if line.span), default=1)
    kept = [
        at for at in range(len(heads)) if at < least or any(says(line.cells[at]) for line in whole)
    ]
    return Grid(
        [(heads[at].removeprefix("#"), heads[at].startswith("#")) for at in kept],
        [line if line.span else Line([line.cells[at] for at in kept], line.mark) for line in lines],
    )


def says(text: str) -> bool:
    return text not in ("", NONE)


def exact(value: float | None) -> str:
    return NONE if value is None else f"{value:.2e}"


def shape(sizes: Sequence[int | str | None]) -> str:
    return " × ".join("?" if size is None else str(size) for size in sizes) or "scalar"


def shapes(named: Mapping[str, Sequence[int | str | None]]) -> str:
    return ", ".join(f"{name} {shape(sizes)}" for name, sizes in named.items())


def verdicts(verify: VerifyRecord) -> Grid:
    """What each runtime gave."""
    lines = [
        Line(
            [
                short(each.provider),
                each.version or NONE,
                _with_code(each.status, each.code),
                each.reason or "",
            ],
            "wrong" if each.status == "failed" else "",
        )
        for each in verify.providers
    ]
    return grid(["Runtime", "Version", "Verdict", "Reason"], lines)


def _with_code(status: str, code: str | None) -> str:
    link = Markup('{} <a class="code" href="#{}"><code>{}</code></a>')
    return link.format(status, explanations.anchor(code), code) if code else status


def cases(verify: VerifyRecord) -> Grid:
    """Each output of each case."""
    heads = ["Case", "Inputs", "Output", "Shape", "Provider", "#Max abs", "#Rel L2", "#atol",
             "#rtol", "Passed"]  # fmt: skip
    lines = []
    for case in verify.cases:
        lines += [_output(case, output) for output in case.outputs]
        if not case.outputs:
            cells = [case.label, shapes(case.shapes), "no output was compared"]
            lines.append(Line(cells, span=True))
    return grid(heads, lines)


def _output(case: CaseCheck, output: OutputCheck) -> Line:
    passed = "yes" if output.passed else "NO"
    passed += f": {output.not_compared}" if output.not_compared else ""
    passed += f", {output.unpaired} unpaired" if output.unpaired else ""
    cells = [
        case.label,
        shapes(case.shapes),
        output.name,
        shape(output.shape),
        short(case.provider),
        exact(output.max_abs),
        exact(output.rel_l2),
        exact(output.atol),
        exact(output.rtol),
        passed,
    ]
    return Line(cells, "" if output.passed else "wrong")


def latency(row: ArtifactRow) -> Grid:
    """What was measured on each provider."""
    heads = ["Provider", "Inputs", "State", "#p50, ms", "#p90, ms", "#p99, ms", "#Mean ± std, ms",
             "#Samples per second", "#PyTorch p50, ms", "#Speedup", "#Load, ms", "How"]  # fmt: skip
    return grid(heads, map(_timed, row.latency))


def _timed(entry: Latency) -> Line:
    state = words(entry.status) + (", not stable" if entry.stable is False else "")
    mean = "" if entry.mean_ms is None else f"{number(entry.mean_ms)} ± {number(entry.std_ms)}"
    cells = [
        short(entry.provider),
        shapes(entry.shapes),
        state + (f": {entry.reason}" if entry.reason else ""),
        number(entry.p50_ms),
        number(entry.p90_ms),
        number(entry.p99_ms),
        mean,
        number(entry.throughput),
        number(entry.torch_p50_ms),
        "" if entry.speedup is None else f"{number(entry.speedup)} ×",
        number(entry.session_load_ms),
        _how(entry),
    ]
    return Line(cells)


def _how(entry: Latency) -> str:
    parts = [f"{entry.iterations} runs after {entry.warmup or 0}"] if entry.iterations else []
    parts += [f"{entry.threads} threads"] if entry.threads else []
    parts += ["IO binding"] if entry.io_binding else []
    parts += [
        f"nodes on {short(name)}: {nodes}" for name, nodes in entry.nodes_per_provider.items()
    ]
    return ", ".join(parts)


def stages(row: ArtifactRow) -> Grid:
    """How each stage went."""
    lines = (
        Line(
            [
                name,
                words(stage.status),
                NONE if stage.seconds is None else f"{stage.seconds:.2f}",
                NONE if stage.peak_rss_bytes is None else units.size(stage.peak_rss_bytes),
                _warnings(stage),
            ],
            "wrong" if stage.status == "failed" else "",
        )
        for name, stage in row.stages.items()
    )
    return grid(["Stage", "Status", "#Seconds", "#Peak memory", "Warnings"], lines)


def _warnings(stage: StageRecord) -> str:
    if not stage.warnings:
        return ""
    listed = Markup().join(Markup("<li>{}</li>").format(text) for text in stage.warnings)
    count = len(stage.warnings)
    return Markup("<details><summary>{}</summary><ul>{}</ul></details>").format(count, listed)


def changes(comparison: Comparison) -> Grid:
    """What changed since the baseline: what got worse first."""
    heads = ["Model", "Severity", "What else differs", "What", "Before", "Now", "Detail"]
    lines = [
        Line(
            [
                _about(change.about) if change.model else change.about,
                severity,
                "; ".join(change.explained_by),
                words(change.kind),
                wording.value(change.before, change.kind),
                wording.value(change.after, change.kind),
                change.detail,
            ]
        )
        for severity in ("regression", "improvement", "note")
        for change in comparison.changes
        if change.severity == severity
    ]
    return grid(heads, lines)


def environment(comparison: Comparison) -> Grid:
    """What differs in the environment."""
    lines = (
        Line(
            [
                item.name,
                NONE if item.before is None else item.before,
                NONE if item.after is None else item.after,
            ]
        )
        for item in comparison.environment
    )
    return grid(["What", "Then", "Now"], lines)


def _about(label: str) -> str:
    return Markup('<a href="#model-{}">{}</a>').format(quote(label, safe=""), label)
