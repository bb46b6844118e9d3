"""Many writers in processes of their own, at a store of which one call in twenty fails.

What a writer was told is done is there at the end; what a reader sees meanwhile is whole.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from converter.cache.remote import RemoteStore
from converter.finalize.prefix import Prefix
from converter.storage.location import Url
from converter.storage.objects import opened
from tests.conftest import REPOSITORY
from tests.objectstore import Store
from tests.storage import writer

pytestmark = [pytest.mark.storage]


def start(bucket: Store, place: Url, name: int, steps: int, folder: Path) -> subprocess.Popen[str]:
    words = [str(place), str(name), str(steps), str(folder / str(name))]
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.writer", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **bucket.environment, "PYTHONPATH": path},
    )


class Reader(threading.Thread):
    """Reads while others write; tells of an index that lost a line, of an entry that is torn."""

    def __init__(self, place: Url) -> None:
        super().__init__(daemon=True)
        self.place = place
        self.ended = threading.Event()
        self.reads: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        target, store = Prefix(opened(self.place / writer.ZOO)), self.store()
        seen: set[str] = set()
        while not self.ended.wait(0.05):
            names = set(target.read().models)
            self.wrong += [f"{name} was lost" for name in seen - names]
            seen |= names
            for key in store.held()[-3:]:
                self.look(store, key)
            self.reads["rounds"] += 1

    def store(self) -> RemoteStore:
        return RemoteStore(opened(self.place / writer.STORE))

    def look(self, store: RemoteStore, key: str) -> None:
        stored = store.read(key)
        assert stored is not None, "nobody removes one"
        if why := store.damage(stored):
            self.wrong.append(f"{key}: {why}")
        self.reads["entries"] += 1


def compete(
    bucket: Store, place: Url, folder: Path, *, writers: int, steps: int, killed: int
) -> tuple[Counter[str], Reader]:
    """Have them write; checks all that was told and all that is there."""
    reader = Reader(place)
    reader.start()
    processes = [start(bucket, place, number, steps, folder) for number in range(writers)]
    victims = processes[:killed]
    for process in victims:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        process.kill()
        (folder / f"{process.pid}").write_text("".join(told))
    outputs = [process.communicate(timeout=500) for process in processes]
    reader.ended.set()
    reader.join()
    faults = Counter(bucket.faults.told)
    bucket.faults.mend()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert (process.returncode == 0) is (process not in victims), errors
    early = [(folder / f"{process.pid}").read_text() for process in victims]
    done = [
        line.split()
        for text in [*early, *(out for out, _ in outputs)]
        for line in text.splitlines()
        if len(line.split()) == 2
    ]
    check(
        place,
        {what for kind, what in done if kind == "line"},
        {what for kind, what in done if kind == "entry"},
        lost=bool(victims),
    )
    faults["steps"] = len(done)
    return faults, reader


def check(place: Url, lines: set[str], keys: set[str], *, lost: bool) -> None:
    """Nothing that was told is missing, and nothing is half there."""
    index = Prefix(opened(place / writer.ZOO)).read()
    assert lines <= set(index.models)
    # A writer that was killed may have written a line more than it could tell.
    assert lost or lines == set(index.models)
    for name, entry in index.models.items():
        assert entry == writer.line_of(name)
    store = RemoteStore(opened(place / writer.STORE))
    held = store.held()
    assert keys <= set(held)
    for key in held:
        stored = store.read(key)
        assert stored is not None
        assert store.damage(stored) == ""


def test_few_writers_lose_nothing(bucket: Store, place: Url, tmp_path: Path) -> None:
    bucket.faults.share, bucket.faults.delay_s = 0.05, 0.01
    faults, reader = compete(bucket, place, tmp_path, writers=4, steps=10, killed=0)
    assert reader.wrong == []
    assert faults["steps"] == 40
    assert reader.reads["rounds"] > 0


@pytest.mark.slow
@pytest.mark.writers
@pytest.mark.timeout(1800)
def test_a_thousand_steps_lose_nothing(bucket: Store, place: Url, tmp_path: Path) -> None:
    bucket.faults.share, bucket.faults.delay_s = 0.05, 0.02
    begun = time.monotonic()
    # Two more, which are killed in the middle.
    faults, reader = compete(bucket, place, tmp_path, writers=12, steps=100, killed=2)
    assert reader.wrong == []
    assert faults["steps"] >= 1000
    assert all(faults[kind] > 50 for kind in ("slow", "reset", "lost", "failed"))
    calls = sum(bucket.faults.calls.values())
    print(f"{faults}, {calls} calls, {reader.reads}, {time.monotonic() - begun:.0f} s")
