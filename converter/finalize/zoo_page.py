"""``index.html`` of a published folder: its models to search, and a card of each.

It is made from the index alone, so that the same index gives the same page, and needs nothing but
itself: no server, no network. What a card shows is data until it is opened, since a zoo may have
thousands of models; without scripts there is a table of names, files and hashes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Template
from markupsafe import Markup

import converter
from converter.display import pages
from converter.finalize import beside, loading
from converter.finalize.zoo_index import Entry, Index, Measured
from converter.model import units
from converter.model.artifact import ONNX
from converter.model.records import FileInfo, TensorInfo, WeightsOrigin
from converter.model.source import UNTRAINED
from converter.model.verified import Verified, extent, sizes

_FOLDER = Path(__file__).parent / "templates"
_MARK = '<meta name="generator" content="onnx-zoo-converter'
_GENERATOR = f'{_MARK} {converter.__version__}">'
# Between the name and the file; one that says nothing of any model is left out.
_COLUMNS = (
    ("task", "Task"),
    ("precision", "Precision"),
    ("opset", "Opset"),
    ("size", "Size"),
    ("error", "Largest error"),
)


def render(index: Index, patterns: Sequence[str]) -> str:
    """The page.

    Args:
        patterns: of the layout: what stands beside the versions.
    """
    rows = [_row(name, entry, patterns) for name, entry in index.models.items()]
    script = pages.code(_FOLDER / "page.js")
    return _template().render(
        generator=Markup(_GENERATOR),
        rows=rows,
        columns=[each for each in _COLUMNS if any(row[each[0]] for row in rows)],
        choices=_choices(rows),
        count=len(rows),
        artifacts=sum(len(row["card"]["artifacts"]) for row in rows),
        # A name may hold anything: nothing of it may end the element that the data stands in.
        data=pages.data([row["card"] for row in rows]),
        style=pages.code(_FOLDER / "page.css"),
        script=script,
        allowed=pages.allowed(script),
    )


def is_ours(text: str) -> bool:
    """Whether a page was made here, by whatever version."""
    return _MARK in text[:2000]


def is_of_this_version(text: str) -> bool:
    """Whether a page is to be what ``render`` gives."""
    return _GENERATOR in text[:2000]


@functools.cache
def _template() -> Template:
    return pages.jinja(_FOLDER).get_template("page.html")


def _row(name: str, entry: Entry, patterns: Sequence[str]) -> dict[str, Any]:
    """A line of the table, with the card that it opens."""
    places = {
        part.path: each.path(part)
        for each in beside.of(entry, patterns)
        if each.is_artifact
        for part in each.parts
    }
    main = FileInfo(path=entry.path, bytes=entry.bytes, sha256=entry.sha256)
    onnx = [main, *entry.external_data]
    artifacts = [_artifact(ONNX, "onnx", "float32", onnx, entry.measured, entry.inputs, places)]
    for id_, each in entry.variants.items():
        made = (id_, each.format, each.precision, each.files, each.measured)
        artifacts.append(_artifact(*made, each.inputs or entry.inputs, places))
    about = entry.about
    size = sum(part.bytes for part in onnx)
    error = entry.measured.max_abs if entry.measured else None
    card = {
        "name": name,
        "state": _state(entry),
        "facts": list(_facts(entry)),
        "tensors": [
            [kind, value.name, value.dtype, loading.shape(value)]
            for kind, values in (("input", entry.inputs), ("output", entry.outputs))
            for value in values
        ],
        "verified": list(_domain(entry.verified)),
        "artifacts": artifacts,
        "versions": list(_versions(entry)),
        "ops": list(about.ops.items()) if about else [],
    }
    return {
        "name": name,
        "href": artifacts[0]["files"][0][1],
        "sha256": entry.sha256,
        "bytes": size,
        "size": units.size(size),
        "opset": entry.opset,
        "task": (about.task if about else None) or "",
        "tags": about.tags if about else [],
        "precision": ", ".join(dict.fromkeys(each["precision"] for each in artifacts)),
        "error": "" if error is None else f"{error:.1e}",
        "state": card["state"],
        "card": card,
    }


def _artifact(
    id_: str,
    format_: str,
    precision: str,
    parts: Sequence[FileInfo],
    measured: Measured | None,
    inputs: Sequence[TensorInfo],
    places: dict[str, str],
) -> dict[str, Any]:
    paths = [places.get(part.path, part.path) for part in parts]
    return {
        "id": id_,
        "format": format_,
        "precision": precision,
        "files": [
            [path, quote(path), units.size(part.bytes), part.sha256]
            for path, part in zip(paths, parts, strict=True)
        ],
        "error": _error(measured),
        "latency": [
            [
                each.provider,
                f"{each.p50_ms:.3g} ms",
                str(each.threads or ""),
                _shapes(each.shapes),
                each.machine or "",
                each.at[:10],
            ]
            for each in (measured.latency if measured else ())
        ],
        "load": "\n".join(loading.lines(paths[0], inputs)),
        "view": f"python -m converter view {paths[0]}" if paths[0].endswith(".onnx") else "",
    }


def _error(measured: Measured | None) -> str:
    if measured is None:
        return "not known"
    said = [] if measured.max_abs is None else [f"largest error {measured.max_abs:.2g}"]
    if measured.sqnr_db is not None:
        said.append(f"signal {measured.sqnr_db:.3g} dB above the noise")
    return ", ".join([*said, f"{measured.cases} cases"])


def _shapes(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, sizes))}" for name, sizes in shapes.items())


def _state(entry: Entry) -> str:
    if entry.retired:
        return f"retired since {(entry.retired_since or '')[:10]}"
    if entry.failing_since:
        return f"newer attempts fail since {entry.failing_since[:10]}"
    return ""


def _facts(entry: Entry) -> Iterator[tuple[str, str]]:
    made, about = entry.provenance, entry.about
    if about is not None:
        yield "source", about.source
        untrained = about.weights in UNTRAINED
        yield "weights", f"{about.weights}: untrained" if untrained else about.weights
        if about.weights_sha256:
            yield "SHA-256 of the weights", about.weights_sha256
        if not untrained:
            yield from _origin(about.weights_origin)
    yield "licence", entry.license or "not stated"
    if about is not None:
        if about.task:
            yield "task", about.task
        if about.tags:
            yield "tags", ", ".join(about.tags)
        yield "parameters", f"{about.parameters:,}"
    yield "opset", str(entry.opset)
    yield "exporter", made.exporter
    yield "made with", ", ".join(f"{name} {v}" for name, v in made.packages.items() if v)
    yield "first published", (entry.first_published or made.at)[:10]
    yield "last changed", made.at[:10]
    yield "found right last", f"{entry.verified_at[:10]}, run {entry.verified_by}"


def _origin(found: WeightsOrigin | None) -> Iterator[tuple[str, str]]:
    """Where weights come from, as far as that is known; the licence of code says nothing of it."""
    if found is None:
        yield "licence of the weights", "not known"
        return
    yield "weights from", found.url
    yield "origin of the weights", found.origin or f"not stated by {found.library}"
    stated = f"{found.license}, as {found.library} states it" if found.license else ""
    yield "licence of the weights", stated or f"not stated by {found.library}"


def _domain(verified: Verified | None) -> Iterator[str]:
    if verified is None:
        return
    for symbol, found in verified.sizes.items():
        rule = f" (it may have: {verified.dims[symbol]})" if symbol in verified.dims else ""
        yield f"{symbol}: {sizes(found)}{rule}"
    for name, values in verified.values.items():
        patterns = f" ({', '.join(values.patterns)})" if values.patterns else ""
        yield f"values of {name}: {extent(values.low, values.high)}{patterns}"
    for branch in verified.unreached:
        yield f"never reached: {branch}"


def _versions(entry: Entry) -> Iterator[list[str]]:
    made = entry.provenance
    for each in entry.sets:
        yield [each.folder, quote(each.folder), made.run_id, made.at[:10], made.commit or ""]
    for each in entry.kept:
        yield [each.folder, quote(each.folder), "", "an earlier one, kept", ""]


def _choices(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    """What the table can be narrowed to: key, label, values."""
    rows = list(rows)
    found = {
        "task": ("Task", {row["task"] for row in rows}),
        "tag": ("Tag", {tag for row in rows for tag in row["tags"]}),
        "precision": (
            "Precision",
            {each["precision"] for row in rows for each in row["card"]["artifacts"]},
        ),
    }
    opsets = [str(opset) for opset in sorted({row["opset"] for row in rows})]
    listed = [(key, label, sorted(values - {""})) for key, (label, values) in found.items()]
    return [choice for choice in [*listed, ("opset", "Opset", opsets)] if choice[2]]
