"""What lies in a published folder, checked against its own hashes, its index and a public key."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from converter.finalize import beside, links, statement, unlisted, zoo_index
from converter.finalize.delivering import SUMS
from converter.finalize.zoo_index import INDEX, PAGE, Entry, Index
from converter.layout import files, signing
from converter.layout.signing import SIGNATURE
from converter.model.records import FileInfo
from converter.plugins import layouts

_UNCOVERED = (
    f"in {INDEX} these are covered by no set: provenance, verified_by, verified_at, failing_since, "
    "retired, left_out, folders, about, measured, inputs of variants, first_published; nor does "
    "anything say that a set is the newest"
)


@dataclass
class Checked:
    """What a check came to.

    Attributes:
        sets: how many there are, and how many of them have a signature (``signed``).
        files: how many were hashed.
        problems: what is wrong, a sentence each.
        notes: what was not compared, a sentence each.
    """

    sets: int = 0
    signed: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_one(folder: Path) -> bool:
    """Whether a folder was published: all of it, or one set."""
    return (folder / INDEX).is_file() or (folder / SUMS).is_file()


def check(folder: Path, public_key: Path | None) -> Checked:
    """Read every byte of a published folder, or of one set.

    Args:
        public_key: what every set must be signed by; ``None``: signatures are not looked at.

    Raises:
        OSError: the index, the key or a folder cannot be read.
        ValueError: the key is none, in words.
    """
    found = Checked()
    if not (folder / INDEX).is_file():
        _set(folder, None, public_key, folder, found)
        return found
    try:
        index = zoo_index.read(folder)
    except zoo_index.MisplacedError as error:  # nothing that it names is opened
        found.problems += error.problems
        return found
    layout, absent = layouts.load(index.layout), 0
    for name, entry in index.models.items():
        _model(name, entry, public_key, folder, found)
        problems, missing = _outside(entry, layout.OUTSIDE, folder)
        found.problems += problems
        absent += missing
    _page(folder, index, layout.OUTSIDE, found)
    if not found.sets:
        found.problems.append(f"{INDEX} names no set: nothing was checked")
    strays, notes = unlisted.find(folder, index, layout)
    found.problems += strays
    if absent:
        words = "object stores have none, and elsewhere the next run puts them there"
        notes.append(f"{absent} files do not stand beside their versions: {words}")
    found.notes += [*notes, _UNCOVERED]
    return found


def _page(folder: Path, index: Index, patterns: Sequence[str], found: Checked) -> None:
    """The page must be what the index gives: nothing else says what it may show."""
    from converter.finalize import zoo_page  # its templates are of no other use here

    path = folder / PAGE
    if not (path.is_symlink() or path.exists()):  # a killed run had no time for it
        return
    try:
        text = files.read_plain(path).decode(errors="replace")
    except files.NotPlainError as error:
        found.problems.append(f"{PAGE} {error.strerror}: nobody has published it")
        return
    if zoo_page.is_ours(text) and not zoo_page.is_of_this_version(text):
        found.notes.append(f"{PAGE} is of another version of the converter: it was not compared")
    elif text != zoo_page.render(index, patterns):
        found.problems.append(f"{PAGE} is not the page of {INDEX}: the next run writes it again")


def _model(name: str, entry: Entry, public_key: Path | None, folder: Path, found: Checked) -> None:
    """The sets of a model, and what the index says of them."""
    sets = [*entry.sets, *entry.kept]
    # Of a retired model nobody makes them again.
    gone = {each.folder for each in sets if entry.retired and not (folder / each.folder).exists()}
    found.notes += [f"{name} is retired, and {home} is gone" for home in sorted(gone)]
    before = len(found.problems)
    for each in sets:
        if each.folder in gone:
            continue
        twice = _twice(part.path for part in each.files)
        found.problems += [f"{path} is listed twice in {INDEX}" for path in twice]
        recorded = {os.path.relpath(part.path, each.folder): part for part in each.files}
        _set(folder / each.folder, recorded, public_key, folder, found)
    if not entry.sets:
        _older(name, entry, public_key, folder, found)
    elif len(found.problems) == before:  # what a damaged set says counts for nothing
        problems, notes = statement.compare(name, entry, folder, gone)
        found.problems += problems
        found.notes += notes


def _set(
    home: Path,
    recorded: Mapping[str, FileInfo] | None,
    public_key: Path | None,
    folder: Path,
    found: Checked,
) -> None:
    """One set; ``recorded``: all its files, as the index has them."""
    found.sets += 1
    problems = [f"{_shown(home, folder)}{text}" for text in _of_set(home, recorded, found)]
    signature = home / SIGNATURE
    found.signed += signature.is_file()
    if public_key is not None and home.is_dir():
        why = "it is not signed"
        if signature.is_file():
            why = _refusal(home, public_key)
        problems += [f"{_shown(home, folder)}{why}"] if why else []
    found.problems += problems


def _refusal(home: Path, public_key: Path) -> str:
    """Why a signature is refused; empty: it is not."""
    for name, path in _files(home):
        # What checks signatures opens all that lies there, and would wait for a pipe for ever.
        if not path.is_file():
            return f"its signature was not checked: {name} is no file"
    return signing.refusal(home, public_key)


def _of_set(home: Path, recorded: Mapping[str, FileInfo] | None, found: Checked) -> Iterator[str]:
    if home.is_symlink() or home.parent.is_symlink() or not home.is_dir():
        yield "there is no such folder, or a symbolic link in its place"
        return
    there = dict(_files(home))
    listed, words = _sums(home), f"as {SUMS} says"
    if listed is None:
        yield f"{SUMS} is missing or damaged"
        listed = []
    yield from (f"{name} is listed twice in {SUMS}" for name in _twice(name for name, _ in listed))
    sums = dict(listed)
    if recorded is not None:  # which has the hashes of SHA256SUMS and of the signature, too
        yield from _disagreeing(sums, recorded)
        sums = {**sums, **{name: part.sha256 for name, part in recorded.items()}}
        words = f"as {SUMS} and {INDEX} say"
    for name, sha256 in sums.items():
        found.files += name in there and there[name].is_file()
        size = recorded[name].bytes if recorded and name in recorded else None
        if why := _refused(there.get(name), size, sha256, words):
            yield f"{name} {why}"
    for name in sorted(there.keys() - sums.keys() - {SUMS, SIGNATURE}):
        yield f"{name} is not in {SUMS}: nobody has published it"
    for path in sorted(home.rglob("*")):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            yield f"{path.relative_to(home)} is an empty folder: nobody has published it"


def _refused(path: Path | None, size: int | None, sha256: str, words: str) -> str:
    """Why a file is not the one that was published; empty: it is."""
    if path is None:
        return "is missing"
    if path.is_symlink():
        return "is a symbolic link"
    if not path.is_file():
        return "is no file"
    if size not in (None, path.stat().st_size):
        return f"is not {words}"
    return "" if files.sha256(path) == sha256 else f"is not {words}"


def _disagreeing(sums: Mapping[str, str], recorded: Mapping[str, FileInfo]) -> Iterator[str]:
    for name, sha256 in sums.items():
        if name not in recorded:
            yield f"{name} is in {SUMS}, and not in {INDEX}"
        elif recorded[name].sha256 != sha256:
            yield f"{INDEX} has another hash of {name} than {SUMS}"
    for name in sorted(recorded.keys() - sums.keys() - {SUMS, SIGNATURE}):
        yield f"{name} is in {INDEX}, and not in {SUMS}"


def _files(home: Path) -> Iterator[tuple[str, Path]]:
    for path in home.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield str(path.relative_to(home)), path


def _sums(home: Path) -> list[tuple[str, str]] | None:
    """Names and hashes, as ``sha256sum -c`` reads them; ``None``: there is no such file."""
    try:
        # Not `splitlines`: a line may end with a newline alone.
        lines = files.read_plain(home / SUMS).decode().removesuffix("\n").split("\n")
    except (OSError, ValueError):
        return None
    pairs = [line.split("  ", 1) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        return None
    return [(name, sha256) for sha256, name in pairs]


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _older(name: str, entry: Entry, public_key: Path | None, folder: Path, found: Checked) -> None:
    """A model that a converter without sets has published: its files are in the index alone."""
    found.sets += 1
    found.files += len(entry.parts)
    found.problems += [
        f"{part.path} is not as {INDEX} says"
        for part in entry.parts
        if not files.is_whole(folder / part.path, part.bytes, part.sha256)
    ]
    if public_key is not None:
        found.problems.append(f"{name}: it is not signed: an earlier version has published it")


def _outside(entry: Entry, patterns: Sequence[str], folder: Path) -> tuple[list[str], int]:
    """What stands beside the versions must be what is in the newest one, where it is signed.

    Returns:
        What is wrong, and how many files of models are absent.
    """
    problems: list[str] = []
    absent = 0
    for each in beside.of(entry, patterns):
        for part in each.parts:
            path, name = folder / each.path(part), Path(part.path).name
            if not (path.is_symlink() or path.exists()):
                absent += each.is_artifact
                if not each.is_artifact:
                    problems.append(f"{each.folder}: {name} is missing")
            elif not links.is_right(folder, each, part):
                version = Path(part.path).parent.name
                problems.append(f"{each.folder}: {name} is not that of version {version}")
    return problems, absent


def _shown(home: Path, folder: Path) -> str:
    return "" if home == folder else f"{home.relative_to(folder)}: "
