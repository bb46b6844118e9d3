"""``index.json`` of a folder that runs publish to: which files of each model count, from where."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from converter.layout import files
from converter.model.base import Frozen
from converter.model.records import FileInfo, TensorInfo, WeightsOrigin
from converter.model.verified import Verified
from converter.plugins import layouts

INDEX, PAGE = layouts.AT_THE_TOP
"""The latter is for people, and made from the index."""


# Of a name, in bytes: what Linux takes.
_LONGEST = 255


class Provenance(Frozen):
    """Which run made a file, from what and with what.

    Attributes:
        commit: of the repository that the run was started in; ``-dirty`` behind it where files
            there had been changed.
    """

    run_id: str
    experiment: str
    at: str
    source: str
    exporter: str
    packages: dict[str, str | None]
    commit: str | None = None


class Timed(Frozen):
    """A latency, as a run measured it: the median in milliseconds.

    Attributes:
        machine: the processor that it was taken on.
        at: when that run began.
    """

    provider: str
    p50_ms: float
    threads: int | None = None
    shapes: dict[str, list[int]] = Field(default_factory=dict)
    machine: str | None = None
    at: str


class Measured(Frozen):
    """How exact and how fast an artifact is.

    Attributes:
        cases: on how many it was compared.
        max_abs: the largest error of any number against PyTorch.
        sqnr_db: of a quantised one, its signal to quantisation noise ratio.
    """

    cases: int = 0
    max_abs: float | None = None
    sqnr_db: float | None = None
    latency: list[Timed] = Field(default_factory=list)


class About(Frozen):
    """What a model is.

    Attributes:
        task: as the registry says it.
        source, weights: without folders.
        weights_origin: of published weights, what their library says of them.
        ops: how often each operator is in the ONNX file, the most frequent first.
    """

    task: str | None = None
    tags: list[str] = Field(default_factory=list)
    source: str
    weights: str
    weights_sha256: str | None = None
    weights_origin: WeightsOrigin | None = None
    parameters: int = 0
    ops: dict[str, int] = Field(default_factory=dict)


class Variant(Frozen):
    """A further artifact of a model; its files are those of its format, the main one first.

    Attributes:
        inputs: where they are not those of the model's ONNX file.
    """

    format: str
    precision: str
    files: list[FileInfo]
    inputs: list[TensorInfo] | None = None
    verified: Verified | None = None
    measured: Measured | None = None


class PublishedSet(Frozen):
    """Files that appeared together, in a folder of their own.

    Attributes:
        folder: relative to the index, as all paths are.
        key: what is in it, in short: equal for equal files, texts and signers.
        files: all of them.
    """

    folder: str
    key: str
    files: list[FileInfo]

    @property
    def name(self) -> str:
        """Of the folder that holds its versions."""
        return Path(self.folder).parts[0]

    def recorded(self, name: str) -> FileInfo | None:
        """The file of that name in it, if it has one."""
        path = str(Path(self.folder) / name)
        return next((part for part in self.files if part.path == path), None)


class Entry(Frozen):
    """One model of the folder; paths are relative to it.

    Attributes:
        path, bytes, sha256, external_data: of the ONNX file.
        variants: what derives from it, by the id of the artifact.
        sets: all files that belong to it: artifacts, SBOMs, hashes, signatures.
        kept: sets of earlier versions that are still there, the newest first.
        folders: all that its sets ever lay in.
        left_out: the id of each artifact that has no place in the layout, and why.
        license: as the configuration states it.
        verified: on what it was found right; ``None`` of a file of an earlier version.
        about, measured: what it is, and how exact and fast it is, for people who choose one.
        first_published: when the first run began that published the model.
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
    sets: list[PublishedSet] = Field(default_factory=list)
    kept: list[PublishedSet] = Field(default_factory=list)
    folders: list[str] = Field(default_factory=list)
    left_out: dict[str, str] = Field(default_factory=dict)
    license: str | None = None
    provenance: Provenance
    verified: Verified | None = None
    about: About | None = None
    measured: Measured | None = None
    first_published: str | None = None
    verified_by: str
    verified_at: str
    failing_since: str | None = None
    retired: bool = False
    retired_since: str | None = None

    @property
    def parts(self) -> list[FileInfo]:
        """All files that must be there."""
        if self.sets:
            return [part for each in self.sets for part in each.files]
        # Of an index that is older than sets.
        main = FileInfo(path=self.path, bytes=self.bytes, sha256=self.sha256)
        derived = [part for variant in self.variants.values() for part in variant.files]
        return [main, *self.external_data, *derived]

    @property
    def homes_now(self) -> set[Path]:
        """The folders of the version that counts."""
        return {Path(each.folder) for each in self.sets} or {Path(self.path).parent}

    @property
    def homes(self) -> set[Path]:
        """The folders that stay, those of kept versions too."""
        return {*self.homes_now, *(Path(each.folder) for each in self.kept)}

    @property
    def names(self) -> set[str]:
        """The folders that are its own."""
        return {*self.folders, Path(self.path).parts[0]}


