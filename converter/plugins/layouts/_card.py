"""The model card of a set, in Markdown: what it is, how it was verified, and how to use it.

What it says was measured by the run that made the files, and is not written again while they stay
the same.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence

from converter.model.manifest import ArtifactRow, Manifest
from converter.model.markup import block, cell, code, line, prose
from converter.model.records import OutputCheck
from converter.model.source import without_folders
from converter.model.verified import Verified, extent, sizes
from converter.plugins.layouts import FileSet

# Overrides that say where things lie, on a machine that a reader does not have.
_WHERE = ("publish_to", "store.", "hydra.")


def render(files: FileSet, manifest: Manifest, about: str = "") -> Iterator[str]:
    """The lines of the card.

    Args:
        about: a text of the user's own at its beginning.
    """
    first, run = files.first, manifest.run
    yield f"# {files.name}"
    yield ""
    if about:
        yield from (about, "")
    weights = first.request.weights
    named = weights.name or weights.kind
    source = without_folders(first.source)
    yield (f"Converted from {code(source)} (weights: {prose(named)}) and verified against PyTorch.")
    if first.request.weights.kind == "random":
        yield "**The weights are untrained**: the files show that the conversion is right, no more."
    yield from ("", "## Files", "")
    yield from _table(files)
    yield from _domain(files.rows)
    yield from _provenance(files, manifest, run.overrides)
    yield from _use(files)


def _table(files: FileSet) -> Iterator[str]:
    yield "| file | precision | size | cases | largest error | allowed there | latency |"
    yield "|---|---|---|---|---|---|---|"
    for row in files.rows:
        cells = [
            code(files.of(row)[0]),
            row.precision,
            f"{row.bytes:,} bytes",
            str(len(row.verify.cases)),
            *_error(row),
            _latency(row),
        ]
        yield f"| {' | '.join(map(cell, cells))} |"


def _error(row: ArtifactRow) -> tuple[str, str]:
    """The largest absolute error of all cases, and the bound of that output."""
    found = [output for case in row.verify.cases for output in case.outputs]
    measured = [output for output in found if output.max_abs is not None]
    if not measured:
        return "–", "–"

    def error(output: OutputCheck) -> float:
        return output.max_abs or 0.0

    worst = max(measured, key=error)
    return f"{error(worst):.2g} ({code(worst.name)})", _bound(row, worst)


def _bound(row: ArtifactRow, worst: OutputCheck) -> str:
    # No tolerance tells a right quantised file from a wrong one.
    if row.accuracy is not None and row.accuracy.sqnr_db is not None:
        kept = f"judged by its signal: {row.accuracy.sqnr_db:.3g} dB above the noise"
        asked = f"{row.accuracy.asked.sqnr_db:.3g} dB asked"
        return f"{kept}, {asked if row.accuracy.gate == 'applied' else 'none asked'}"
    exact = not (worst.atol or worst.rtol)
    return "equal" if exact else f"{worst.atol:.2g} + {worst.rtol:.2g} · abs(PyTorch)"


def _latency(row: ArtifactRow) -> str:
    found = [f"{one.p50_ms:.3g} ms ({one.provider})" for one in row.latency if one.p50_ms]
    return ", ".join(found) or "not measured"


def _domain(rows: Sequence[ArtifactRow]) -> Iterator[str]:
    yield from ("", "## Verified on", "")
    first = rows[0]
    if first.verify.domain is None:
        yield f"{len(first.verify.cases)} cases."
        return
    said = Verified.of(first.verify.domain)
    for symbol, found in said.sizes.items():
        rule = f" (it may have: {prose(said.dims[symbol])})" if symbol in said.dims else ""
        yield f"- {code(symbol)}: {sizes(found)}{rule}"
    for name, values in said.values.items():
        patterns = f" ({', '.join(values.patterns)})" if values.patterns else ""
        yield f"- values of {code(name)}: {extent(values.low, values.high)}{patterns}"
    for branch in first.verify.domain.unreached:
        where = prose(f"{branch.file}:{branch.line}")
        yield f"- never reached: {where} {code(branch.text)} ({branch.outcome})"
    for row in rows:
        metric = row.verify.metric
        if metric is not None:
            yield (
                f"- {prose(metric.name)} of {row.id} on {metric.samples} samples: "
                f"{metric.onnx:.4g} (PyTorch {metric.torch:.4g})"
            )
        if row.verify.arithmetic == "emulated":
            yield f"- {row.id}: its arithmetic was emulated on a CPU, which has no {row.precision}"


def _provenance(files: FileSet, manifest: Manifest, overrides: Sequence[str]) -> Iterator[str]:
    run, first = manifest.run, files.first
    yield from ("", "## How", "")
    told = [word for word in overrides if not word.lstrip("+~").startswith(_WHERE)]
    yield from block("sh", shlex.join(["python", "-m", "converter", *told]))
    yield ""
    yield f"- run {code(run.id)} of {run.started_at}, experiment {code(run.experiment)}"
    if run.git is not None:
        dirty = ", with changes that are not committed" if run.git.dirty else ""
        yield f"- commit `{run.git.commit}`{dirty}"
    if first.request.weights.sha256:
        yield f"- SHA-256 of the weights: `{first.request.weights.sha256}`"
    if first.onnx is not None:
        yield f"- opset {first.onnx.opset}, exporter {first.onnx.exporter}"
    found = manifest.environment.packages.items()
    yield f"- {', '.join(f'{name} {version}' for name, version in found if version)}"
    yield f"- {prose(manifest.environment.cpu)}"
    yield from (
        "",
        "`sbom.cdx.json` lists all of it (CycloneDX). `sha256sum -c SHA256SUMS` shows that",
    )
    yield "the files are those that were published."


def _use(files: FileSet) -> Iterator[str]:
    first = files.first
    if first.onnx is None:
        return
    shapes = ", ".join(f"{value.name}: {value.dtype} {value.shape}" for value in first.onnx.inputs)
    yield from ("", "## Use", "")
    yield from block(
        "python",
        "import onnxruntime",
        "",
        f"session = onnxruntime.InferenceSession({json.dumps(files.of(first)[0])})",
        # A line that a name of an input began anew would be code.
        f"# {line(shapes)}",
        "outputs = session.run(None, inputs)",
    )
