"""What lies in a published folder, checked against its own hashes, its index and a public key."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from converter.finalize import zoo_index
from converter.finalize.delivering import SUMS, is_whole
from converter.finalize.zoo_index import INDEX, Entry, PublishedSet
from converter.layout import files, signing
from converter.layout.signing import SIGNATURE
from converter.plugins import layouts


@dataclass
class Checked:
    """What a check came to.

    Attributes:
        sets: how many there are, and how many of them have a signature (``signed``).
        files: how many were hashed.
        problems: what is wrong, a sentence each.
    """

    sets: int = 0
    signed: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)


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
    index = zoo_index.read(folder)
    outside = layouts.load(index.layout).OUTSIDE
    for name, entry in index.models.items():
        for each in (*entry.sets, *entry.kept):
            home = folder / each.folder
            if entry.retired and not home.exists():  # nobody makes it again
                continue
            recorded = {os.path.relpath(part.path, each.folder): part for part in each.files}
            _set(home, {n: part.sha256 for n, part in recorded.items()}, public_key, folder, found)
        if not entry.sets:
            _older(name, entry, public_key, folder, found)
        found.problems += _outside(entry.sets, outside, folder)
    return found


def _set(
    home: Path,
    recorded: Mapping[str, str] | None,
    public_key: Path | None,
    folder: Path,
    found: Checked,
) -> None:
    """One set; ``recorded``: the hashes of all its files, as the index has them."""
    found.sets += 1
    problems = [f"{_shown(home, folder)}{text}" for text in _of_set(home, recorded, found)]
    signature = home / SIGNATURE
    found.signed += signature.is_file()
    if public_key is not None and home.is_dir():
        why = "it is not signed"
        if signature.is_file():
            why = signing.refusal(home, public_key)
        problems += [f"{_shown(home, folder)}{why}"] if why else []
    found.problems += problems


def _of_set(home: Path, recorded: Mapping[str, str] | None, found: Checked) -> Iterator[str]:
    if home.is_symlink() or home.parent.is_symlink() or not home.is_dir():
        yield "there is no such folder, or a symbolic link in its place"
        return
    there = dict(_files(home))
    sums, words = _sums(home), f"as {SUMS} says"
    if sums is None:
        yield f"{SUMS} is missing or damaged"
        sums = {}
    if recorded is not None:  # which has the hashes of SHA256SUMS and of the signature, too
        sums, words = {**sums, **recorded}, f"as {SUMS} and {INDEX} say"
    for name, sha256 in sums.items():
        if name not in there:
            yield f"{name} is missing"
        elif there[name].is_symlink():
            yield f"{name} is a symbolic link"
        else:
            found.files += 1
            if files.sha256(there[name]) != sha256:
                yield f"{name} is not {words}"
    for name in sorted(there.keys() - sums.keys() - {SUMS, SIGNATURE}):
        yield f"{name} is not in {SUMS}: nobody has published it"


def _files(home: Path) -> Iterator[tuple[str, Path]]:
    for path in home.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield str(path.relative_to(home)), path


def _sums(home: Path) -> dict[str, str] | None:
    """Name → hash, as ``sha256sum -c`` reads it; ``None``: there is no such file."""
    try:
        lines = (home / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    pairs = [line.split("  ", 1) for line in lines]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        return None
    return {name: sha256 for sha256, name in pairs}


def _older(name: str, entry: Entry, public_key: Path | None, folder: Path, found: Checked) -> None:
    """A model that a converter without sets has published: its files are in the index alone."""
    found.sets += 1
    found.files += len(entry.parts)
    found.problems += [
        f"{part.path} is not as {INDEX} says"
        for part in entry.parts
        if not is_whole(folder / part.path, part)
    ]
    if public_key is not None:
        found.problems.append(f"{name}: it is not signed: an earlier version has published it")


def _outside(sets: Iterable[PublishedSet], names: Iterable[str], folder: Path) -> Iterator[str]:
    """What stands beside the versions must be what is in the newest one, where it is signed."""
    for each in sets:
        for name in names:
            place, inside = folder / each.name / name, folder / each.folder / name
            if place.is_symlink() or not place.is_file():
                yield f"{each.name}: {name} is missing"
            elif inside.is_file() and place.read_bytes() != inside.read_bytes():
                yield f"{each.name}: {name} is not that of version {inside.parent.name}"


def _shown(home: Path, folder: Path) -> str:
    return "" if home == folder else f"{home.relative_to(folder)}: "