class Index(Frozen):
    """All models of a folder.

    Attributes:
        layout: the plugin that says where files lie.
    """

    # Of the index alone: it stayed when that of the manifest became 2.
    schema_version: Literal["1"] = "1"
    layout: str = layouts.DEFAULT
    models: dict[str, Entry] = Field(default_factory=dict)

    @property
    def homes(self) -> set[Path]:
        """The folders that stay."""
        return {home for entry in self.models.values() for home in entry.homes}

    @property
    def names(self) -> set[str]:
        """The folders that are those of its models."""
        return {name for entry in self.models.values() for name in entry.names}

    def having(self, name: str, entry: Entry) -> Index:
        """The index with an entry, in the order of names."""
        models = dict(sorted({**self.models, name: entry}.items()))
        return self.model_copy(update={"models": models})


class DamagedIndexError(OSError):
    """What stands in the place of an index cannot be read as one."""


class MisplacedError(DamagedIndexError):
    """An index names what is not its own to name.

    Attributes:
        problems: a sentence each.
    """

    def __init__(self, problems: list[str], where: object) -> None:
        words = f"is damaged ({problems[0]}): move it away"
        super().__init__(errno.EINVAL, words, str(where))
        self.problems = problems


def read(target: Path) -> Index:
    """The index of a folder; an empty one where there is none.

    Raises:
        DamagedIndexError: it is none, or something else is in its place.
        OSError: it cannot be read.
    """
    path = target / INDEX
    try:
        return parsed(files.read_plain(path), path)
    except FileNotFoundError:
        return Index()
    except files.NotPlainError as error:
        words = f"{error.strerror}: move it away"
        raise DamagedIndexError(error.errno, words, str(path)) from error


def parsed(text: bytes, where: object) -> Index:
    """The index that was read somewhere.

    Raises:
        DamagedIndexError: it is none, or names what is not its own to name.
    """
    try:
        index = Index.model_validate_json(text)
    except ValidationError as error:
        words = "is damaged, or of another version of the converter: move it away"
        raise DamagedIndexError(errno.EINVAL, words, str(where)) from error
    # Whoever reads an index opens, replaces and removes files by what it says.
    if problems := list(_misplaced(index)):
        raise MisplacedError(problems, where)
    return index


def is_own(model: str, folder: str) -> bool:
    """Whether a folder has a name that those of a model have: its own, or that and more."""
    return _is_name(folder) and (folder == model or folder.startswith(f"{model}."))


def _misplaced(index: Index) -> Iterator[str]:
    """What an index says of places that are not those of its models; a sentence each."""
    owners: dict[str, str] = {}
    for model, entry in index.models.items():
        if not _is_name(model):
            yield f"{model!r} is no name of a model"
        others = (id_ for id_ in entry.variants if not _is_name(id_))
        yield from (f"{model}: {id_!r} is no name of a variant" for id_ in others)
        yield from (f"{model}: {path!r} leads out of its sets" for path in _outside(entry))
        for folder in sorted({*entry.folders, *(path.split("/")[0] for path in _paths(entry))}):
            if not is_own(model, folder):
                yield f"{model}: {folder!r} is no folder of it"
            elif (owner := owners.setdefault(folder, model)) != model:
                yield f"{model}: {folder!r} is a folder of {owner}"


def _outside(entry: Entry) -> Iterator[str]:
    for path in _paths(entry):
        parts = path.split("/")
        # MODEL/VERSION/FILE: what lies higher is in no set.
        if len(parts) < 3 or not all(map(_is_name, parts)):
            yield path


def _paths(entry: Entry) -> Iterator[str]:
    """All paths of an entry, and the folders of its sets as if they held a file."""
    yield entry.path
    for those in (entry.external_data, *(variant.files for variant in entry.variants.values())):
        yield from (part.path for part in those)
    for each in (*entry.sets, *entry.kept):
        yield f"{each.folder}/{INDEX}"
        yield from (part.path for part in each.files)


def _is_name(text: str) -> bool:
    """Whether a text is the name of a file or a folder, and of nothing else."""
    return (
        text not in ("", ".", "..") and not {"/", "\0"} & {*text} and len(text.encode()) <= _LONGEST
    )
