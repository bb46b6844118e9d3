"""``sbom.cdx.json``: what a published set is made of, as CycloneDX 1.6.

The model is the component that the file is about (``machine-learning-model``); its files have
their SHA-256, the packages that it was made with their versions and package URLs. Nothing in it is
of now: the same set of the same run gives the same text.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import converter
from converter.display import summary
from converter.finalize import statement
from converter.model.manifest import ArtifactRow, Manifest, RunInfo
from converter.model.records import FileInfo, TensorInfo
from converter.model.source import without_folders
from converter.plugins.layouts import FileSet

FILE = statement.FILE

_NAME = "onnx-zoo-converter"
# Of those alone a reader may rely on `id`: anything else is a name (the schema lists all of SPDX).
_SPDX = (
    "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0", "ISC", "Unlicense", "CC0-1.0",
    "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "LGPL-2.1-only",
    "LGPL-3.0-only", "GPL-2.0-only", "GPL-3.0-only", "AGPL-3.0-only", "AGPL-3.0-or-later",
    "OpenRAIL-M",
)  # fmt: skip


def render(planned: FileSet, made: Sequence[FileInfo], manifest: Manifest, key: str) -> str:
    """The bill of materials of a set.

    Args:
        made: its files, paths as they are named in the set.
        key: what is in it, in short.
    """
    run, packages = manifest.run, manifest.environment.packages
    # The converter itself is the tool, and is called otherwise on PyPI.
    listed = {name: version for name, version in packages.items() if name != converter.__name__}
    libraries = [_library(name, version) for name, version in listed.items() if version]
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{run.id}/{key}')}",
        "version": 1,
        "metadata": {
            "timestamp": run.started_at,
            "tools": {"components": [_tool()]},
            "component": _model(planned, manifest, key),
        },
        "components": [*map(_file, made), *libraries],
        "dependencies": [
            {"ref": "model", "dependsOn": [each["bom-ref"] for each in libraries]},
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def commit(run: RunInfo) -> str | None:
    """The commit that a run was started in, as a published set names it."""
    if run.git is None:
        return None
    return f"{run.git.commit}-dirty" if run.git.dirty else run.git.commit


def _tool() -> dict[str, Any]:
    return {"type": "application", "name": _NAME, "version": converter.__version__}


def _model(planned: FileSet, manifest: Manifest, key: str) -> dict[str, Any]:
    first = planned.first
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": planned.name,
        "version": key,
        "modelCard": _card(planned),
        "properties": _properties(planned, manifest),
    }
    if first.license:
        known = "id" if first.license in _SPDX else "name"
        component["licenses"] = [{"license": {known: first.license}}]
    return component


def _card(planned: FileSet) -> dict[str, Any]:
    first = planned.first
    inputs, outputs = (first.onnx.inputs, first.onnx.outputs) if first.onnx else ([], [])
    return {
        "modelParameters": {
            "modelArchitecture": without_folders(first.source),
            "inputs": [{"format": _tensor(value)} for value in inputs],
            "outputs": [{"format": _tensor(value)} for value in outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(planned.rows))},
    }


def _metrics(rows: Iterable[ArtifactRow]) -> Iterable[dict[str, str]]:
    """The largest error of each artifact against PyTorch."""
    for row in rows:
        error = summary.max_abs(row)
        if error is not None:
            yield {"type": "max absolute error", "value": f"{error:.3g}", "slice": row.id}


def _tensor(value: TensorInfo) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in value.shape)
    return f"{value.name}: {value.dtype}[{sizes}]"


def _properties(planned: FileSet, manifest: Manifest) -> list[dict[str, str]]:
    first, run = planned.first, manifest.run
    weights = first.request.weights
    said = {
        "source": without_folders(first.source),
        "weights": weights.name or weights.kind,
        "weights_sha256": weights.sha256,
        "commit": commit(run),
        "run": run.id,
        "experiment": run.experiment,
        "artifacts": ", ".join(row.id for row in planned.rows),
        "python": manifest.environment.python,
        "index": statement.of(planned).model_dump_json(),
    }
    return [{"name": f"converter:{name}", "value": text} for name, text in said.items() if text]


def _file(part: FileInfo) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{part.path}",
        "name": part.path,
        "hashes": [{"alg": "SHA-256", "content": part.sha256}],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    # https://github.com/package-url/purl-spec: names of PyPI in lower case, with hyphens.
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version, safe='.')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
