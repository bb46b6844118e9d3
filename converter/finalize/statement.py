"""What a published set says of itself, in its SBOM: whose it is, and what the index repeats of it.

``SHA256SUMS`` and the signature cover it, which they do not the index.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.finalize.zoo_index import Entry, PublishedSet
from converter.layout import files
from converter.model.artifact import ONNX
from converter.model.base import Frozen
from converter.model.manifest import ArtifactRow
from converter.model.records import FileInfo, TensorInfo
from converter.model.verified import Verified
from converter.plugins.layouts import FileSet

FILE = "sbom.cdx.json"
PROPERTY = "converter:index"


class Artifact(Frozen):
    """An artifact of the set.

    Attributes:
        files: their names in the set, the main one first.
    """

    format: str
    precision: str
    files: list[str]
    verified: Verified | None = None


class Statement(Frozen):
    """What the index may say of a set.

    Attributes:
        model: the name of its entry.
        opset, inputs, outputs, license: of the model's ONNX file, also where another set has it.
    """

    model: str
    opset: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    license: str | None = None
    artifacts: dict[str, Artifact]


def of(planned: FileSet) -> Statement:
    """The statement of a set that is about to be published."""
    first = planned.first
    assert first.onnx is not None, "the first artifact of a model is an ONNX file"
    return Statement(
        model=first.name,
        opset=first.onnx.opset,
        inputs=first.onnx.inputs,
        outputs=first.onnx.outputs,
        license=first.license,
        artifacts={
            row.id: Artifact(
                format=row.format,
                precision=row.precision,
                files=planned.of(row),
                verified=verified(row),
            )
            for row in planned.rows
        },
    )


def verified(row: ArtifactRow) -> Verified | None:
    """On what an artifact was found right, as the index and the set say it."""
    return Verified.of(row.verify.domain) if row.verify.domain else None


def compare(
    name: str, entry: Entry, folder: Path, gone: Collection[str]
) -> tuple[list[str], list[str]]:
    """What an entry of the index says, against the sets that it names.

    Args:
        gone: folders of sets that are no longer there.

    Returns:
        What is wrong, and what no set says so that it cannot be compared; a sentence each.
    """
    problems = list(_files(entry))
    stated: list[tuple[PublishedSet, Statement]] = []
    silent = []
    for each in (each for each in (*entry.sets, *entry.kept) if each.folder not in gone):
        try:
            title, version, said = _read(folder / each.folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            problems.append(f"{FILE} of {each.folder} is missing or damaged")
            continue
        if (title, version) != (each.name, each.key):
            problems.append(f"{each.folder} says of itself that it is {title} {version}")
        if said is None:
            silent.append(each.folder)
        elif said.model != name:
            problems.append(f"{each.folder} is a set of {said.model}")
        elif each in entry.sets:
            stated.append((each, said))
    problems += _fields(entry, [said for _, said in stated])
    if len(stated) == len(entry.sets):
        problems += _artifacts(entry, stated)
    told = "is of a version whose sets do not say what the index repeats: it was not compared"
    return (
        [f"{name}: {text}" for text in problems],
        [f"{home} {told}" for home in silent],
    )


def _read(home: Path) -> tuple[str, str, Statement | None]:
    """Name and key of a set, and its statement; ``None``: sets of before have none.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is no SBOM of ours.
    """
    content: Any = json.loads(files.read_plain(home / FILE))
    component = content["metadata"]["component"]
    properties = {each["name"]: each["value"] for each in component["properties"]}
    text = properties.get(PROPERTY)
    said = None if text is None else Statement.model_validate_json(text)
    return component["name"], component["version"], said


def _files(entry: Entry) -> Iterator[str]:
    """Each path, size and hash of an entry must be that of a file of its sets."""
    there = {part.path: part for each in entry.sets for part in each.files}
    main = FileInfo(path=entry.path, bytes=entry.bytes, sha256=entry.sha256)
    variants = [part for variant in entry.variants.values() for part in variant.files]
    for part in (main, *entry.external_data, *variants):
        if part.path not in there:
            yield f"{part.path} is in none of its sets"
        elif there[part.path] != part:
            yield f"size or hash of {part.path} is not that of its set"


def _fields(entry: Entry, stated: Iterable[Statement]) -> Iterator[str]:
    for said in stated:
        for key in ("opset", "inputs", "outputs", "license"):
            if getattr(entry, key) != getattr(said, key):
                yield f"{key} is not what its set says"


def _artifacts(entry: Entry, stated: Sequence[tuple[PublishedSet, Statement]]) -> Iterator[str]:
    """What the index repeats of artifacts must be what all sets say together."""
    artifacts = {
        id_: artifact.model_copy(
            update={"files": [str(Path(each.folder) / name) for name in artifact.files]}
        )
        for each, said in stated
        for id_, artifact in said.artifacts.items()
    }
    onnx = artifacts.pop(ONNX, None)
    if onnx is None:
        yield "none of its sets has the ONNX file"
        return
    if [entry.path, *(part.path for part in entry.external_data)] != onnx.files:
        yield "path or external_data is not what its set says"
    if entry.verified != onnx.verified:
        yield "verified is not what its set says"
    yield from _variants(entry, artifacts)


def _variants(entry: Entry, artifacts: Mapping[str, Artifact]) -> Iterator[str]:
    for id_ in sorted(artifacts.keys() ^ entry.variants.keys()):
        yield f"variants: {id_} is {'missing' if id_ in artifacts else 'in none of its sets'}"
    for id_ in sorted(artifacts.keys() & entry.variants.keys()):
        there = entry.variants[id_]
        listed = there.model_copy(update={"files": [part.path for part in there.files]})
        for key in ("format", "precision", "files", "verified"):
            if getattr(listed, key) != getattr(artifacts[id_], key):
                yield f"variants: {key} of {id_} is not what its set says"
