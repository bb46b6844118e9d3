"""S3 and servers that speak its language, by s3fs: conditional writes by ETag."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from converter.storage.backend import ABSENT, Content, Failure, Kind, Object, limited
from converter.storage.side_by_side import MOST

_CHUNK = 16 << 20
_MOST_PARTS = 9_000  # S3 takes 10,000
# What `CopyObject` takes at once; beyond it s3fs copies in parts.
_MOST_COPIED = 5 << 30
_NOTE = "sha256"

_DENIED = {
    "AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidAccessKeyId", "ExpiredToken",
    "InvalidToken", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp", "403", "401",
}  # fmt: skip
_FULL = {
    "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage",
    "StorageFull", "507",
}  # fmt: skip
# Of this machine, while a file is read or written.
_OWN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
_DAMAGED = {"FlexibleChecksumError", "AwsChunkedWrapperError", "ChecksumError"}
_UNPARSED = "ResponseParserError"
_SLOWER = {"SlowDown", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
# Of two conditional calls at once S3 answers one so: it has written nothing.
_AGAIN = {
    "InternalError", "ServiceUnavailable", "RequestTimeout", "ConditionalRequestConflict",
    "OperationAborted",
}  # fmt: skip


class _NoAnswerError(Exception):
    """What came back has status 200, and nothing of what the protocol puts into it."""


class S3:
    """Calls of ``converter.storage.backend.Driver``, as s3fs passes them on."""

    conditional = True

    def __init__(self) -> None:
        # The store's own waits and tries: theirs would multiply with ours, and hide that a call
        # whose answer was lost had been carried out.
        import aiohttp
        import s3fs
        from botocore.exceptions import BotoCoreError
        from botocore.parsers import ResponseParserError
        from fsspec.config import conf

        stated = dict(conf.get("s3", {}).get("config_kwargs", {}))
        # A copy of gigabytes may say nothing for longer than the 15 s of s3fs.
        retries = {"total_max_attempts": 1, "mode": "standard"}
        config = {"read_timeout": 60, "retries": retries, "max_pool_connections": MOST, **stated}
        self._fs: Any = s3fs.S3FileSystem(
            config_kwargs=config, skip_instance_cache=True, use_listings_cache=False
        )
        self._fs.retries = 1
        self.errors: tuple[type[Exception], ...] = (
            OSError, BotoCoreError, aiohttp.ClientError, EOFError,
            # Of the page of a proxy, which botocore takes for an answer without members.
            _NoAnswerError, ResponseParserError, KeyError,
        )  # fmt: skip
        # What it was configured with is looked at now; what a call says too is said by the call.
        with suppress(*self.errors):
            self._fs.connect()

    def get(self, path: str) -> Content:
        from fsspec.asyn import sync

        answer, data = sync(self._fs.loop, self._get, path)
        written, now = answer.get("LastModified"), _date(answer)
        age = (now - written).total_seconds() if now and written else None
        return Content(data, answer["ETag"], age)

    async def _get(self, path: str) -> tuple[dict[str, Any], bytes]:
        # Not `cat_file`, which gives the bytes alone: the ETag must be of these very ones.
        answer = await self._fs._call_s3("get_object", **_place(path))
        async with answer["Body"] as body:
            return answer, await body.read()

    def put(self, path: str, data: bytes, expected: str | None) -> str:
        condition = {}
        if expected is not None:
            condition = {"IfNoneMatch": "*"} if expected == ABSENT else {"IfMatch": expected}
        try:
            answer = self._fs.call_s3("put_object", Body=data, **_place(path), **condition)
        except FileNotFoundError as error:
            if expected and _code(error) == "NoSuchKey":  # removed since it was read
                raise FileExistsError(path) from error
            raise
        return str(answer["ETag"])

    def head(self, path: str) -> Object:
        answer = self._fs.call_s3("head_object", **_place(path))
        return Object(
            path,
            int(answer["ContentLength"]),
            answer["LastModified"].timestamp(),
            answer["ETag"],
            answer.get("Metadata", {}).get(_NOTE),
        )

    def send(self, source: Path, path: str, sha256: str) -> bool:
        size = source.stat().st_size
        chunk = max(_CHUNK, -(-size // _MOST_PARTS))
        self._fs.put_file(str(source), path, chunksize=chunk, Metadata={_NOTE: sha256})
        # Of an encrypted bucket the ETag is something else: then the caller looks for himself.
        return self.head(path).version.strip('"') in _etags(source, chunk)

    def fetch(self, path: str, target: Path, most: int | None = None) -> None:
        self._fs.get_file(path, str(target), callback=limited(most))
        with target.open("rb") as file:
            is_markup = file.read(1) == b"<"
        # Few files of ours begin as the page of a proxy does: only these are asked for twice.
        if is_markup and self.head(path).bytes != target.stat().st_size:
            raise _NoAnswerError(path)

    def copy(self, source: str, path: str) -> None:
        there = self.head(source)
        if there.bytes > _MOST_COPIED:
            self._fs.cp_file(source, path)
            return
        origin = {"CopySource": _place(source), "CopySourceIfMatch": there.version}
        answer = self._fs.call_s3("copy_object", **_place(path), **origin)
        if not answer.get("CopyObjectResult"):
            raise _NoAnswerError(path)

    def delete(self, path: str, version: str | None) -> None:
        condition = {"IfMatch": version} if version else {}
        answer = self._fs.call_s3("delete_object", **_place(path), **condition)
        is_page = "text/html" in _headers(answer).get("content-type", "")
        # S3 says 204, without a body of any type.
        if is_page and answer["ResponseMetadata"]["HTTPStatusCode"] != 204:
            raise _NoAnswerError(path)

    def list(self, prefix: str) -> Iterator[Object]:
        bucket, _, key = prefix.partition("/")
        more: dict[str, str] = {}
        while True:
            page = self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, **more)
            if not page.keys() & {"Name", "Prefix", "KeyCount"}:  # it is not empty: it is none
                raise _NoAnswerError(prefix)
            for each in page.get("Contents", ()):
                written = each["LastModified"].timestamp()
                yield Object(f"{bucket}/{each['Key']}", each["Size"], written, each["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, _NoAnswerError | KeyError) or type(error).__name__ == _UNPARSED:
            return Failure(Kind.AGAIN, errno.EIO, "what answered is no S3 server (a proxy?)")
        code, status = _code(error), _status(error)
        if isinstance(error, FileExistsError) or code == "PreconditionFailed" or status == 412:
            return Failure(Kind.CONFLICT, errno.EBUSY, Kind.CONFLICT.value)
        if code == "NoSuchBucket":
            return Failure(Kind.FINAL, errno.ENOENT, "there is no such bucket")
        if isinstance(error, FileNotFoundError):
            return Failure(Kind.MISSING, errno.ENOENT, Kind.MISSING.value)
        return _of_the_server(code, status) or _of_the_way(error)


def _of_the_server(code: str, status: int | None) -> Failure | None:
    """What an error means that the server has sent; ``None``: it has sent none."""
    if code in _FULL or status == 507:
        return Failure(Kind.FINAL, errno.ENOSPC, "the object store is full, or over its quota")
    if code == "RequestTimeTooSkewed":
        words = "the clocks of this machine and of the server differ: set this machine's"
        return Failure(Kind.FINAL, errno.EINVAL, words)
    if code in _SLOWER or status in (429, 503):
        words = f"the server asks for fewer calls ({status} {code})"
        return Failure(Kind.AGAIN, errno.EBUSY, words)
    if code in _AGAIN or (status or 0) >= 500 or status in (408, 409):
        return Failure(Kind.AGAIN, errno.EIO, f"the server failed ({status} {code})")
    if code in _DENIED or status in (401, 403):
        why = f" ({code})" if code and not code.isdecimal() else ""
        return Failure(Kind.FINAL, errno.EACCES, f"access denied{why}: check the credentials")
    if code.isdecimal():  # what asks for a head alone gets no words
        words = f"the server refused it ({code}) and does not say why: check the credentials"
        return Failure(Kind.FINAL, errno.EIO, words)
    if code:
        return Failure(Kind.FINAL, errno.EIO, f"the server refused it ({status} {code})")
    return None


def _of_the_way(error: Exception) -> Failure:
    """What an error means that the server has not sent."""
    if isinstance(error, OSError) and error.errno in _OWN:
        return Failure(Kind.FINAL, error.errno or 0, f"{error.strerror}: {error.filename}")
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return Failure(Kind.FINAL, errno.EACCES, "there are no credentials for it")
    if name in ("ProfileNotFound", "ConfigParseError", "ParamValidationError", "NoRegionError"):
        return Failure(Kind.FINAL, errno.EINVAL, f"its configuration is wrong ({name})")
    if name in _DAMAGED:
        words = f"bytes were damaged on the way: their checksum differs ({name})"
        return Failure(Kind.AGAIN, errno.EIO, words)
    # A connection that was reset, refused or silent, a name that was not resolved, half an answer.
    return Failure(Kind.AGAIN, errno.EIO, f"the server cannot be reached ({name})")


def _place(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


def _answer(error: BaseException | None) -> dict[str, Any]:
    """What the server said; s3fs keeps it behind an error of Python."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            return answer
        error = error.__cause__
    return {}


def _code(error: Exception) -> str:
    return str(_answer(error).get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int | None:
    status = _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None


def _headers(answer: dict[str, Any]) -> dict[str, str]:
    return dict(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _date(answer: dict[str, Any]) -> datetime | None:
    """The clock of the server."""
    text = _headers(answer).get("date")
    return parsedate_to_datetime(text) if text else None


def _etags(source: Path, chunk: int) -> set[str]:
    """What S3 calls a file that was sent at once, or in parts of that size."""
    whole, parts = hashlib.md5(usedforsecurity=False), []
    with source.open("rb") as file:
        while part := file.read(chunk):
            whole.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    together = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return {whole.hexdigest(), f"{together}-{len(parts)}"}
