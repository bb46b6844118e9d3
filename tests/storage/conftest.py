"""A server that speaks S3 on loopback, one for a module, and a prefix of it for each test."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from converter.storage import exclusive
from converter.storage.location import Url
from tests import objectstore
from tests.objectstore import BUCKET, Store


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with objectstore.running() as store:
        yield store


@pytest.fixture
def bucket(server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The server, with whatever a test makes go wrong there put right after it."""
    objectstore.used(server, monkeypatch)
    yield server
    server.faults.mend()
    exclusive.release_all()


@pytest.fixture
def place(bucket: Store, request: pytest.FixtureRequest) -> Url:
    return Url("s3", f"{BUCKET}/{re.sub('[^a-z0-9]+', '-', request.node.name.lower())}")
