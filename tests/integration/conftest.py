"""Jobs over the models of ``tiny.py``; torch is imported only where a test asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from website import Site, served


@pytest.fixture
def tiny_job(tmp_path: Path) -> Callable[..., Any]:
    """Jobs, each in folders of its own."""
    import jobs

    numbers = count()

    def make(source: str | dict[str, str], **changes: Any) -> Any:
        return jobs.make(tmp_path / f"run{next(numbers)}", source, **changes)

    return make


@pytest.fixture
def convert(tiny_job: Callable[..., Any]) -> Callable[..., Any]:
    """Make a job and run the pipeline on it."""
    import jobs

    def run(source: str | dict[str, str], **changes: Any) -> Any:
        return jobs.convert(tiny_job(source, **changes))

    return run


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the registry offer the classes of ``tiny.py``."""
    import registry

    def find(name: str) -> registry.Entry:
        return registry.Entry(name=name, task="test", module="tiny", builder=name, inputs={})

    monkeypatch.setattr(registry, "find", find)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server, and nothing downloaded yet; tries again follow each other at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with served() as found:
        yield found
