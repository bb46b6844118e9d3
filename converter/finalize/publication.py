"""``publish_to``: folders that only receive verified files, each set whole or not at all.

Every version of a set has a folder of its own, and ``index.json`` says which version counts::

    index.json
    resnet18/3f2a…/model.onnx [resnet18.onnx.data] [model.fp16.onnx] sbom.cdx.json SHA256SUMS
    resnet18/model.onnx [resnet18.onnx.data] [model.fp16.onnx] README.md: those of that version

What lies in it under which names is said by a layout (``converter.plugins.layouts``). A version
is complete under its name before the index names it, and goes only when the index names another.
What stands beside the versions is as the index says before an older version goes, and is put right
by the next run where this one was killed. So a run that is killed between any two steps leaves an
index that fits the files.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

from converter.compare import status
from converter.finalize import beside, measured, sbom, statement, zoo_index
from converter.finalize import target as targets
from converter.finalize.delivering import Publisher
from converter.finalize.folder import VERSION
from converter.finalize.target import Target
from converter.finalize.zoo_index import (
    INDEX,
    PAGE,
    Entry,
    Index,
    Measured,
    Provenance,
    PublishedSet,
    Variant,
)
from converter.layout import signing
from converter.model.artifact import ONNX
from converter.model.batch import PublishSpec
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.manifest import ArtifactRow, Manifest, ModelRecord
from converter.model.records import FileInfo
from converter.plugins import layouts, loader
from converter.plugins.layouts import FileSet


def check(spec: PublishSpec) -> list[str]:
    """Find out before the run whether its files can go there.

    Returns:
        What could not be looked at, a sentence each.

    Raises:
        ConfigError: its index is damaged, or of another version.
        RunError: the folder cannot be written, lies in another one that is published to or has such
            a one in it, its index cannot be read, or the key not be used.
    """
    try:
        target = targets.opened(spec.path)
        _refuse_inside(target)
        target.prepare()
        _refuse_around(target, _read(target, spec))
        _signer(spec)
    except zoo_index.DamagedIndexError as error:
        raise ConfigError(Problem("publish_to", _words(error, spec.path))) from error
    except OSError as error:
        raise RunError(f"publish_to: {_words(error, spec.path)}") from error
    except ValueError as error:
        raise RunError(f"publish_to: {error}") from error
    return target.told()


def check_store(path: str) -> None:
    """Find out before the run that nothing is published where the store is.

    Raises:
        RunError: something is.
    """
    target = targets.opened(path)
    words = "published to: give the store a place of its own, beside it"
    try:
        if target.read().models:
            raise RunError(f"store.path: {target.place} is {words}")
        for above in target.above():
            raise RunError(f"store.path: {target.place} lies in {above}, which is {words}")
    except (
        OSError
    ):  # an index.json of something else; what cannot be read the store's own look says
        return


def _refuse_inside(target: Target) -> None:
    """Raise where a folder above is published to: what lies in it would count as put there."""
    for above in target.above():
        words = f"is inside of {above}, which is published to: name a folder beside it"
        raise RunError(f"publish_to: {target.place} {words}")


def _refuse_around(target: Target, index: Index) -> None:
    """Raise where a folder in it is published to: it would lie in the sets of this one."""
    for below in target.below(index):
        words = f"has {below} in it, which is published to: name a folder beside it"
        raise RunError(f"publish_to: {target.place} {words}")


def _words(error: OSError, place: object) -> str:
    return f"{error.strerror or error}: {error.filename or place}"


def _read(target: Target, spec: PublishSpec) -> Index:
    """The index of a place, of this layout.

    Raises:
        OSError: it cannot be read, or files lie there in another one.
    """
    index, wanted = target.read(), spec.layout or layouts.DEFAULT
    if index.models and index.layout != wanted:
        words = f"files lie there in the layout {index.layout}: give {wanted} a folder of its own"
        raise OSError(errno.EEXIST, words, str(target.place))
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
    still_held: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Put the files of all ok models there, and mark those that left the list.

    The artifacts of a model appear together; of one that is not ok the last good set stays.

    Args:
        directory: of the run.
        listed: all models of the experiment, selected or not; ``None``: none is to be retired.
        resumed: the run began earlier: what others have published since is newer.
        still_held: raises ``OSError`` when the place is not held any more; asked before each write.
        note: takes what is no problem.

    Returns:
        What went wrong, a sentence each; such a model is as it was.

    Raises:
        OSError: the index cannot be read or written.
        ValueError: the key cannot be used any more.
    """
    publisher = _publisher(manifest, directory, spec)
    target, patterns = publisher.target, publisher.layout.OUTSIDE
    index = _read(target, spec)
    still_held()
    unsettled, problems = _settle(target, index.models.items(), patterns), []
    target.clear(index, patterns)
    for row in manifest.models:
        if resumed and _is_newer(index.models.get(row.name), manifest):
            continue
        index, wrong = _with_model(row, publisher, index, still_held)
        if wrong:
            unsettled.pop(row.name, None)  # whatever was in the way is said once
            problems.append(wrong)
    retire = partial(_retired, manifest=manifest, listed=listed, resumed=resumed)
    still_held()
    index = target.change(index, retire) if retire(index) != index else index
    # Only now: until here the index that others read named the old versions.
    target.clear(index, patterns)
    problems = [*unsettled.values(), *problems, *_damaged(target, index, manifest)]
    problems += _page(target, index, patterns)
    _tell(target, note)
    return problems


