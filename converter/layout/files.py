"""Files: whether they are there, hashes, forced writes, and what a disk does to them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from converter.model.errors import Code, StageError

_PIECE = 1 << 20
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
        StageError: of that code where nothing is there; LOAD, for what is no file: a folder, a
            device, or a pipe, which would be read for ever.
    """
    if Path(path).is_file():
        return
    if Path(path).exists():
        raise StageError(Code.LOAD, f"{what} {path} is no file", "Name a file of tensors.")
    hint = "A relative path counts from the folder where the command was started."
    raise StageError(code, f"{what} {path} does not exist", hint)


class NotPlainError(OSError):
    """What is at a path can be no file of ours; its words say what it is."""


def open_plain(path: Path) -> IO[bytes]:
    """Open a file for reading that anybody may have put there.

    Of a named pipe nobody knows when its writer comes, and a link leads to what was not meant.

    Raises:
        NotPlainError: a link, a folder, a named pipe, a socket or a device is in its place.
        OSError: it cannot be read.
    """
    try:
        # Not to wait is for a pipe: to read a file always waits.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # The latter: a socket, or a device that nothing drives.
        if error.errno in (errno.ELOOP, errno.ENXIO) and (kind := _kind(path.lstat().st_mode)):
            raise NotPlainError(error.errno, f"is {kind}", str(path)) from error
        raise
    if kind := _kind(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlainError(errno.EINVAL, f"is {kind}", str(path))
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path) -> bytes:
    """All of a file that anybody may have put there.

    Raises:
        NotPlainError: a link, a folder, a named pipe, a socket or a device is in its place.
        OSError: it cannot be read.
    """
    with open_plain(path) as file:
        return file.read()


def _kind(mode: int) -> str:
    """What is no file; empty: it is one."""
    kinds = {
        stat.S_IFREG: "",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


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


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Errors name the file that is wanted: nobody knows the temporary one, and soon it is gone."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def temporary_for(path: Path) -> tuple[int, str]:
    """Make a file beside ``path`` that is to replace it: its descriptor and its name.

    Raises:
        OSError: the folder is not writable; the error names ``path``.
    """
    with _told_of(path):
        return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")


def replace(temporary: str | Path, path: Path) -> None:
    """Give a file its name, whatever file has had it.

    Raises:
        OSError: a folder has it; the error names ``path``.
    """
    with _told_of(path):
        os.replace(temporary, path)


def write_atomic(path: Path, *texts: str, durable: bool = True) -> None:
    """Write beside the target, fsync, rename: the name holds the old or the new text, whole.

    Args:
        texts: what comes one behind the other.
        durable: also after a power cut; to wait for the disk takes most of the time.

    Raises:
        OSError: the folder is not writable or the disk is full; ``path`` is as it was.
    """
    # In the same folder: a rename works within one file system only.
    # The dot lets `resume` find and remove what a kill leaves.
    handle, temporary = temporary_for(path)
    renamed = False
    try:
        with os.fdopen(handle, "wb") as file:
            for text in texts:
                _put(file, text)
            file.flush()
            # mkstemp makes files that only their owner can read.
            os.fchmod(file.fileno(), 0o644)
            if durable:
                os.fsync(file.fileno())
        # The folder is not forced to the disk: after a power cut the name may have the old text,
        # which is whole as well.
        replace(temporary, path)
        renamed = True
    finally:
        # Not where the rename succeeded: an error then would tell of a text that is there.
        if not renamed:
            with suppress(OSError):
                os.unlink(temporary)


def write_new(path: Path, text: str) -> None:
    """Write a file that all may read in a folder that nobody looks into yet.

    It is not forced to the disk.

    Raises:
        OSError: it is there, or the disk is full.
    """
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the umask says, as above
        _put(file, text)


def _put(file: IO[bytes], text: str) -> None:
    # Piece by piece: the page of 10,000 models has 100 MB, and would be in memory once more.
    for start in range(0, len(text), _PIECE):
        file.write(text[start : start + _PIECE].encode())
