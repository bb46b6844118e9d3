"""Files beside the versions of a set in a folder: links to the version, copies where none work.

onnx (1.23) takes the weights beside a file neither from a symbolic link nor from a file with two
names: those are copied.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from converter.finalize.beside import Beside
from converter.layout import files
from converter.model.records import FileInfo

# Of a file system without links, or one that allows none.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def put(place: Path, found: Beside) -> None:
    """Have files beside their version; one that is damaged there is left to whoever looks at it."""
    if not all(files.has_size(place / part.path, part.bytes) for part in found.parts):
        return
    if all(is_right(place, found, part) for part in found.parts):
        return
    for path in (place / found.path(part) for part in found.parts):
        if path.is_dir() and not path.is_symlink():
            raise OSError(errno.EISDIR, "a folder is in the way: move it away", str(path))
    main, *others = found.parts
    if others:
        # Several files cannot be replaced in one step: meanwhile there is none to open, so that no
        # reader gets weights of another version.
        (place / found.path(main)).unlink(missing_ok=True)
    for part in (*others, main):
        if not is_right(place, found, part) and not _put(place, found, part):
            return
    # The version that was there before goes next.
    files.fsync(place / found.folder)


def is_right(place: Path, found: Beside, part: FileInfo) -> bool:
    """Whether a file beside the versions is that of the version, by its link or its bytes."""
    path = place / found.path(part)
    if path.is_symlink():
        return _may_link(found, part) and os.readlink(path) == _within(found, part)
    return files.is_whole(path, part.bytes, part.sha256)


def leads_to_one_of(link: Path, homes: Collection[Path], place: Path) -> bool:
    """Whether a link leads into one of these versions, or is not one of ours."""
    target = Path(os.readlink(link))
    is_ours = len(target.parts) == 2 and not target.is_absolute()
    return not is_ours or (link.parent / target.parent).relative_to(place) in homes


def _within(found: Beside, part: FileInfo) -> str:
    """The path of a file from the folder of the set on."""
    return os.path.relpath(part.path, found.folder)


def _may_link(found: Beside, part: FileInfo) -> bool:
    # Texts are copies as ever: readers of them, Triton for one, have seen no links.
    inside = part != found.parts[0] and Path(found.parts[0].path).suffix == ".onnx"
    return found.is_artifact and not inside


def _put(place: Path, found: Beside, part: FileInfo) -> bool:
    """Replace one file; whether its version still has what was recorded."""
    path, source = place / found.path(part), place / part.path
    handle, name = files.temporary_for(path)
    os.close(handle)
    temporary = Path(name)
    try:
        if not _may_link(found, part) or not _linked(temporary, _within(found, part)):
            shutil.copyfile(source, temporary)
            if not files.is_whole(temporary, part.bytes, part.sha256):
                return False
            temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
            files.fsync(temporary)
        files.replace(temporary, path)
        return True
    finally:
        with suppress(OSError):
            temporary.unlink()


def _linked(path: Path, target: str) -> bool:
    path.unlink()
    try:
        path.symlink_to(target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True
