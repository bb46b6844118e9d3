"""Archives of small files: the same files give the same bytes, and nothing leaves its folder.

A tar file without compression. The names of its members are absolute paths without their first
slash; a symbolic link leads to such a path, not to a place of the machine that it is unpacked on.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

_MODE = 0o644
_PROGRAM = 0o755


class RefusedError(ValueError):
    """An archive has a member that ours never have."""


def write(target: Path, files: Iterable[str], links: Mapping[str, str]) -> None:
    """Write an archive.

    Args:
        files: real paths, absolute.
        links: by their absolute paths the real ones that they lead to.

    Raises:
        OSError: a file cannot be read, or the archive not written.
    """
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted({*files, *links}):
            member = tarfile.TarInfo(path.lstrip(os.sep))
            if path in links:
                member.type, member.linkname = tarfile.SYMTYPE, links[path]
                archive.addfile(member)
                continue
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                member.size = status.st_size
                # No more of it than what runs needs: times and owners would make another archive.
                member.mode = _PROGRAM if status.st_mode & 0o100 else _MODE
                archive.addfile(member, file)


def unpack(source: Path, folder: Path) -> None:
    """Unpack an archive; what is there under the same name is replaced.

    Raises:
        RefusedError: a member is no file or link, or has a name that could lead out of the folder.
        OSError: it cannot be read or written.
    """
    try:
        with tarfile.open(source, "r:") as archive:
            for member in archive:
                _unpack(archive, member, folder)
    except tarfile.TarError as error:
        raise RefusedError(f"it is no archive of ours: {error}") from error


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    target = inside(folder, f"{os.sep}{member.name}")
    new = target.with_name(f".new-{os.getpid()}")
    new.unlink(missing_ok=True)
    if member.issym():
        os.symlink(inside(folder, member.linkname), new)
    elif member.isreg() and not member.issparse():
        content = archive.extractfile(member)
        assert content is not None, "it is a file"
        with content, new.open("xb") as file:
            shutil.copyfileobj(content, file)
        new.chmod(_PROGRAM if member.mode & 0o100 else _MODE)
    else:
        raise RefusedError(f"'{member.name}' is neither a file nor a symbolic link")
    os.replace(new, target)


def inside(folder: Path, path: str) -> Path:
    """Where an absolute path lies below a folder; the folders on the way are made.

    Raises:
        RefusedError: the path has another form than ours, or a link is on the way.
        OSError: a folder cannot be made.
    """
    if not path.startswith("/") or path.startswith("//") or posixpath.normpath(path) != path:
        raise RefusedError(f"'{path}' is no absolute path in its shortest form")
    if "\0" in path or path == "/":
        raise RefusedError(f"'{path!r}' is no path of a file")
    place = folder
    place.mkdir(parents=True, exist_ok=True)
    *above, name = path[1:].split("/")
    for part in above:
        place = place / part
        if place.is_symlink():
            raise RefusedError(f"'{path}' leads through a symbolic link")
        place.mkdir(exist_ok=True)
    return place / name
