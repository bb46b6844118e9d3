"""``publish_to``: folders that only receive verified files, each set whole or not at all.

Every version of a set has a folder of its own, and ``index.json`` says which version counts::

    index.json
    resnet18/3f2a…/resnet18.onnx [resnet18.onnx.data] [resnet18.fp16.onnx] sbom.cdx.json SHA256SUMS

What lies in it under which names is said by a layout (``converter.plugins.layouts``). A version
is complete under its name before the index names it, and goes only when the index names another.
What stands beside the versions is as the index says before an older version goes, and is put right
by the next run where this one was killed. So a run that is killed between any two steps leaves an
index that fits the files.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from converter.compare import status
from converter.finalize import sbom, statement, zoo_index
from converter.finalize.delivering import UNFINISHED, Publisher, has_size, is_whole
from converter.finalize.zoo_index import INDEX, Entry, Index, Provenance, PublishedSet, Variant
from converter.layout import delivery, files, signing
from converter.model.artifact import ONNX
from converter.model.batch import PublishSpec
from converter.model.errors import RunError
from converter.model.manifest import ArtifactRow, Manifest, ModelRecord, write_atomic
from converter.model.manifest import dump as dumped
from converter.model.records import FileInfo
from converter.plugins import layouts, loader
from converter.plugins.layouts import FileSet

# Beside unfinished versions only what has such a name is removed: the rest is the user's.
_VERSION = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"[1-9][0-9]*")


def check(spec: PublishSpec) -> None:
    """Find out before the run whether its files can go there.

    Raises:
        RunError: the folder cannot be written or lies in another one that is published to, its
            index cannot be read, or the key not be used.
    """
    target = Path(spec.path).absolute()
    _refuse_nested(target)
    _refuse_unwritable(target)
    try:
        _read(target, spec)
        _signer(spec)
    except OSError as error:
        raise RunError(f"publish_to: {_words(error, target)}") from error
    except ValueError as error:
        raise RunError(f"publish_to: {error}") from error


def _refuse_unwritable(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        # By writing: the permission bits say nothing of a read-only file system, or of root.
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        what = f"publish_to: {_words(error, target)}"
        raise RunError(f"{what}. Check the folder and its owner, or name another one") from error


def _refuse_nested(target: Path) -> None:
    """Raise where a folder above is published to: what lies in it would count as put there."""
    for above in target.resolve().parents:
        try:
            is_published = bool(zoo_index.read(above).models)
        except OSError:  # an index.json of something else
            continue
        if is_published:
            words = f"is inside of {above}, which is published to: name a folder beside it"
            raise RunError(f"publish_to: {target} {words}")


def _words(error: OSError, place: Path) -> str:
    return f"{error.strerror or error}: {error.filename or place}"


def _read(target: Path, spec: PublishSpec) -> Index:
    """The index of a folder, of this layout.

    Raises:
        OSError: it cannot be read, or files lie there in another one.
    """
    index, wanted = zoo_index.read(target), spec.layout or layouts.DEFAULT
    if index.models and index.layout != wanted:
        words = f"files lie there in the layout {index.layout}: give {wanted} a folder of its own"
        raise OSError(errno.EEXIST, words, str(target))
    return index.model_copy(update={"layout": wanted})


def _signer(spec: PublishSpec) -> signing.Signer | None:
    return signing.signer(Path(spec.sign.private_key).absolute()) if spec.sign else None


def publish(
    manifest: Manifest,
    directory: Path,
    spec: PublishSpec,
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
        ValueError: the key cannot be used any more.
    """
    publisher = _publisher(manifest, directory, spec)
    target, outside = publisher.target, publisher.layout.OUTSIDE
    index = _read(target, spec)
    problems = _settle(target, index.models.items(), outside)
    _clear(target, index, outside)
    for row in manifest.models:
        known = index.models.get(row.name)
        if resumed and _is_newer(known, manifest):
            continue
        try:
            entry = _entry(row, publisher, index)
        except OSError as error:
            problems.append(f"{row.name} was not published: {_words(error, target / row.name)}")
            continue
        if entry is not None and entry != known:
            index = index.having(row.name, entry)
            # After each model: a run that is killed here has published what it delivered so far.
            _write(target, index)
            problems += _settle(target, [(row.name, entry)], outside)
    final = index if listed is None else _retired(index, manifest, listed, resumed)
    if final != index:
        _write(target, final)
    # Only now: until here the index on the disk named the old versions.
    _clear(target, final, outside)
    return problems + _damaged(target, final, manifest)


