"""``report.html``: the whole run as one page that needs nothing but itself."""

from __future__ import annotations

import base64
import functools
import shlex
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from converter.display import cells, explanations, pages
from converter.display.pages import escape
from converter.layout import delivery
from converter.model import dims, matrix, verified
from converter.model.artifact import ONNX, REDUCED
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.matrix import Cell, Matrix
from converter.model.plaintext import plain
from converter.plugins.reports import _cells, _facts, _figures, _grids
from converter.plugins.reports._columns import Column, number, on_page

FILE = "report.html"

_TEMPLATES = Path(__file__).parent / "templates"
_LOG_LINES, _LOG_BYTES = 15, 6000
# Sections of models that a browser is given as elements: more are packed, so many together, until
# they are looked at.
_AT_ONCE, _CHUNK = 200, 50
_HISTORY = "history.html"  # beside the runs of an experiment
# Of an override that a command for one model must not repeat.
_OWN = ("select=", "hydra.run.dir=", "hydra.sweep.dir=")


@functools.cache
def _jinja() -> Environment:
    """Made once: compiling the templates takes longer than all else of a page."""
    jinja = pages.jinja(
        _TEMPLATES,
        number=number,
        short=_facts.short,
        rule=dims.sentence,
        # As filters and not as macros, since a page of many models has a hundred of each.
        shape=_grids.shape,
        shapes=_grids.shapes,
        sizes=verified.sizes,
        never=verified.never,
    )
    jinja.globals |= {
        "error_of": _cells.short_error,
        "said_of": _cells.said,
        "sortable": _cells.sortable,
        "tries": _tries,
        "grids": _grids,
    }
    return jinja


def render(manifest: Manifest, directory: Path) -> str:
    """The page; logs are read from the run directory, everything else from the manifest."""
    found = matrix.of(manifest)
    plots = _figures.figures(manifest.rows)
    budget = _cells.budget(found)
    # 5 MB: only in a page that draws something.
    drawn = any(plot.data for plot in [*plots, budget])
    plotly = Markup(get_plotlyjs().replace("\r\n", "\n") if drawn else "")
    script = pages.code(_TEMPLATES / "report.js")
    given = _of_run(manifest, found) | _of_rows(manifest, found, directory)
    sections = _jinja().get_template("_chunk.html")
    return (
        _jinja()
        .get_template("report.html")
        .render(
            **given,
            packed=lambda some: _pack(sections.render(**given, some=some)),
            pack=_pack,
            figures=plots,
            budget=budget,
            history=(directory.parent / _HISTORY).is_file(),
            style=pages.code(_TEMPLATES / "report.css"),
            script=script,
            plotly=plotly,
            hashes=[pages.allowed(text) for text in (script, plotly) if text],
        )
    )


@functools.lru_cache(maxsize=1)  # of the plotting library, for the next page
def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _pack(text: str) -> Markup:
    """Text for a script to unpack: deflated, as letters."""
    return Markup(_packed(text))


def _of_run(manifest: Manifest, found: Matrix) -> dict[str, Any]:
    """What the templates are given of the run as a whole."""
    rows = manifest.rows
    return {
        "manifest": manifest,
        "run": manifest.run,
        "rows": rows,
        "at_once": _AT_ONCE,
        "chunk": _CHUNK,
        "verdict": _facts.verdict(manifest),
        "duration": _duration(manifest),
        "causes": _facts.causes(rows),
        "codes": _facts.codes(manifest),
        "with_unreached": _facts.with_unreached(rows),
        "choices": _choices(manifest),
        "matrix": found,
        "matrix_causes": matrix.causes(found.all),
        "matrix_codes": _codes(found),
    }


def _of_rows(manifest: Manifest, found: Matrix, directory: Path) -> dict[str, Any]:
    """What the templates ask of a row or a cell."""
    to_show = _to_show(found)
    shown = on_page(manifest.rows)
    return {
        "shown": shown,
        "line": lambda row: _line(row, shown),
        "shown_of": lambda row: to_show.get(row.label, []),
        "bundle": lambda cell: cells.bundle(cell, directory),
        "log": lambda row: _log(row, directory),
        "log_file": lambda row: _log_file(row, directory),
        "again": lambda row: _again(row, manifest),
        "view": lambda row: _view(row, directory),
        "wrong": lambda row: _wrong(row, directory),
        "debug": lambda row: _debug(row, directory),
        "untimed": _facts.untimed,
        "unreached": _facts.unreached,
        "extent": verified.extent,
        "count": verified.count,
    }


def _line(row: ArtifactRow, shown: Sequence[Column]) -> Markup:
    """The cells of a row of the table; put together here, since a page may have thousands."""
    return Markup("".join(_cell(row, column) for column in shown))


def _cell(row: ArtifactRow, column: Column) -> str:
    if column.key == "name":
        target = quote(row.label, safe="")
        return f'<th scope="row"><a href="#model-{target}">{escape(row.label)}</a></th>'
    if column.key == "status":
        code = row.error.code if row.error else ""
        link = f'<a class="code" href="#{explanations.anchor(code)}"><code>{code}</code></a>'
        told = f" <small>{link}</small>" if code else ""
        badge = f'<span class="badge {row.status}">{pages.words(row.status)}</span>'
        return f"<td>{badge}{told}</td>"
    value, text = column.value(row), column.text(row)
    shown = escape(text)
    if value is None and not column.numeric:
        return f"<td data-none>{shown}</td>"
    # What a column sorts by, where its text is not that.
    if not column.numeric or value is None or str(value) == text:
        return f"<td>{shown}</td>"
    key = f"{value:.4g}" if isinstance(value, float) else value
    return f'<td data-value="{key}">{shown}</td>'