def _tell(target: Target, note: Callable[[str], None]) -> None:
    for line in target.told():
        note(line)


def _with_model(
    row: ModelRecord, publisher: Publisher, index: Index, still_held: Callable[[], None]
) -> tuple[Index, str]:
    """The index once a model is published, as far as it is to be, and what went wrong with it."""
    target = publisher.target
    try:
        entry = _entry(row, publisher, index)
    except OSError as error:
        where = _words(error, target.place / row.name)
        return index, f"{row.name} was not published: {where}"
    if entry is None or entry == index.models.get(row.name):
        return index, ""
    still_held()
    # After each model: a run that is killed here has published what it delivered so far.
    index = target.change(index, partial(Index.having, name=row.name, entry=entry))
    return index, _settle(target, [(row.name, entry)], publisher.layout.OUTSIDE).get(row.name, "")


def _page(target: Target, index: Index, patterns: Sequence[str]) -> list[str]:
    """Have the page of the index; gives what went wrong."""
    from converter.finalize import (
        zoo_page,  # its templates take as long as a small run's publication
    )

    text = zoo_page.render(index, patterns)
    try:
        there = target.page(PAGE)
        if there is not None and not zoo_page.is_ours(there):
            return [f"{target.place / PAGE} is not ours, and stays: move it away"]
        if there != text and (index.models or there is not None):
            target.put_page(PAGE, text)
    except OSError as error:
        return [f"the page of the models was not written: {_words(error, target.place / PAGE)}"]
    return []


def _is_newer(entry: Entry | None, manifest: Manifest) -> bool:
    # Asked of a resumed run only: a clock that once was ahead would hold back all later runs.
    return entry is not None and entry.verified_at > manifest.run.started_at


def _publisher(manifest: Manifest, directory: Path, spec: PublishSpec) -> Publisher:
    layout = layouts.load(spec.layout)
    return Publisher(
        manifest,
        directory,
        targets.opened(spec.path),
        layout,
        loader.options_of(layout).model_validate(spec.options),
        spec.keep_versions,
        _signer(spec),
    )


