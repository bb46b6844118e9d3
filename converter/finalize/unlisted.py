"""What lies in a published folder, and is not named by its index."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from converter.finalize import beside
from converter.finalize.delivering import SUMS
from converter.finalize.folder import UNFINISHED
from converter.finalize.zoo_index import INDEX, PAGE, Index
from converter.plugins.layouts import Layout
from converter.storage import exclusive

KEPT = (".git*", "README*", "LICENSE*")
"""What a user may keep at the top."""


def find(folder: Path, index: Index, layout: Layout) -> tuple[list[str], list[str]]:
    """Whatever nobody has published.

    Args:
        layout: of the folder.

    Returns:
        What must not be there, and what was passed over; a sentence each.
    """
    entries, outside = index.models.values(), layout.OUTSIDE
    homes = {folder / home for entry in entries for home in entry.homes}
    names = {name for entry in entries for name in entry.names} | {h.parent.name for h in homes}
    standing = [each for entry in entries for each in beside.of(entry, outside)]
    there = {folder / path for each in standing for path in each.paths}
    problems: list[str] = []
    notes: list[str] = []
    for top in sorted(folder.iterdir()):
        is_folder = top.is_dir() and not top.is_symlink()
        if top.name in names and is_folder:
            for text, allowed in _in_model(top, homes | there, outside):
                (notes if allowed else problems).append(f"{top.name}/{text}")
        elif top.name not in (INDEX, PAGE, exclusive.LOCK) or not top.is_file() or top.is_symlink():
            text, allowed = _at_top(top, is_folder and layout.NUMBERED)
            (notes if allowed else problems).append(text)
    return problems, notes


def _in_model(
    model: Path, known: Collection[Path], outside: Sequence[str]
) -> Iterator[tuple[str, bool]]:
    """What is said of each thing in a model's folder, and whether it may stay."""
    for path in sorted(model.iterdir()):
        if path in known:
            continue
        if _is_unfinished(path, outside):
            yield f"{path.name} is unfinished: the next run removes it", True
        elif (path / SUMS).is_file():
            words = f"is a set that {INDEX} does not name: the next run of a killed one removes it"
            yield f"{path.name} {words}; or somebody has put it there", False
        else:
            yield f"{path.name} is in no set: nobody has published it", False


def _is_unfinished(path: Path, names: Sequence[str]) -> bool:
    if path.is_dir() and not path.is_symlink():
        return path.name.startswith(UNFINISHED)
    return beside.is_unfinished(path.name, names)


def _at_top(path: Path, foreign: bool) -> tuple[str, bool]:
    """What is said of something at the top that is no model's, and whether it may stay.

    Args:
        foreign: it is a folder, and a layout whose readers go by folders allows those of others.
    """
    if path.is_symlink():
        return f"{path.name} is a symbolic link: nobody has published it", False
    if any(fnmatchcase(path.name, kept) for kept in KEPT):
        return f"{path.name} was not looked at", True
    if _is_unfinished(path, [INDEX, PAGE]):
        return f"{path.name} is unfinished: the next run removes it", True
    if any(path.glob(SUMS)) or any(path.glob(f"*/{SUMS}")):
        return f"{path.name} has a set that {INDEX} does not name", False
    if foreign:
        return f"{path.name} is not ours: it was not looked at", True
    return f"{path.name} is not in {INDEX}: nobody has published it", False
