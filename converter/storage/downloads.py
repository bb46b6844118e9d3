"""Files at a URL whose SHA-256 is known, kept on this machine by it: each is downloaded once.

``https://`` is read by the standard library, ``s3://`` and ``gs://`` as the store reads them.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from converter.layout import files
from converter.model import urls
from converter.model.errors import Code, ConfigError, StageError
from converter.storage import location, objects
from converter.storage.location import Url
from converter.storage.retrying import FailedError

# What the file system raises when the disk, not the network, is at fault.
LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE)
_WEB = ("http://", "https://")
_TRIES = 3
_SILENCE_S = 60.0
# Names of what signs a request, or says who asks: of S3 and its like, Azure, CloudFront, hubs.
_SECRET = re.compile(
    r"^x-(amz|goog)-|signature|token|secret|passw|credential|authorization|bearer|api[-_]?key"
    r"|access[-_]?key|accessid|(^|[^a-z])(sig|key|auth|pwd|jwt|session)($|[^a-z])",
    re.IGNORECASE,
)


class OtherError(Exception):
    """What lies at the URL is another file; ``sha256`` is its own."""

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256


def problem(text: str) -> str:
    """What is wrong with a URL, a clause; empty: nothing, or it is none."""
    if not urls.is_url(text):
        return ""
    if not location.is_url(text):
        return "is no URL of a server: write the path alone"
    parts = urlsplit(text)
    if "@" in parts.netloc:
        return "has credentials in it: they would stand in the manifest"
    if name := _secret(f"{parts.query}&{parts.fragment}"):
        return (
            f"has '{name}' behind it, which looks like a credential and would stand in the "
            "manifest: give an address that needs none, or s3:// or gs:// with credentials in the "
            "environment"
        )
    if not parts.netloc or not urls.file_of(text):
        return "names no file"
    if text.startswith(_WEB):
        return ""
    try:
        location.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def _secret(query: str) -> str:
    """The name of the first parameter that looks like a credential; empty: none does."""
    names = (unquote(one.partition("=")[0]) for one in re.split("[&;?]", query))
    return next((name for name in names if _SECRET.search(name)), "")


def folder() -> Path:
    """Where downloads are kept."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(stated) if os.path.isabs(stated) else Path.home() / ".cache"
    return cache / "onnx-zoo-converter" / "downloads"


def local(what: str, key: str, url: str, sha256: str, *, unreachable: Code, other: Code) -> Path:
    """Where the file at a URL lies on this machine, hashed; it is downloaded once.

    Args:
        what: it is, in a word.
        key: of the configuration, that has the URL; ``sha256`` is beside it.
        unreachable: of what does not come, and ``other`` of another file.

    Raises:
        StageError: one of the two.
    """
    pinned = f"{key.rpartition('.')[0]}.sha256"
    try:
        return fetched(url, sha256)
    except OtherError as error:
        raise StageError(
            other,
            f"{url} is not the {what} that was promised: {pinned} is {sha256}, "
            f"the file has {error.sha256}",
            "If it was replaced on purpose, state the new sha256.",
        ) from error
    except (OSError, ConfigError) as error:
        own_disk = isinstance(error, OSError) and error.errno in LOCAL
        if own_disk and not isinstance(error, FailedError):
            raise
        raise StageError(
            unreachable,
            f"{key}: cannot download {url}: {getattr(error, 'strerror', None) or error}",
            "Check the address, and the network of the machine that the job ran on.",
        ) from error


def fetched(url: str, sha256: str) -> Path:
    """The file at a URL, on this machine and hashed now.

    Raises:
        OtherError: there is another file.
        OSError: it cannot be downloaded, or not kept.
    """
    own = folder() / sha256
    own.mkdir(parents=True, exist_ok=True)
    target = own / urls.file_of(url)
    # Many jobs begin with the same one at once.
    with (own / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_file() and files.sha256(target) == sha256:
            return target
        part = own / ".part"
        _download(url, part)
        if (found := files.sha256(part)) != sha256:
            part.unlink()
            raise OtherError(found)
        os.replace(part, target)
    return target


def _download(url: str, target: Path) -> None:
    if not url.startswith(_WEB):
        place = location.parse(url)
        assert isinstance(place, Url), "`problem` has looked"
        objects.opened(place.parents[0]).fetch(place.place.rpartition("/")[2], target)
        return
    for attempt in range(1, _TRIES + 1):
        try:
            _read(url, target)
            return
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as e:
            final = False
            if isinstance(e, urllib.error.HTTPError):
                e.close()
                final = e.code < 500  # it will say the same again
            if final or attempt == _TRIES:
                reason = getattr(e, "reason", None) or type(e).__name__
                raise OSError(errno.EIO, f"{reason}", url) from e
        time.sleep(2.0 ** (attempt - 1))


def _read(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=_SILENCE_S) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)
        expected = answer.headers.get("Content-Length")
        if expected is not None and int(expected) != file.tell():
            raise http.client.IncompleteRead(b"")
