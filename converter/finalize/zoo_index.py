"""``index.json`` of a folder that runs publish to: which file of each model counts, from where."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from converter.layout import delivery
from converter.model.errors import RunError
from converter.model.job import FileInfo, TensorInfo
from converter.model.spec import Frozen
from converter.model.verified import Verified

INDEX = "index.json"


class Provenance(Frozen):
    """Which run made a file, from what and with what."""

    run_id: str
    experiment: str
    at: str
    source: str
    exporter: str
    packages: dict[str, str | None]


class Variant(Frozen):
    """A further artifact of a model; its files lie beside the ONNX file, the main one first."""

    format: str
    precision: str
    files: list[FileInfo]
    verified: Verified | None = None


class Entry(Frozen):
    """One model of the folder; paths are relative to it.

    Attributes:
        path, bytes, sha256, external_data: of the ONNX file.
        variants: what derives from it, by the id of the artifact.
        verified: on what it was found right; ``None`` of a file of an earlier version.
        verified_by, verified_at: the last run that made this very file and found it right.
        failing_since: the file is the last good one: newer attempts fail.
        retired: the experiment no longer lists the model.
    """

    path: str
    bytes: int
    sha256: str
    external_data: list[FileInfo] = Field(default_factory=list)
    opset: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    variants: dict[str, Variant] = Field(default_factory=dict)
    provenance: Provenance
    verified: Verified | None = None
    verified_by: str
    verified_at: str
    failing_since: str | None = None
    retired: bool = False
    retired_since: str | None = None


class Index(Frozen):
    # Of the index alone: it stayed when that of the manifest became 2.
    schema_version: Literal["1"] = "1"
    models: dict[str, Entry] = Field(default_factory=dict)


def check(target: Path) -> None:
    """Find out before the run whether its files can go there.

    Raises:
        RunError: the folder cannot be written, or its index not be read.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        # By writing: the permission bits say nothing of a read-only file system, or of root.
        with tempfile.TemporaryFile(dir=target):
            pass
        read(target)
    except OSError as error:
        raise RunError(
            f"publish_to: {error.strerror or error}: {error.filename or target}"
        ) from error


def read(target: Path) -> Index:
    """The index of a folder; an empty one where there is none.

    Raises:
        OSError: it cannot be read, or a symbolic link is in its place.
    """
    path = target / INDEX
    delivery.refuse_link(path)
    if not path.exists():
        return Index()
    try:
        return Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        words = "is damaged, or of another version of the converter: move it away"
        raise OSError(errno.EINVAL, words, str(path)) from error
