"""What a model's code has read, against the key: only what is in the key makes a result twice."""

from __future__ import annotations

import os
from collections.abc import Sequence

from converter.plan.keys import JobKey
from converter.plan.modules import CODE

_MOST = 100  # files that a row names


def judge(key: JobKey, read: Sequence[str]) -> tuple[list[str], str | None]:
    """The files to name in a row, and why the result must not be kept.

    Args:
        read: every file of the user's that was opened for reading, absolute.

    Returns:
        Files that the key does not cover, then the data that ``kwargs`` name. The reason, or
        ``None`` where the key covers all.
    """
    # By real paths: the code may open what a link leads to, or the link.
    own = {os.path.realpath(path): name for name, path in key.files.items()}
    real = {path: os.path.realpath(path) for path in read}
    names = {path: own.get(place) for path, place in real.items()}
    missing = [path for path, name in names.items() if name is None]
    for base in key.bases:
        missing = [path for path in missing if real[path] not in base.real_paths]
    named = [path for path, name in names.items() if name and name.startswith("kwargs.")]
    # Code that the key covers is no news to anybody; data that was read is, since a builder chose
    # it.
    named = [path for path in named if not path.endswith(CODE)]
    return [_short(path) for path in (missing + named)[:_MOST]], _problem(key, missing)


def code(read: Sequence[str]) -> list[str]:
    """What was imported, or opened as code."""
    return [path for path in read if path.endswith(CODE)]


def data(read: Sequence[str]) -> list[str]:
    """The files to name in a row of a job without a key: data."""
    return [_short(path) for path in read if not path.endswith(CODE)][:_MOST]


def _problem(key: JobKey, missing: Sequence[str]) -> str | None:
    # Before the list of files: nothing that was read can be told to be covered or not.
    if key.incomplete is not None:
        return f"{key.incomplete}, too many for the key: name the files that are read"
    data = [path for path in missing if not path.endswith(CODE)]
    if data:
        what = f"{_and_more(data)} read and not part of the key"
        return f"{what}: name the file or its folder in kwargs"
    if missing:
        what = f"{_and_more(missing)} imported and not part of the key"
        return f"{what}: import it by an import statement, with its folder on PYTHONPATH"
    return None


def _and_more(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return f"{_short(paths[0])} was"
    return f"{_short(paths[0])} and {len(paths) - 1} more were"


def _short(path: str) -> str:
    """Relative to the folder where the run was started, where it is below it."""
    here = f"{os.getcwd()}{os.sep}"
    return path.removeprefix(here)
