"""Files at a URL whose SHA-256 is known, kept on this machine by it: each is downloaded once.

``https://`` is read by the standard library, ``s3://`` and ``gs://`` as the store reads them.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from converter.layout import files
from converter.storage import location, objects
from converter.storage.location import Url

_WEB = ("http://", "https://")
_TRIES = 3
_SILENCE_S = 60.0


class OtherError(Exception):
    """What lies at the URL is another file; ``sha256`` is its own."""

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256


def problem(text: str) -> str:
    """What is wrong with a URL, a clause; empty: nothing, or it is none."""
    if not location.is_url(text):
        return ""
    if "@" in urlsplit(text).netloc:
        return "has credentials in it: they would stand in the manifest"
    if text.startswith(_WEB):
        return "" if urlsplit(text).netloc and name_of(text) else "names no file"
    try:
        location.parse(text)
    except ValueError as error:
        return str(error)
    return ""


def name_of(url: str) -> str:
    """The name of the file at a URL; empty: there is none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def folder() -> Path:
    """Where downloads are kept."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(stated) if os.path.isabs(stated) else Path.home() / ".cache"
    return cache / "onnx-zoo-converter" / "downloads"


def fetched(url: str, sha256: str) -> Path:
    """The file at a URL, on this machine and hashed now.

    Raises:
        OtherError: there is another file.
        OSError: it cannot be downloaded, or not kept.
    """
    own = folder() / sha256
    own.mkdir(parents=True, exist_ok=True)
    target = own / name_of(url)
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
