"""huggingface: a folder as hubs have it: a model card, a configuration, and the files by format.

What the card says was measured by the run that made the files, and is not written again while they
stay the same::

    README.md  config.json  onnx/model.onnx  onnx/model_fp16.onnx
    openvino_ir/openvino_model_openvino_ir.xml  openvino_ir/openvino_model_openvino_ir.bin
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from converter.model.artifact import ONNX
from converter.model.base import Frozen
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.source import without_folders
from converter.plugins.layouts import FileSet, renamed
from converter.plugins.layouts import _card as _cards

NUMBERED = False
OUTSIDE: tuple[str, ...] = ()
CARD, CONFIG = "README.md", "config.json"

# What loaders of these formats look for.
_STEMS = {"openvino": "openvino_model", "openvino_ir": "openvino_model"}
_STEM = "model"


class Options(Frozen):
    """What the card says beside what was measured.

    Attributes:
        tags: further tags of the card. Example: ``[vision]``.
        pipeline_tag: the task, as the hub names it. Example: ``image-classification``.
        about: a text of your own at its beginning. Example: ``Sorts pictures of parts.``.
    """

    tags: list[str] = Field(default_factory=list)
    pipeline_tag: str = ""
    about: str = ""


def left_out(row: ArtifactRow) -> str:
    return ""


def sets(rows: Sequence[ArtifactRow], options: Options) -> list[FileSet]:
    """All artifacts of a model together, in a folder for each format."""
    files = {f"{row.format}/{name}": part for row in rows for name, part in _named(row).items()}
    return [FileSet(rows[0].name, rows[0], rows, files)]


def _named(row: ArtifactRow) -> dict[str, Any]:
    stem = _STEMS.get(row.format, _STEM)
    return renamed(row, stem if row.id == ONNX else f"{stem}_{row.id}")


def identity(files: FileSet, options: Options) -> str:
    return options.model_dump_json() + _config(files)


def texts(files: FileSet, manifest: Manifest, version: str, options: Options) -> dict[str, str]:
    return {CONFIG: _config(files), CARD: _card(files, manifest, options)}


def _config(files: FileSet) -> str:
    first = files.first
    assert first.onnx is not None, "the first artifact of a model is an ONNX file"
    said = {
        "library_name": "onnx",
        "source": without_folders(first.source),
        "opset": first.onnx.opset,
        "inputs": [value.model_dump() for value in first.onnx.inputs],
        "outputs": [value.model_dump() for value in first.onnx.outputs],
        "files": {
            row.id: {"format": row.format, "precision": row.precision, "files": files.of(row)}
            for row in files.rows
        },
    }
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def _card(files: FileSet, manifest: Manifest, options: Options) -> str:
    lines = [*_front_matter(files, options), *_cards.render(files, manifest, options.about)]
    return "\n".join(lines) + "\n"


def _front_matter(files: FileSet, options: Options) -> Iterator[str]:
    license_ = files.first.license
    yield "---"
    yield "library_name: onnx"
    if license_ and " " not in license_:
        yield f"license: {json.dumps(license_.lower())}"
    elif license_:
        yield from ("license: other", f"license_name: {json.dumps(license_)}")
    if options.pipeline_tag:
        yield f"pipeline_tag: {json.dumps(options.pipeline_tag)}"
    yield "tags:"
    found = [*(row.format for row in files.rows), *files.first.tags, *options.tags]
    for tag in dict.fromkeys(found):
        yield f"- {json.dumps(tag, ensure_ascii=False)}"
    yield from ("---", "")
