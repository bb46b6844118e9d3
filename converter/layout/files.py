"""Files: whether they are there, hashes, forced writes, and what a disk does to them."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from converter.model.errors import Code, StageError

DISK = {
    errno.ENOSPC: "The disk is full: free space, or choose another hydra.run.dir.",
    errno.EDQUOT: "The quota is used up: free space, or choose another hydra.run.dir.",
    errno.EROFS: "The file system cannot be written any more: the system's log says why.",
    errno.EIO: "The disk failed: the system's log says more.",
}
"""What a disk does, and no model, with what to do then: the next try may go otherwise."""


def of_disk(error: BaseException | None) -> int | None:
    """The errno of ``DISK`` that an exception is, or was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK:
            return error.errno
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


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
