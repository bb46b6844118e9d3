"""Google Cloud Storage by gcsfs: conditional writes by generation."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from converter.storage.backend import ABSENT, Content, Failure, Kind, Object, limited

_NOTE = "sha256"
_CHUNK = 16 << 20
_OBJECT = "storage#object"
_BOUNDARY = "==0=="


class _NoAnswerError(Exception):
    """What came back has status 200, and nothing of what the protocol puts into it."""


class Gcs:
    """Calls of ``converter.storage.backend.Driver``, by those of the JSON API."""

    conditional = True

    def __init__(self) -> None:
        import aiohttp
        import gcsfs
        import requests
        from gcsfs.retry import HttpError
        from google.auth.exceptions import GoogleAuthError

        self._fs: Any = gcsfs.GCSFileSystem(skip_instance_cache=True, use_listings_cache=False)
        self._http, self._auth = HttpError, GoogleAuthError
        self.errors: tuple[type[Exception], ...] = (
            OSError, ValueError, EOFError, HttpError, GoogleAuthError, aiohttp.ClientError,
            requests.exceptions.RequestException,
            # Of the page of a proxy: gcsfs looks for members in it, or reads it as JSON.
            _NoAnswerError, KeyError,
        )  # fmt: skip

    def get(self, path: str) -> Content:
        # Twice, since the bytes come without their generation: asked for by it, they are of it.
        about, now = self._about(path)
        version = str(about["generation"])
        _, data = self._fs.call("GET", "b/{}/o/{}", *_split(path), alt="media", generation=version)
        if len(data) != int(about["size"]):
            raise _NoAnswerError(path)
        age = (now - _time(about["updated"])).total_seconds() if now else None
        return Content(data, version, age)

    def put(self, path: str, data: bytes, expected: str | None) -> str:
        bucket, key = _split(path)
        condition = {} if expected is None else {"ifGenerationMatch": expected or "0"}
        about = json.dumps({"name": key})
        head = f"--{_BOUNDARY}\nContent-Type: application/json; charset=UTF-8\n\n{about}\n"
        body = f"{head}--{_BOUNDARY}\nContent-Type: application/octet-stream\n\n".encode()
        _, answer = self._fs.call(
            "POST",
            f"{self._fs._location}/upload/storage/v1/b/{bucket}/o",
            uploadType="multipart",
            headers={"Content-Type": f'multipart/related; boundary="{_BOUNDARY}"'},
            data=body + data + f"\n--{_BOUNDARY}--".encode(),
            **condition,
        )
        return str(_said(answer, _OBJECT)["generation"])

    def head(self, path: str) -> Object:
        return _object(self._about(path)[0])

    def send(self, source: Path, path: str, sha256: str) -> bool:
        self._fs.put_file(str(source), path, chunksize=_CHUNK, metadata={_NOTE: sha256})
        # Of objects that were composed there is none: then the caller looks for himself.
        stated = self._about(path)[0].get("md5Hash")
        if stated is None:
            return False
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
        return bool(base64.b64encode(digest).decode() == stated)

    def fetch(self, path: str, target: Path, most: int | None = None) -> None:
        self._fs.get_file(path, str(target), callback=limited(most))
        with target.open("rb") as file:
            is_markup = file.read(1) == b"<"
        # Few files of ours begin as the page of a proxy does: only these are asked for twice.
        if is_markup and self.head(path).bytes != target.stat().st_size:
            raise _NoAnswerError(path)

    def copy(self, source: str, path: str) -> None:
        self._fs.cp_file(source, path)

    def delete(self, path: str, version: str | None) -> None:
        condition = {"ifGenerationMatch": version} if version else {}
        headers, _ = self._fs.call("DELETE", "b/{}/o/{}", *_split(path), **condition)
        # It has no body, of any type.
        if "text/html" in headers.get("Content-Type", ""):
            raise _NoAnswerError(path)

    def list(self, prefix: str) -> Iterator[Object]:
        bucket, key = _split(prefix)
        more: dict[str, str] = {}
        while True:
            _, answer = self._fs.call("GET", "b/{}/o", bucket, prefix=key, **more)
            # One without objects has its kind: what has none is not empty, it is no listing.
            page = _said(answer, "storage#objects")
            yield from map(_object, page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            more = {"pageToken": page["nextPageToken"]}

    def _about(self, path: str) -> tuple[dict[str, Any], datetime | None]:
        headers, answer = self._fs.call("GET", "b/{}/o/{}", *_split(path))
        date = headers.get("Date")
        return _said(answer, _OBJECT), parsedate_to_datetime(date) if date else None

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, _NoAnswerError | KeyError | json.JSONDecodeError):
            words = "what answered is no server of Google Cloud Storage (a proxy?)"
            return Failure(Kind.AGAIN, errno.EIO, words)
        code = int(error.code or 0) if isinstance(error, self._http) else 0
        text = str(error)
        if isinstance(error, FileExistsError) or code == 412:
            return Failure(Kind.CONFLICT, errno.EBUSY, Kind.CONFLICT.value)
        if isinstance(error, FileNotFoundError) or code == 404:
            if "bucket does not exist" in text:
                return Failure(Kind.FINAL, errno.ENOENT, "there is no such bucket")
            return Failure(Kind.MISSING, errno.ENOENT, Kind.MISSING.value)
        if code == 429:
            return Failure(Kind.AGAIN, errno.EBUSY, "the server asks for fewer calls (429)")
        if code == 408 or code >= 500:
            return Failure(Kind.AGAIN, errno.EIO, f"the server failed ({code})")
        if code in (401, 403) or isinstance(error, self._auth) or text.startswith("Forbidden"):
            return Failure(Kind.FINAL, errno.EACCES, "access denied: check the credentials")
        if code or isinstance(error, ValueError):
            return Failure(Kind.FINAL, errno.EIO, f"the server refused it ({code or 400})")
        name = type(error).__name__
        return Failure(Kind.AGAIN, errno.EIO, f"the server cannot be reached ({name})")


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


def _said(answer: bytes, kind: str) -> dict[str, Any]:
    """What the server said, which is of that kind.

    Raises:
        ValueError: it is no JSON.
        _NoAnswerError: it is of no kind, or of another.
    """
    found = json.loads(answer)
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise _NoAnswerError(kind)
    return found


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _object(about: dict[str, Any]) -> Object:
    return Object(
        f"{about['bucket']}/{about['name']}",
        int(about["size"]),
        _time(about["updated"]).timestamp(),
        str(about["generation"]),
        about.get("metadata", {}).get(_NOTE),
    )


assert ABSENT == "", "an empty version is generation 0: nothing is there"
