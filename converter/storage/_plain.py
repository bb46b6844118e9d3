"""Any file system that fsspec knows: what reading needs, and no conditional write.

fsspec itself has none: whether a name is free can be asked, and another writer may take it between
the answer and the write.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from converter.storage.backend import Content, Failure, Kind, Object, limited


class ReadOnlyError(OSError):
    """A write to a file system that is only read here."""


class Plain:
    """Read-only calls of ``converter.storage.backend.Driver``."""

    conditional = False

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        protocol = fs.protocol
        self._scheme = protocol if isinstance(protocol, str) else protocol[0]
        # Implementations raise what they like; these are what fsspec documents and requests give.
        self.errors: tuple[type[Exception], ...] = (OSError, ValueError, NotImplementedError)

    def get(self, path: str) -> Content:
        return Content(self._fs.cat_file(path), "", None)

    def put(self, path: str, data: bytes, expected: str | None) -> str:
        raise self._read_only(path)

    def head(self, path: str) -> Object:
        return self._object(self._fs.info(path))

    def send(self, source: Path, path: str, sha256: str) -> bool:
        raise self._read_only(path)

    def fetch(self, path: str, target: Path, most: int | None = None) -> None:
        self._fs.get_file(path, str(target), callback=limited(most))

    def copy(self, source: str, path: str) -> None:
        raise self._read_only(path)

    def delete(self, path: str, version: str | None) -> None:
        raise self._read_only(path)

    def list(self, prefix: str) -> Iterator[Object]:
        for info in self._fs.find(prefix.rstrip("/"), detail=True).values():
            yield self._object(info)

    def _read_only(self, path: str) -> ReadOnlyError:
        words = (
            f"file systems of {self._scheme}:// are only read here, since they have no conditional "
            "write: name a folder, or a place of s3:// or gs://"
        )
        return ReadOnlyError(errno.EROFS, words, path)

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, ReadOnlyError):
            return Failure(Kind.FINAL, errno.EROFS, str(error.strerror))
        if isinstance(error, FileNotFoundError):
            return Failure(Kind.MISSING, errno.ENOENT, Kind.MISSING.value)
        if isinstance(error, PermissionError):
            return Failure(Kind.FINAL, errno.EACCES, "access denied")
        if isinstance(error, ConnectionError | TimeoutError):
            return Failure(Kind.AGAIN, errno.EIO, "the server cannot be reached")
        return Failure(Kind.FINAL, getattr(error, "errno", None) or errno.EIO, type(error).__name__)

    def _object(self, info: dict[str, Any]) -> Object:
        changed = next((info[k] for k in ("mtime", "LastModified", "created") if info.get(k)), 0.0)
        modified = changed.timestamp() if isinstance(changed, datetime) else float(changed)
        # Some give their paths a slash in front.
        return Object(str(info["name"]).strip("/"), int(info.get("size") or 0), modified, "")
