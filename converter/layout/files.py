"""Files: whether they are there, hashes and forced writes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from converter.model.errors import Code, StageError


def require(code: Code, what: str, path: str | Path) -> None:
    """Refuse a path that the configuration names and that leads to no file.

    Raises:
        StageError: of that code.
    """
    if not Path(path).is_file():
        why = "is no file" if Path(path).exists() else "does not exist"
        hint = "A relative path counts from the folder where the command was started."
        raise StageError(code, f"{what} {path} {why}", hint)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        # Piece by piece, so that gigabytes of weights are never in memory.
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_size(path: Path, size: int) -> bool:
    """Whether a file of that many bytes is there."""
    return path.is_file() and path.stat().st_size == size


def is_whole(path: Path, size: int, digest: str) -> bool:
    """Whether a file is the one that was recorded; every byte is read."""
    return has_size(path, size) and sha256(path) == digest


def fsync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    # A folder can be opened for reading only, and fsync takes that for a file too.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