def _to_show(found: Matrix) -> dict[str, list[Cell]]:
    """By artifact, the cells that a runtime's maintainers should see."""
    cells: dict[str, list[Cell]] = {}
    for cell in found.all:
        if cell.show:
            cells.setdefault(cell.label, []).append(cell)
    return cells


def _tries(row: ArtifactRow) -> str:
    """How a file came to be good enough: ``0 nodes in float: 8.3 dB, …; 2: 31.0 dB``."""
    assert row.made is not None
    told = []
    for point in row.made.curve:
        came = [] if point.sqnr_db is None else [f"{point.sqnr_db:.1f} dB"]
        came += [point.error] if point.error else []
        told.append(f"{point.float_nodes}: {', '.join(came) or 'right'}")
    return "; ".join(told)


def _codes(found: Matrix) -> list[str]:
    """What the cells of a model may be narrowed to."""
    wrong = (cell for cell in found.all if cell.status != "ok" and not cell.column.lacks)
    return sorted({cell.code or cell.status for cell in wrong})


def _choices(manifest: Manifest) -> list[tuple[str, str, list[str]]]:
    """What the table can be narrowed to, beside the status: key, label, values."""
    files = [row.onnx for row in manifest.rows if row.onnx]
    asked = {row.request.opset for row in manifest.rows if not row.onnx}
    opsets = sorted({file.opset for file in files} | {opset for opset in asked if opset})
    exporters = sorted({file.exporter for file in files})
    found = [("exporter", "Exporter", exporters), ("opset", "Opset", [str(n) for n in opsets])]
    return [choice for choice in found if choice[2]]


def _duration(manifest: Manifest) -> str:
    run = manifest.run
    if run.finished_at is None:
        return ""
    took = datetime.fromisoformat(run.finished_at) - datetime.fromisoformat(run.started_at)
    # The clock may have been set back in between.
    minutes, seconds = divmod(max(round(took.total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "under a second"


def _log_file(row: ArtifactRow, directory: Path) -> str | None:
    """Path of a model's log relative to the run directory, if it is there and in it."""
    recorded = row.error.log if row.error and row.error.log else None
    path = directory / (recorded or f"{delivery.MODELS}/{row.label}/{delivery.LOG}")
    # Asked first: most models have none, and to resolve takes a look at each folder above.
    if not path.is_file():
        return None
    # A manifest may come from anybody: a path or link in it must not put another file into the
    # page.
    inside = path.resolve().is_relative_to(directory.resolve())
    return str(path.relative_to(directory)) if inside else None


def _log(row: ArtifactRow, directory: Path) -> str:
    """The last lines of a model's log, without what only a terminal understands."""
    found = _log_file(row, directory)
    if found is None:
        return ""
    with (directory / found).open("rb") as file:
        # The end only: a log may have 8 MiB, and a page holds those of all models.
        start = max(file.seek(0, 2) - _LOG_BYTES, 0)
        file.seek(start)
        text = file.read().decode("utf-8", errors="replace")
    lines = plain(text.replace("\r", "\n"), instead="").splitlines()
    if start:
        lines = lines[1:]  # its beginning is cut off
    return "\n".join([line for line in lines if line.strip()][-_LOG_LINES:])


def _view(row: ArtifactRow, directory: Path) -> str:
    """The command that shows the graph of a file; empty: it has none."""
    if row.format != ONNX or not row.files:
        return ""
    return _command_to_view(directory / row.files[0].path)


def _wrong(row: ArtifactRow, directory: Path) -> list[tuple[str, str, str]]:
    """The graphs of what was exported and is wrong: exporter, path in the run, and command."""
    if row.error is None or row.files:
        return []
    folder = directory / delivery.MODELS / row.label
    return [
        (
            path.name.split(".")[1],
            str(path.relative_to(directory)),
            _command_to_view(path),
        )
        for path in sorted(folder.glob(delivery.WRONG))
    ]


def _command_to_view(path: Path) -> str:
    return shlex.join(["python", "-m", "converter", "view", cells.from_here(path)])


def _debug(row: ArtifactRow, directory: Path) -> str:
    """The command that finds where a file begins to be wrong; empty: nothing of it is wrong."""
    error = row.error
    # On another provider a file is verified after the stage of that name.
    wrong = error is not None and (error.stage == "verify" or error.code.startswith("VERIFY_"))
    # Of the other variants there is no float32 file to hold the values against.
    looked_into = row.parent is None or (row.format == ONNX and row.precision in REDUCED)
    if not wrong or not looked_into or row.source.startswith("onnx:"):
        return ""
    folder = cells.from_here(directory)
    return shlex.join(["python", "-m", "converter", "debug", folder, row.label])


def _again(row: ArtifactRow, manifest: Manifest) -> str:
    """The command that runs this model alone."""
    run = manifest.run
    kept = [word for word in run.overrides if not word.startswith(_OWN)]
    folder = ["--config-dir", run.config_dir] if run.config_dir is not None else []
    return shlex.join(["python", "-m", "converter", *folder, *kept, f"select=[{row.name}]"])
