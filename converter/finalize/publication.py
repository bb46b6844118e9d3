"""``publish_to``: a model zoo folder that only receives verified files, each whole or not at all.

Every version of a model has a folder of its own, named by its content, and ``index.json`` says
which version counts::

    index.json
    resnet18/3f2a…/resnet18.onnx [resnet18.onnx.data] [resnet18.fp16.onnx]

A version is complete under its name before the index names it, and goes only when the index names
another. So a run that is killed between any two steps leaves an index that fits the files.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from converter.compare import status
from converter.finalize.zoo_index import INDEX, Entry, Index, Provenance, Variant, read
from converter.layout import delivery, files
from converter.model.job import ONNX, FileInfo
from converter.model.manifest import ArtifactRow, Manifest, ModelRecord, write_atomic
from converter.model.manifest import dump as dumped
from converter.model.verified import Verified

# Beside unfinished versions only what has such a name is removed: the rest is the user's.
_VERSION = re.compile(r"[0-9a-f]{16}")
_UNFINISHED = ".new-"


def publish(
    manifest: Manifest,
    directory: Path,
    target: Path,
    listed: Collection[str] | None,
    *,
    resumed: bool = False,
) -> list[str]:
    """Put the files of all ok models there, and mark those that left the list.

    The artifacts of a model appear together; of one that is not ok the last good set stays.

    Args:
        directory: of the run.
        listed: all models of the experiment, also those that this run did not select; ``None``:
            the run has no experiment, and retires nothing.
        resumed: the run began earlier: what others have published since is newer.

    Returns:
        What went wrong, a sentence each; a model that could not be published is as it was.

    Raises:
        OSError: the index cannot be read or written.
    """
    index = read(target)
    _clear(target, index)
    problems = []
    for row in manifest.models:
        try:
            known = index.models.get(row.name)
            # Of a resumed run only: a clock that once was ahead would hold back all later runs.
            if resumed and known is not None and known.verified_at > manifest.run.started_at:
                continue
            entry = _entry(row, manifest, directory, target, known)
        except OSError as error:
            where = error.filename or target / row.name
            problems.append(f"{row.name} was not published: {error.strerror or error}: {where}")
            continue
        if entry is not None and entry != known:
            index = Index(models=dict(sorted({**index.models, row.name: entry}.items())))
            # After each model: a run that is killed here has published what it delivered so far.
            _write(target, index)
    if listed is not None:
        retired = _retired(index, manifest, listed, resumed)
        if retired != index:
            index = retired
            _write(target, index)
    # Only now: until here the index on the disk named the old versions.
    _clear(target, index)
    return problems + _damaged(target, index, manifest)


def _damaged(target: Path, index: Index, manifest: Manifest) -> list[str]:
    """A sentence for each model whose files are not those of the index, and were not mended.

    Of the models that this run lists every byte is read; of the experiment's others only the size,
    which is a matter of seconds for a whole zoo. Retired ones may be gone: nobody makes them again.
    """
    rows = {row.name: row for row in manifest.models}
    return [
        f"{name}: what is published is not as {target / INDEX} says, and tonight gave no other file"
        for name, entry in index.models.items()
        if not entry.retired and entry.provenance.experiment == manifest.run.experiment
        if name not in rows or rows[name].status != "ok"  # else it was looked at, or told
        # `for … in [x]` names x for the line below.
        for is_as_said in [_is_whole if name in rows else _has_size]
        if not all(is_as_said(target / part.path, part) for part in _parts(entry))
    ]


def _parts(entry: Entry) -> list[FileInfo]:
    main = FileInfo(path=entry.path, bytes=entry.bytes, sha256=entry.sha256)
    derived = [part for variant in entry.variants.values() for part in variant.files]
    return [main, *entry.external_data, *derived]


def _write(target: Path, index: Index) -> None:
    write_atomic(target / INDEX, dumped(index))
    # The versions that the old index named go next: it must not come back after a power failure.
    files.fsync(target)


def _entry(
    model: ModelRecord, manifest: Manifest, directory: Path, target: Path, known: Entry | None
) -> Entry | None:
    """What the index is to say of a model; its files are there. ``None``: it has never been."""
    present = {"retired": False, "retired_since": None, "failing_since": model.failing_since}
    right = [row for row in model.rows if row.status == "ok" and row.files]
    if model.status != "ok" or not right or right[0].id != ONNX:
        # A model that was skipped or did not run says nothing of the file that is there.
        return known.model_copy(update=present) if known and status.fails(model) else known
    parts = [part for row in right for part in row.files]
    home = Path(model.name) / _version(parts)
    _deliver(parts, directory, target / home)
    if known is None or Path(known.path).parent != home:
        return _made(right, manifest, home)
    verified = {
        "verified_by": manifest.run.id,
        "verified_at": manifest.run.started_at,
        "verified": _verified(right[0]),
        "variants": _variants(right[1:], home),
    }
    return known.model_copy(update={**present, **verified})


def _variants(rows: Sequence[ArtifactRow], home: Path) -> dict[str, Variant]:
    return {
        row.id: Variant(
            format=row.format,
            precision=row.precision,
            files=_under(home, row.files),
            verified=_verified(row),
        )
        for row in rows
    }


def _under(home: Path, parts: Sequence[FileInfo]) -> list[FileInfo]:
    return [part.model_copy(update={"path": str(home / Path(part.path).name)}) for part in parts]


def _verified(row: ArtifactRow) -> Verified | None:
    return Verified.of(row.verify.domain) if row.verify.domain else None


def _version(parts: list[FileInfo]) -> str:
    """The name of a version's folder: its content."""
    text = "\n".join(f"{Path(part.path).name} {part.sha256}" for part in parts)
    # Short, because nothing relies on it: `_deliver` hashes each file in the folder.
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _made(rows: Sequence[ArtifactRow], manifest: Manifest, home: Path) -> Entry:
    run, row = manifest.run, rows[0]
    first, *data = _under(home, row.files)
    onnx = row.onnx
    assert onnx is not None, "the first artifact of a model is an ONNX file"
    return Entry(
        path=first.path,
        bytes=first.bytes,
        sha256=first.sha256,
        external_data=data,
        opset=onnx.opset,
        inputs=onnx.inputs,
        outputs=onnx.outputs,
        variants=_variants(rows[1:], home),
        provenance=Provenance(
            run_id=run.id,
            experiment=run.experiment,
            at=run.started_at,
            source=row.source,
            exporter=onnx.exporter,
            packages=manifest.environment.packages,
        ),
        verified=_verified(row),
        verified_by=run.id,
        verified_at=run.started_at,
    )


