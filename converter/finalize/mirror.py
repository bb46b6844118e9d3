"""A published prefix of an object store, brought here as the folder that it would be.

So what is checked of it is the same, by the same code: every byte has to come here in any case.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path, PurePosixPath

from converter.finalize.delivering import SUMS
from converter.finalize.prefix import GONE
from converter.finalize.zoo_index import INDEX
from converter.storage.backend import Object
from converter.storage.exclusive import LEASE
from converter.storage.objects import TEMPORARY, Objects


def is_one(objects: Objects) -> bool:
    """Whether a prefix was published: all of it, or one set.

    Raises:
        OSError: it cannot be read.
    """
    # By reading: of what is asked for without its body nobody learns that the bucket is missing.
    return objects.about(INDEX) is not None or objects.read(SUMS) is not None


def bring(objects: Objects, folder: Path) -> tuple[list[str], list[str]]:
    """Download a prefix into an empty folder.

    Returns:
        What has no place in a folder, and what was left out; a sentence each.

    Raises:
        OSError: it cannot be read, or there is no room for it.
    """
    index = objects.about(INDEX)
    if index is not None:
        # Before the listing: what it names stays long enough to be read.
        objects.fetch(INDEX, folder / INDEX)
    there = [each for each in objects.list() if each.key not in (INDEX, LEASE)]
    going = {home for each in there if (home := _marked(each)) is not None}
    wanted = [
        each
        for each in there
        if not each.key.startswith(TEMPORARY)
        and _marked(each) is None
        and not any(each.key.startswith(f"{home}/") for home in going)
    ]
    problems = [
        f"{each.key!r} is no name of a file: nobody has published it"
        for each in wanted
        if not _is_name(each.key)
    ]
    wanted = [each for each in wanted if _is_name(each.key)]
    _require_room(sum(each.bytes for each in wanted), folder)
    for each in wanted:
        path = folder / each.key
        path.parent.mkdir(parents=True, exist_ok=True)
        objects.fetch(each.key, path)
    notes = [f"{home} is named no more: a later run removes it" for home in sorted(going)]
    return problems, notes


def _marked(each: Object) -> str | None:
    """The version that a mark says is going; ``None``: it is no mark."""
    above, _, name = each.key.rpartition("/")
    return f"{above}/{name.removeprefix(GONE)}" if name.startswith(GONE) else None


def _is_name(key: str) -> bool:
    # An object may be called anything, and its name becomes a path here.
    parts = key.split("/")
    return not any(part in ("", ".", "..") or "\0" in part for part in parts) and (
        str(PurePosixPath(key)) == key
    )


def _require_room(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        words = (
            f"what is published there has {size} bytes, of which every one is read, and {free} are "
            "free: set TMPDIR to a larger disk, or name one set (URL/MODEL/VERSION)"
        )
        raise OSError(errno.ENOSPC, words, str(folder))
