"""A folder that a command makes for others: new, and whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from converter.layout import files
from converter.model.errors import ConfigError, Problem, RunError
from converter.model.records import JobResult


def refuse_used(command: str, folder: Path) -> None:
    """Raise where something is in the way.

    Raises:
        ConfigError: it is no folder, or holds something.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        hint = "Name a new or an empty folder with -o DIR."
        raise ConfigError(Problem(command, f"{folder} is in the way.", hint))
    if folder.is_dir() and any(folder.iterdir()):
        hint = "Name a new or an empty folder with -o DIR, or remove it."
        raise ConfigError(Problem(command, f"{folder} is not empty.", hint))


def check(folder: Path, result: JobResult) -> None:
    """The worker's word is not enough: the model's code ran in its process."""
    for part in result.files:
        path = folder / part.path
        if path.is_symlink() or not path.is_file() or files.sha256(path) != part.sha256:
            raise RunError(f"{part.path} is not what was written: try again")


def install(made: Path, folder: Path) -> None:
    """Give a whole folder its name.

    Raises:
        OSError: something is in the way by now, or the disk is full.
    """
    # mkdtemp's folders are for their owner alone, and so is the staging folder in it.
    made.chmod(0o777 & ~_umask())
    os.rename(made, folder)
    files.fsync(folder.parent)


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before