def _damaged(target: Target, index: Index, manifest: Manifest) -> list[str]:
    """A sentence for each model whose files are not those of the index, and were not mended.

    Of the models that this run lists every byte is read; of the experiment's others only the size,
    which is a matter of seconds for a whole zoo. Retired ones may be gone: nobody makes them again.
    """
    rows, place = {row.name: row for row in manifest.models}, target.place / INDEX
    return [
        f"{name}: what is published is not as {place} says, and tonight gave no other file"
        for name, entry in index.models.items()
        if not entry.retired and entry.provenance.experiment == manifest.run.experiment
        if name not in rows or rows[name].status != "ok"  # else it was looked at, or told
        # `for … in [x]` names x for the line below.
        for is_as_said in [target.is_whole if name in rows else target.has_size]
        if not all(is_as_said(part) for part in entry.parts)
    ]


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
        "variants": _variants(rows, places, publisher.manifest, known),
        "sets": sets,
        "kept": _kept(sets, past, publisher),
        "folders": sorted({*(known.names if known else ()), *(each.name for each in sets)}),
        "left_out": left_out,
        "license": model.license,
        "verified": statement.verified(rows[0]),
        "about": measured.about(rows[0]),
        "measured": measured.measured(
            rows[0], publisher.manifest, known.measured if known and _is_same(known, sets) else None
        ),
        "first_published": (known.first_published or known.provenance.at)
        if known
        else publisher.manifest.run.started_at,
        "verified_by": publisher.manifest.run.id,
        "verified_at": publisher.manifest.run.started_at,
    }
    if known is None or not _is_same(known, sets):
        return _made(rows[0], publisher.manifest, places).model_copy(update={**present, **said})
    return known.model_copy(update={**present, **_files(rows[0], places), **said})


def _is_same(known: Entry, sets: Sequence[PublishedSet]) -> bool:
    return {Path(each.folder) for each in sets} == known.homes_now


def _refuse_foreign(
    model: str, planned: Sequence[FileSet], publisher: Publisher, index: Index
) -> None:
    """Raise where a set would lie in the folder of another model, or of somebody else."""
    known = index.models.get(model)
    for each in planned:
        place = publisher.target.place / each.name
        if not zoo_index.is_own(model, each.name):  # no reader would take such an index
            words = "the layout gives it a folder that does not begin with its name"
            raise OSError(errno.EINVAL, words, str(place))
        for other, entry in index.models.items():
            if other != model and each.name in entry.names:
                raise OSError(errno.EEXIST, f"its folder is that of {other}", str(place))
        if known is not None and each.name in known.names:
            continue
        there = publisher.target.versions(each.name)
        if any(VERSION.fullmatch(name) for name in there):  # ours: the index was moved away
            continue
        for name in there:
            if beside.matches(name, publisher.layout.OUTSIDE):
                words = f"there is a file that is not in {INDEX}: move it away"
                raise OSError(errno.EEXIST, words, str(place / name))


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
            if publisher.target.exists(each.folder)
        ]
    return found


def _places(planned: Sequence[FileSet], sets: Sequence[PublishedSet]) -> dict[str, FileInfo]:
    """Path of a file in the run → the file as it is published."""
    return {
        part.path: part.model_copy(update={"path": str(Path(made.folder) / name)})
        for each, made in zip(planned, sets, strict=True)
        for name, part in each.files.items()
    }


def _variants(
    rows: Sequence[ArtifactRow],
    places: dict[str, FileInfo],
    manifest: Manifest,
    known: Entry | None,
) -> dict[str, Variant]:
    past, first = known.variants if known else {}, rows[0].onnx
    assert first is not None, "the first artifact of a model is an ONNX file"
    return {
        row.id: Variant(
            format=row.format,
            precision=row.precision,
            files=files,
            inputs=row.onnx.inputs if row.onnx and row.onnx.inputs != first.inputs else None,
            verified=statement.verified(row),
            measured=measured.measured(row, manifest, _measured_before(past.get(row.id), files)),
        )
        for row in rows[1:]
        for files in [[places[part.path] for part in row.files]]
    }


def _measured_before(known: Variant | None, files: Sequence[FileInfo]) -> Measured | None:
    return known.measured if known is not None and known.files == files else None


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


def _retired(
    index: Index, manifest: Manifest, listed: Collection[str] | None, resumed: bool
) -> Index:
    """The index with a mark on what this experiment has published and no longer lists."""
    if listed is None:
        return index
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
    target: Target, entries: Iterable[tuple[str, Entry]], patterns: Sequence[str]
) -> dict[str, str]:
    """Have beside the versions of each set what its newest one says.

    Returns:
        What went wrong, by the name of the model.
    """
    problems = {}
    for name, entry in entries if patterns else ():
        found = beside.of(entry, patterns)
        kept = {path for each in found for path in each.paths}
        try:
            for each in found:
                target.put_beside(each)
            for folder in entry.names:
                target.remove_beside(folder, kept, patterns)
        except OSError as error:
            problems[name] = f"{name}: {_words(error, target.place / name)}"
    return problems
