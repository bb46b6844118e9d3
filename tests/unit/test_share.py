"""How many threads a job may use once others have ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO

import pytest

from converter.layout import environment
from converter.processes import share


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileIO]:
    monkeypatch.setattr(environment, "cores", lambda: 8)
    monkeypatch.setattr(share, "_inherited", None)
    with share.made() as made:
        yield made


def test_the_last_jobs_divide_all_cores(shared: FileIO) -> None:
    share.inherit(shared.fileno())
    found = []
    for jobs in (8, 3, 2, 1, 0):
        share.tell(shared, jobs)
        found.append(share.threads(1))
    assert found == [1, 2, 4, 8, 8]


def test_a_job_has_never_less_than_its_own(shared: FileIO) -> None:
    share.inherit(shared.fileno())
    assert share.threads(2) == 2, "nothing was told yet"
    share.tell(shared, 8)
    assert share.threads(2) == 2


def test_where_nobody_tells_a_job_has_its_own(shared: FileIO) -> None:
    share.tell(shared, 1)
    assert share.threads(2) == 2


def test_a_model_that_writes_to_what_is_told_gets_no_more_than_there_is(shared: FileIO) -> None:
    share.inherit(shared.fileno())
    os.pwrite(shared.fileno(), b"\xff" * 4, 0)
    assert share.threads(1) == 8


def test_a_model_that_closes_what_is_told_goes_on(shared: FileIO) -> None:
    share.inherit(shared.fileno())
    shared.close()
    assert share.threads(3) == 3
