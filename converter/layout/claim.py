"""The run directory before a run: chosen, checked and claimed, without touching another run."""

from __future__ import annotations

import fcntl
import re
import shlex
from itertools import count
from pathlib import Path

from converter.model.errors import ConfigError, Problem, RunError

LOCK = ".lock"
# Of a run, of a sweep. The names of `converter.model.manifest` are repeated: its types take longer
# to import than the rest of a start does.
_TRACES = ("manifest.json", "results.jsonl", "sweep.json", "models", ".hydra", LOCK)


def refuse_used(directory: Path, key: str) -> None:
    """Refuse a directory that is held by, or holds, another run, or anything else.

    Args:
        key: the configuration key that chose the directory, for the message.

    Raises:
        RunError: another process is running in it, or it cannot be looked at.
        ConfigError: it holds a run, or is not empty.
    """
    try:
        if not directory.is_dir():
            return
    except OSError as error:  # a name that is too long, a folder above it that may not be entered
        raise not_writable(directory, error) from error
    # First, since a run that is going has left its traces as well, and to wait is the better
    # advice.
    if (holder := held_by(directory)) is not None:
        raise RunError(
            f"{directory}: held by another run ({holder}). Wait for it, or choose {key}."
        )
    if any((directory / trace).exists() for trace in _TRACES):
        raise holds_run(key, directory)
    if any(directory.iterdir()):
        hint = "Name a new or an empty folder."
        raise ConfigError(Problem(key, f"{directory} is not empty.", hint))


def holds_run(key: str, directory: Path) -> ConfigError:
    """The refusal to start a run where another one is."""
    hint = f"Resume it with `{resume_command(directory)}`, or name a new folder."
    return ConfigError(Problem(key, f"{directory} already holds a run.", hint))


def resume_command(directory: Path) -> str:
    """What finishes the run of a directory."""
    return shlex.join(["python", "-m", "converter", "resume", str(directory)])


def held_by(directory: Path) -> str | None:
    """What the lock of a directory says about the process that holds it, or ``None``.

    Raises:
        RunError: the lock cannot be read.
    """
    try:
        with (directory / LOCK).open() as lock:
            try:
                # Shared: several may look at once, and none takes another for the holder.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # Empty for a moment: the holder takes the lock and then writes who it is.
                return " ".join(lock.read().split()) or "unknown"
    except FileNotFoundError:
        pass
    except OSError as error:
        words = f"{directory / LOCK} cannot be read: {error.strerror}"
        raise RunError(f"{words}. Look at the disk and at who owns the folder.") from error
    return None


def create(directory: Path, *, chosen: bool) -> Path:
    """Create the run directory.

    Args:
        directory: absolute.
        chosen: the user named it. Otherwise it is new: runs that start in the same second
            get ``-2``, ``-3``, … at the end of their folders.

    Raises:
        RunError: it cannot be created or written.
    """
    try:
        if chosen:
            # The folder may be there and be empty; `refuse_used` has looked, and the lock decides.
            directory.mkdir(parents=True, exist_ok=True)
            return directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
            try:
                # It decides between runs of the same second; looking first would not.
                path.mkdir()
            except FileExistsError:
                if not path.is_dir():
                    raise
            else:
                return path
    except OSError as error:
        raise not_writable(directory, error) from error
    raise AssertionError("unreachable: count() does not end")


def not_writable(directory: Path, error: OSError) -> RunError:
    where = error.filename or directory
    return RunError(
        f"the run directory {directory} cannot be written: {error.strerror or error} ({where}). "
        "Choose another with hydra.run.dir=DIR (a sweep: hydra.sweep.dir=DIR)."
    )


def safe_name(text: str, most: int = 120) -> str:
    """One level of a path, of characters that every file system takes."""
    name = re.sub(r"[^\w.,=+@-]+", "-", text).strip("-.")[:most]
    return name or "default"