def _is_newer(entry: Entry | None, manifest: Manifest) -> bool:
    # Asked of a resumed run only: a clock that once was ahead would hold back all later runs.
    return entry is not None and entry.verified_at > manifest.run.started_at


def _publisher(manifest: Manifest, directory: Path, spec: PublishSpec) -> Publisher:
    layout = layouts.load(spec.layout)
    return Publisher(
        manifest,
        directory,
        Path(spec.path).absolute(),
        layout,
        loader.options_of(layout).model_validate(spec.options),
        spec.keep_versions,
        _signer(spec),
    )


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
        for is_as_said in [is_whole if name in rows else has_size]
        if not all(is_as_said(target / part.path, part) for part in entry.parts)
    ]


def _write(target: Path, index: Index) -> None:
    write_atomic(target / INDEX, dumped(index))
    # The versions that the old index named go next: it must not come back after a power failure.
    files.fsync(target)


def _entry(model: ModelRecord, publisher: Publisher, index: Index) -> Entry | None:
    """What the index is to say of a model; its files are there. ``None``: it has never been."""
    known = index.models.get(model.name)
    present = {"retired": False, "retired_since": None, "failing_since": model.failing_since}
    right = [row for row in model.rows if row.status == "ok" and row.files]
    if model.status != "ok" or not right or right[0].id != ONNX:
        # A model that was skipped or did not run says nothing of the file that is there.
        return known.model_copy(update=present) if known and status.fails(model) else known
    left_out = {row.id: why for row in right if (why := publisher.layout.left_out(row))}
    if ONNX in left_out:
        raise OSError(errno.EINVAL, left_out[ONNX], right[0].files[0].path)
    rows = [row for row in right if row.id not in left_out]
    planned = publisher.layout.sets(rows, publisher.options)
    _refuse_foreign(model.name, planned, publisher, index)
    past = [*known.sets, *known.kept] if known else []
    sets = [publisher.deliver(each, past) for each in planned]
    places = _places(planned, sets)
    said = {
        "variants": _variants(rows[1:], places),
        "sets": sets,
        "kept": _kept(sets, past, publisher),
        "folders": sorted({*(known.names if known else ()), *(each.name for each in sets)}),
        "left_out": left_out,
        "license": model.license,
        "verified": statement.verified(rows[0]),
        "verified_by": publisher.manifest.run.id,
        "verified_at": publisher.manifest.run.started_at,
    }
    if known is None or {Path(each.folder) for each in sets} != known.homes_now:
        return _made(rows[0], publisher.manifest, places).model_copy(update={**present, **said})
    return known.model_copy(update={**present, **_files(rows[0], places), **said})


def _refuse_foreign(
    model: str, planned: Sequence[FileSet], publisher: Publisher, index: Index
) -> None:
    """Raise where a set would lie in the folder of another model, or of somebody else."""
    known = index.models.get(model)
    for each in planned:
        path = publisher.target / each.name
        for other, entry in index.models.items():
            if other != model and each.name in entry.names:
                raise OSError(errno.EEXIST, f"its folder is that of {other}", str(path))
        if known is not None and each.name in known.names:
            continue
        for outside in (path / name for name in publisher.layout.OUTSIDE):
            if outside.exists():
                words = f"there is a file that is not in {INDEX}: move it away"
                raise OSError(errno.EEXIST, words, str(outside))


def _kept(
    sets: Sequence[PublishedSet], past: Sequence[PublishedSet], publisher: Publisher
) -> list[PublishedSet]:
    """The sets of earlier versions that stay, of those that there are."""
    found: list[PublishedSet] = []
    folders = {each.folder for each in sets}
    for name in (each.name for each in sets):
        older = [each for each in past if each.name == name and each.folder not in folders]
        found += [
            each
            for each in older[: publisher.keep_versions - 1]
            if (publisher.target / each.folder).is_dir()
        ]
    return found


def _places(planned: Sequence[FileSet], sets: Sequence[PublishedSet]) -> dict[str, FileInfo]:
    """Path of a file in the run → the file as it is published."""
    return {
        part.path: part.model_copy(update={"path": str(Path(made.folder) / name)})
        for each, made in zip(planned, sets, strict=True)
        for name, part in each.files.items()
    }


def _variants(rows: Sequence[ArtifactRow], places: dict[str, FileInfo]) -> dict[str, Variant]:
    return {
        row.id: Variant(
            format=row.format,
            precision=row.precision,
            files=[places[part.path] for part in row.files],
            verified=statement.verified(row),
        )
        for row in rows
    }