def _deliver(parts: list[FileInfo], directory: Path, version: Path) -> None:
    """Have the files of a version under its name, copied, hashed and forced to the disk.

    Raises:
        OSError: a file is not what the run recorded, or a symbolic link is in the way.
    """
    for path in (version.parent, version, *(version / Path(part.path).name for part in parts)):
        delivery.refuse_link(path)
    # Hashed again although the name is that of the content: somebody may have damaged it.
    if all(_is_whole(version / Path(part.path).name, part) for part in parts):
        return
    version.parent.mkdir(exist_ok=True)
    # Beside the version: a rename works within one file system only.
    staging = Path(tempfile.mkdtemp(dir=version.parent, prefix=_UNFINISHED))
    try:
        for part in parts:
            copy = staging / Path(part.path).name
            # No hard link: onnx (1.23) refuses external data behind one, and it would change with
            # the file of the run.
            shutil.copyfile(directory / part.path, copy)
            # The copy and not the source: so what was read and what was written are both looked at.
            if not _is_whole(copy, part):
                words = "the file is not the one that the run recorded"
                raise OSError(errno.EIO, words, str(directory / part.path))
            files.fsync(copy)
        # mkdtemp makes folders that only their owner can read.
        staging.chmod(0o755)
        if version.exists():  # somebody has damaged it: each file is replaced at once
            for part in parts:
                os.replace(staging / Path(part.path).name, version / Path(part.path).name)
        else:
            # First the names of the files, then that of the folder, before an index speaks of them.
            files.fsync(staging)
            staging.rename(version)
        files.fsync(version)
        files.fsync(version.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_whole(path: Path, part: FileInfo) -> bool:
    return _has_size(path, part) and files.sha256(path) == part.sha256


def _has_size(path: Path, part: FileInfo) -> bool:
    return path.is_file() and path.stat().st_size == part.bytes


def _retired(index: Index, manifest: Manifest, listed: Collection[str], resumed: bool) -> Index:
    """The index with a mark on what this experiment has published and no longer lists."""
    models = {
        name: entry.model_copy(update={"retired": True, "retired_since": manifest.run.started_at})
        if name not in listed
        and not entry.retired
        # Several experiments may publish to one folder, each with a list of its own.
        and entry.provenance.experiment == manifest.run.experiment
        and not (resumed and entry.verified_at > manifest.run.started_at)
        else entry
        for name, entry in index.models.items()
    }
    return Index(models=models)


def _clear(target: Path, index: Index) -> None:
    """Remove what a killed run left unfinished, and versions that the index names no more.

    Of a model that it does not name nothing is known: the index may have been moved away.
    """
    wanted = {Path(entry.path).parent for entry in index.models.values()}
    for model in target.iterdir():
        # What a link leads to is not ours to remove.
        if model.is_symlink() or not model.is_dir():
            continue
        for version in model.iterdir():
            ours = version.name.startswith(_UNFINISHED) or (
                model.name in index.models
                and _VERSION.fullmatch(version.name)
                and version.relative_to(target) not in wanted
            )
            if ours and version.is_dir() and not version.is_symlink():
                shutil.rmtree(version)
