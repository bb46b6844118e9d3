"""A prefix of an object store: what the store and publishing do with it.

No name is ever seen half written: a small object is written by one call, a file is uploaded under a
temporary name, looked at, and then gets its own.
"""

from __future__ import annotations

import errno
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

from converter.layout import files
from converter.model.errors import ConfigError, Problem, RunError
from converter.storage import retrying
from converter.storage.backend import ABSENT, ConflictError, Content, Driver, Object
from converter.storage.location import Url
from converter.storage.retrying import FailedError, Patience

_T = TypeVar("_T")
TEMPORARY = ".tmp/"
"""Below it lies what is being uploaded, and what a killed run has left."""
EXTRAS = {"s3": "s3", "gs": "gcs"}
CLIENTS = ("s3fs", "gcsfs")
"""What those install; half a second each to import."""


class MismatchError(OSError):
    """A file that was brought here is not the one that was put there."""

    def __init__(self, where: str) -> None:
        words = "checksum mismatch: it is not the file that was put there"
        super().__init__(errno.EIO, words, where)


class Objects:
    """Args: place: the prefix that all keys are below."""

    def __init__(self, place: Url, driver: Driver, tries: int = retrying.TRIES) -> None:
        self.place = place
        self.patience = Patience(tries)
        self._driver = driver

    @property
    def conditional(self) -> bool:
        """Whether a write can depend on what is there."""
        return self._driver.conditional

    def read(self, key: str) -> Content | None:
        """A small object; ``None``: there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return self._call(key, lambda path: self._driver.get(path))
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes, expected: str | None = None) -> str:
        """Write a small object, whole or not at all.

        Args:
            expected: the version that must be there, or ``ABSENT``; by default whatever is there.

        Returns:
            Its version.

        Raises:
            ConflictError: another version is there.
            OSError: it cannot be written.
        """
        try:
            return self._call(key, lambda path: self._driver.put(path, data, expected))
        except ConflictError:
            # The answer to a call that was carried out may have been lost, and the call made again:
            # then what is there is ours.
            there = self.read(key)
            if there is None or there.data != data:
                raise
            return there.version

    def upload(self, source: Path, key: str, sha256: str) -> None:
        """Put a file there, in place of another one.

        Args:
            sha256: of the file, as it must arrive.

        Raises:
            OSError: it cannot be written, or what arrived is not this file.
        """
        size = source.stat().st_size
        temporary = f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            same = self._call(temporary, lambda path: self._driver.send(source, path, sha256))
            there = self._call(temporary, lambda path: self._driver.head(path))
            if there.bytes != size or not (same or self.sha256(temporary) == sha256):
                words = "what arrived is not the file that was sent"
                raise OSError(errno.EIO, words, str(self.place / key))
            self._call(key, lambda path: self._driver.copy(self._path(temporary), path))
        finally:
            self._discard(temporary)

    def download(self, key: str, target: Path, size: int, sha256: str) -> None:
        """Bring a file here, hashed; what is not the expected one is removed again.

        Raises:
            FileNotFoundError: it is gone.
            MismatchError: it is another one.
            OSError: it cannot be read.
        """
        self._call(key, lambda path: self._driver.fetch(path, target))
        if (target.stat().st_size, files.sha256(target)) != (size, sha256):
            target.unlink()
            raise MismatchError(str(self.place / key))

    def fetch(self, key: str, target: Path, most: int | None = None) -> None:
        """Bring a file here, whatever is in it.

        Args:
            most: bytes that it may have.

        Raises:
            TooLargeError: it has more; what came of it stays.
            OSError: it cannot be read.
        """
        self._call(key, lambda path: self._driver.fetch(path, target, most))

    def sha256(self, key: str) -> str:
        """Of an object; every byte is read.

        Raises:
            OSError: it cannot be read.
        """
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "object"
            self.fetch(key, copy)
            return files.sha256(copy)

    def about(self, key: str) -> Object | None:
        """What is known of an object; ``None``: there is none.

        Raises:
            OSError: it cannot be asked for.
        """
        try:
            return self._below(self._call(key, lambda path: self._driver.head(path)))
        except FileNotFoundError:
            return None

    def copy(self, source: str, key: str) -> None:
        """Have an object under another name too.

        Raises:
            OSError: it is gone, or cannot be written.
        """
        self._call(key, lambda path: self._driver.copy(self._path(source), path))

    def list(self, below: str = "") -> Iterator[Object]:
        """The objects whose keys begin so.

        Raises:
            OSError: they cannot be listed.
        """
        # Whole, since a page that fails is asked for again.
        found = self._call(below, lambda path: list(self._driver.list(path)))
        # Consoles make an empty object for each "folder" that somebody opens there.
        return (self._below(each) for each in found if each.bytes or not each.key.endswith("/"))

    def delete(self, key: str, version: str | None = None) -> None:
        """Remove an object; one that is gone is no error.

        Raises:
            ConflictError: it is of another version.
            OSError: it cannot be removed.
        """
        try:
            self._call(key, lambda path: self._driver.delete(path, version))
        except FileNotFoundError:
            return

    def require_conditional(self) -> None:
        """Find out by trying whether objects can be written here, and only onto what was read.

        Raises:
            RunError: its file system has no conditional write, or the server takes no notice of it.
            OSError: it cannot be written.
        """
        if not self._driver.conditional:
            raise RunError(
                f"{self.place}: its file system has no conditional write, so that two writers "
                "would overwrite each other: name a folder, or a place of s3:// or gs://"
            )
        key = f"{TEMPORARY}{uuid.uuid4().hex}"
        self.write(key, uuid.uuid4().bytes, ABSENT)
        try:
            for expected in (ABSENT, f'"{"0" * 32}"' if self.place.scheme == "s3" else "1"):
                try:
                    self.write(key, uuid.uuid4().bytes, expected)
                except ConflictError:
                    continue
                raise RunError(
                    f"{self.place}: the server takes no notice of conditions (If-None-Match, "
                    "If-Match), so that two writers would overwrite each other: use one that does"
                )
        finally:
            self._discard(key)

    def _discard(self, key: str) -> None:
        try:
            self.delete(key)
        except FailedError:  # `store gc` and the next run remove what is left
            return

    def _call(self, key: str, action: Callable[[str], _T]) -> _T:
        # A temporary name tells a person nothing.
        where = self.place if key.startswith(TEMPORARY) else self.place / key
        try:
            return self.patience.call(self._driver, str(where), lambda: action(self._path(key)))
        except FailedError as error:
            if error.errno == errno.ENOENT:  # the bucket, not this object
                error.filename = str(self.place)
            raise

    def _path(self, key: str) -> str:
        return f"{self.place.place}/{key}"

    def _below(self, found: Object) -> Object:
        key = found.key.removeprefix(f"{self.place.place}/")
        return Object(key, found.bytes, found.modified, found.version, found.sha256)


def opened(place: Url) -> Objects:
    """The objects below a URL; nothing is asked of the server.

    Raises:
        ConfigError: what opens such URLs is not installed or badly configured, or nothing does.
    """
    return Objects(place, _driver(place.scheme))


@cache  # its connections are shared by all that is below
def _driver(scheme: str) -> Driver:
    try:
        if scheme == "s3":
            from converter.storage._s3 import S3

            return S3()
        if scheme == "gs":
            from converter.storage._gcs import Gcs

            return Gcs()
        import fsspec

        from converter.storage._plain import Plain

        if scheme not in fsspec.available_protocols():
            hint = "Name a folder, or a place of s3:// or gs://."
            raise ConfigError(Problem(f"{scheme}://", "no file system has that name.", hint))
        return Plain(fsspec.filesystem(scheme))
    except ImportError as error:
        hint = f"Install what opens it: {error.name}."
        if error.name is None:  # fsspec's own words
            hint = f"{str(error).rstrip('.')}."
        if scheme in EXTRAS:
            hint = f"Install the extra: pip install 'onnx-zoo-converter[{EXTRAS[scheme]}]'."
        message = f"cannot be opened: {error.name or 'what opens it'} is not installed."
        raise ConfigError(Problem(f"{scheme}://", message, hint)) from error
    except ConfigError:
        raise
    # Each raises what it likes over arguments that it does not know.
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, OSError) as error:
        name = scheme.upper()
        message = f"cannot be opened ({type(error).__name__}: {error})."
        hint = (
            f"Look at what fsspec is configured with for it: FSSPEC_{name}, FSSPEC_{name}_… in the "
            "environment, and ~/.config/fsspec."
        )
        raise ConfigError(Problem(f"{scheme}://", message, hint)) from error