def _files(row: ArtifactRow, places: dict[str, FileInfo]) -> dict[str, object]:
    first, *data = (places[part.path] for part in row.files)
    return {**dict(first), "external_data": data}


def _made(row: ArtifactRow, manifest: Manifest, places: dict[str, FileInfo]) -> Entry:
    run, onnx = manifest.run, row.onnx
    assert onnx is not None, "the first artifact of a model is an ONNX file"
    return Entry.model_validate(
        {
            **_files(row, places),
            "opset": onnx.opset,
            "inputs": onnx.inputs,
            "outputs": onnx.outputs,
            "provenance": Provenance(
                run_id=run.id,
                experiment=run.experiment,
                at=run.started_at,
                source=row.source,
                exporter=onnx.exporter,
                packages=manifest.environment.packages,
                commit=sbom.commit(run),
            ),
            "verified_by": run.id,
            "verified_at": run.started_at,
        }
    )


def _retired(index: Index, manifest: Manifest, listed: Collection[str], resumed: bool) -> Index:
    """The index with a mark on what this experiment has published and no longer lists."""
    models = {
        name: entry.model_copy(update={"retired": True, "retired_since": manifest.run.started_at})
        if name not in listed
        and not entry.retired
        # Several experiments may publish to one folder, each with a list of its own.
        and entry.provenance.experiment == manifest.run.experiment
        and not (resumed and _is_newer(entry, manifest))
        else entry
        for name, entry in index.models.items()
    }
    return index.model_copy(update={"models": models})


def _settle(
    target: Path, entries: Iterable[tuple[str, Entry]], outside: Sequence[str]
) -> list[str]:
    """Have beside the versions of each set what its newest one says; gives what went wrong."""
    problems = []
    for name, entry in entries if outside else ():
        try:
            for each in entry.sets:
                for file in outside:
                    _put_outside(target, each, file)
            for gone in entry.names - {each.name for each in entry.sets}:
                for file in outside:
                    delivery.refuse_link(target / gone)
                    (target / gone / file).unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"{name}: {_words(error, target / name)}")
    return problems


def _put_outside(target: Path, made: PublishedSet, file: str) -> None:
    inside, place = target / made.folder / file, target / made.name / file
    recorded = [part for part in made.files if part.path == str(Path(made.folder) / file)]
    delivery.refuse_link(place.parent)
    delivery.refuse_link(place)
    # One that is damaged stays where it is: whoever looks at the set says so.
    if not all(is_whole(inside, part) for part in recorded):
        return
    for part in recorded:
        if not is_whole(place, part):
            write_atomic(place, inside.read_text(encoding="utf-8"))
            # The version that it named before goes next.
            files.fsync(place.parent)


def _clear(target: Path, index: Index, outside: Sequence[str]) -> None:
    """Remove what a killed run left unfinished, and versions that the index names no more.

    Of a model that it does not name nothing is known: the index may have been moved away.
    """
    wanted = {home for entry in index.models.values() for home in entry.homes}
    own = {name for entry in index.models.values() for name in entry.names}
    _clear_texts(target, [INDEX])
    for model in target.iterdir():
        # What a link leads to is not ours to remove.
        if model.is_symlink() or not model.is_dir():
            continue
        for version in model.iterdir():
            ours = version.name.startswith(UNFINISHED) or (
                model.name in own
                and _is_version(version)
                and version.relative_to(target) not in wanted
            )
            if ours and version.is_dir() and not version.is_symlink():
                _remove(version)
        if model.name in own:
            _clear_texts(model, outside)
        if model.name in own and not any(home.parts[0] == model.name for home in wanted):
            with suppress(OSError):  # what somebody else has put there stays
                model.rmdir()


def _remove(version: Path) -> None:
    # Half of a version must not be taken for one, nor for somebody else's.
    if not version.name.startswith(UNFINISHED):
        version = version.rename(version.with_name(f"{UNFINISHED}{version.name}-{os.getpid()}"))
    shutil.rmtree(version)


def _clear_texts(folder: Path, names: Iterable[str]) -> None:
    """Remove what `write_atomic` left of a text where the process was killed."""
    for name in names:
        for path in folder.glob(f".{name}.*"):
            path.unlink()


def _is_version(path: Path) -> bool:
    # Anybody may call a folder 7: ours has what every set has.
    numbered = _NUMBER.fullmatch(path.name) and (path / sbom.FILE).is_file()
    return bool(_VERSION.fullmatch(path.name) or numbered)
