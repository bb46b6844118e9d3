"""Calls on an object store: conditions, uploads that are looked at, and what an error says."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter.layout import files
from converter.model.errors import ConfigError, RunError
from converter.storage import location, objects
from converter.storage.backend import ABSENT, ConflictError, Kind, TooLargeError
from converter.storage.location import Url
from converter.storage.objects import MismatchError, Objects, opened
from converter.storage.retrying import FailedError
from tests.objectstore import Store

pytestmark = [pytest.mark.storage]


def hasty(place: Url) -> Objects:
    return Objects(place, objects._driver("s3"), tries=2)


def test_a_write_depends_on_what_is_there(place: Url) -> None:
    there = opened(place)
    assert there.read("index.json") is None
    first = there.write("index.json", b"1", ABSENT)
    with pytest.raises(ConflictError, match="another writer has changed it meanwhile"):
        there.write("index.json", b"2", ABSENT)
    second = there.write("index.json", b"2", first)
    with pytest.raises(ConflictError):
        there.write("index.json", b"3", first)
    found = there.read("index.json")
    assert found is not None
    assert (found.data, found.version) == (b"2", second)
    with pytest.raises(ConflictError):
        there.delete("index.json", first)
    there.delete("index.json", second)
    with pytest.raises(ConflictError):  # it was removed since it was read
        there.write("index.json", b"3", second)
    there.require_conditional()
    assert list(there.list()) == []


@pytest.mark.parametrize("size", [0, 5, (40 << 20) + 1])  # the last one goes in parts
def test_a_file_comes_back_as_it_went(place: Url, tmp_path: Path, size: int) -> None:
    there, source, copy = opened(place), tmp_path / "model.onnx", tmp_path / "copy"
    source.write_bytes(os.urandom(size))
    digest = files.sha256(source)
    there.upload(source, "files/a", digest)
    about = there.about("files/a")
    assert about is not None
    assert (about.bytes, about.sha256) == (size, digest)
    there.download("files/a", copy, size, digest)
    assert files.sha256(copy) == digest
    assert [each.key for each in there.list()] == ["files/a"]  # nothing temporary


def test_what_is_not_the_expected_file_does_not_come_here(place: Url, tmp_path: Path) -> None:
    there = opened(place)
    there.write("files/a", b"somebody has damaged it")
    copy = tmp_path / "copy"
    with pytest.raises(MismatchError, match=r"checksum mismatch: .*s3://zoo/.*files/a"):
        there.download("files/a", copy, 23, "0" * 64)
    assert not copy.exists()


def test_a_file_that_changes_while_it_is_sent_gets_no_name(place: Url, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"other bytes than those that were hashed")
    there = opened(place)
    # Its ETag is not looked at in an encrypted bucket: then every byte comes back.
    there._driver = Blind(there._driver)  # type: ignore[assignment]
    with pytest.raises(OSError, match="what arrived is not the file that was sent"):
        there.upload(source, "files/a", hashlib.sha256(b"the bytes").hexdigest())
    assert list(there.list()) == []


class Blind:
    """A driver whose store says nothing of what arrived."""

    def __init__(self, driver: object) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)

    def send(self, source: Path, path: str, sha256: str) -> bool:
        self._driver.send(source, path, sha256)  # type: ignore[attr-defined]
        return False


def test_calls_that_fail_are_made_again_and_told_once(bucket: Store, place: Url) -> None:
    there = opened(place)
    bucket.faults.share = 0.3
    version = ABSENT
    for number in range(40):
        version = there.write("index.json", f"{number}".encode(), version)
    found = there.read("index.json")
    assert found is not None
    # Also where the answer to a call that was carried out was lost.
    assert (found.data, found.version) == (b"39", version)
    assert {"slow", "lost", "failed", "reset"} <= set(bucket.faults.told)
    (told,) = there.patience.told(place)
    assert "calls were made again: " in told
    assert "the server asks for fewer calls (503 SlowDown)" in told


@pytest.mark.parametrize(
    ("status", "code", "number", "words"),
    [
        ("403 Forbidden", "AccessDenied", errno.EACCES, "access denied (AccessDenied): check the"),
        ("403 Forbidden", "SignatureDoesNotMatch", errno.EACCES, "access denied"),
        ("507 Insufficient Storage", "XMinioStorageFull", errno.ENOSPC, "full, or over its quota"),
        ("409 Conflict", "QuotaExceeded", errno.ENOSPC, "full, or over its quota"),
        ("503 Slow Down", "SlowDown", errno.EBUSY, "fewer calls (503 SlowDown), at each of 2 tr"),
        ("500 Internal", "InternalError", errno.EIO, "the server failed (500 InternalError), at"),
        ("400 Bad Request", "InvalidRequest", errno.EIO, "refused it (400 InvalidRequest)"),
    ],
)
def test_an_error_is_a_sentence(
    bucket: Store, place: Url, status: str, code: str, number: int, words: str
) -> None:
    bucket.faults.answer = (status, code, "words of the server")
    with pytest.raises(FailedError) as raised:
        hasty(place).write("index.json", b"1", ABSENT)
    assert raised.value.errno == number
    assert words in str(raised.value.strerror)
    assert raised.value.filename == f"{place}/index.json"


def test_a_bucket_that_is_not_there_is_named(bucket: Store) -> None:
    for call in (lambda o: o.write("a", b"1"), lambda o: o.read("a"), lambda o: list(o.list())):
        with pytest.raises(FailedError, match=r"there is no such bucket: 's3://nobodys/zoo"):
            call(hasty(Url("s3", "nobodys/zoo")))


def test_a_server_that_is_gone_is_waited_for_once(bucket: Store, place: Url) -> None:
    there = hasty(place)
    bucket.faults.answer = ("503 Slow Down", "SlowDown", "")
    with pytest.raises(FailedError, match="at each of 2 tries"):
        there.read("a")
    before = sum(bucket.faults.calls.values())
    with pytest.raises(FailedError):
        there.read("a")
    assert sum(bucket.faults.calls.values()) == before + 1
    bucket.faults.mend()
    assert there.read("a") is None


def test_a_server_that_takes_no_notice_of_conditions_is_refused(place: Url) -> None:
    there = opened(place)
    there._driver = Deaf(there._driver)  # type: ignore[assignment]
    with pytest.raises(RunError, match="takes no notice of conditions"):
        there.require_conditional()


class Deaf(Blind):
    def put(self, path: str, data: bytes, expected: str | None) -> str:
        return str(self._driver.put(path, data, None))  # type: ignore[attr-defined]


def test_a_file_system_without_conditional_writes_is_refused() -> None:
    there = opened(location.parse("memory://zoo/a"))  # type: ignore[arg-type]
    with pytest.raises(RunError, match="has no conditional write, so that two writers would"):
        there.require_conditional()
    assert there.read("index.json") is None
    with pytest.raises(FailedError) as caught:
        there.write("index.json", b"{}")
    assert caught.value.strerror == (
        "file systems of memory:// are only read here, since they have no conditional write: name "
        "a folder, or a place of s3:// or gs://"
    )


@pytest.mark.parametrize(
    "page", [b"<html><body>Sign in</body></html>", b"<!DOCTYPE html><br>Sign in</html>", b""]
)
def test_the_page_of_a_proxy_is_no_answer(
    bucket: Store, place: Url, tmp_path: Path, page: bytes
) -> None:
    """Status 200, as HTML: botocore takes that for an answer without anything in it."""
    source, there = tmp_path / "a", hasty(place)
    source.write_bytes(b"1" * (20 << 20))
    there.write("a", b"1")
    bucket.faults.page = page
    for call in (
        lambda: there.read("a"),
        lambda: there.about("a"),
        lambda: there.write("a", b"2"),
        lambda: there.copy("a", "b"),
        lambda: there.delete("a"),
        lambda: list(there.list()),
        lambda: there.upload(source, "c", files.sha256(source)),
    ):
        # Of a copy, which may fail with status 200, botocore itself takes it for a failure.
        words = r"what answered is no S3 server|the server failed \(500 500\)"
        with pytest.raises(FailedError, match=words) as raised:
            call()
        assert raised.value.kind is Kind.AGAIN
    if page:
        with pytest.raises(FailedError, match="what answered is no S3 server"):
            there.fetch("a", tmp_path / "copy")
    bucket.faults.mend()
    assert [each.key for each in there.list()] == ["a"]


@pytest.mark.parametrize("size", [8, 12 << 20])
def test_no_more_is_downloaded_than_was_expected(place: Url, tmp_path: Path, size: int) -> None:
    there = opened(place)
    there.write("a", b"1" * size)
    there.fetch("a", tmp_path / "copy", size)
    assert (tmp_path / "copy").stat().st_size == size
    with pytest.raises(TooLargeError):
        there.fetch("a", tmp_path / "half", size // 2)
    # Its size is told before its bytes.
    half = tmp_path / "half"
    assert not half.exists() or half.stat().st_size == 0


def test_folders_of_a_console_are_no_files(place: Url) -> None:
    there = opened(place)
    for key in ("", "a/", "a/b"):
        there.write(key, b"")
    assert [each.key for each in there.list()] == ["a/b"]


def test_the_bucket_is_named_and_no_temporary_key(bucket: Store, place: Url) -> None:
    nowhere = Url("s3", "nobodys/zoo")
    with pytest.raises(FailedError, match="there is no such bucket") as raised:
        hasty(nowhere).require_conditional()
    assert raised.value.filename == str(nowhere)
    bucket.faults.answer = ("403 Forbidden", "AccessDenied", "")
    with pytest.raises(FailedError, match="access denied") as raised:
        hasty(place).require_conditional()
    assert raised.value.filename == str(place)


def test_clocks_that_differ_are_said_at_once(bucket: Store, place: Url) -> None:
    bucket.faults.answer = ("403 Forbidden", "RequestTimeTooSkewed", "")
    before = sum(bucket.faults.calls.values())
    with pytest.raises(FailedError, match="the clocks of this machine and of the server differ"):
        opened(place).write("a", b"1")
    assert sum(bucket.faults.calls.values()) == before + 1


def test_bytes_that_were_damaged_on_the_way_are_no_silence(place: Url) -> None:
    from botocore.exceptions import FlexibleChecksumError

    failure = objects._driver("s3").failure(FlexibleChecksumError(error_msg="of CRC32"))
    assert failure.kind is Kind.AGAIN
    assert failure.words.startswith("bytes were damaged on the way")


@pytest.mark.parametrize("name", ["BOGUS", "CLIENT_KWARGS", "CONFIG_KWARGS"])
def test_what_fsspec_is_configured_with_wrongly_is_named(bucket: Store, name: str) -> None:
    script = (
        "from converter.storage import location, objects\n"
        "objects.opened(location.parse('s3://zoo/a')).read('a')"
    )
    environment = {**os.environ, **bucket.environment, f"FSSPEC_S3_{name}": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    told = done.stderr.splitlines()[-1]
    assert "ConfigError: s3://: cannot be opened (" in told
    assert "Look at what fsspec is configured with for it: FSSPEC_S3, FSSPEC_S3_…" in told


def test_what_fsspec_says_to_install_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "Install adlfs to access Azure Datalake Gen2 and Azure Blob Storage"

    def missing(scheme: str) -> None:
        raise ImportError(words)

    monkeypatch.setattr("fsspec.filesystem", missing)
    with pytest.raises(ConfigError) as raised:
        opened(Url("abfs", "box/zoo"))
    assert str(raised.value).endswith(
        f"abfs://: cannot be opened: what opens it is not installed. {words}."
    )


def test_what_is_not_installed_is_named() -> None:
    script = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from converter.storage import location, objects\n"
        "objects.opened(location.parse('s3://zoo/a'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "Install the extra: pip install 'onnx-zoo-converter[s3]'" in done.stderr
    with pytest.raises(ConfigError, match="no file system has that name"):
        opened(Url("nosuch", "a/b"))
