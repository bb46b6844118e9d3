"""A writer that ends between any two calls: what others read is whole, and the next run mends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from converter.cache.remote import RemoteStore
from converter.cli.command_line import main
from converter.finalize import mirror, prefix, publication, zoo_index
from converter.finalize.prefix import Prefix
from converter.model.batch import PublishSpec
from converter.storage import objects
from converter.storage.location import Url
from converter.storage.objects import opened
from tests.conftest import Command
from tests.objectstore import Store
from tests.published import artifacts, sound
from tests.storage import writer
from tests.unit.nights import manifest
from tests.unit.test_runner import make_plan

pytestmark = [pytest.mark.storage]
_WRITES = ("put", "send", "copy", "delete")


class KilledError(BaseException):
    """The process is gone."""


class Mortal:
    """A driver whose process ends before one of the calls that write, and at all that follow."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.left = 1 << 30

    def __getattr__(self, name: str) -> Any:
        if name in _WRITES:
            self.left -= 1
            if self.left < 0:
                raise KilledError
        return getattr(self._driver, name)


@pytest.fixture
def mortal(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mortal]:
    driver = Mortal(objects._driver("s3"))
    monkeypatch.setattr(objects, "_driver", lambda scheme: driver)
    yield driver
    driver.left = 1 << 30


def contents(place: Url, tmp_path: Path, step: object) -> dict[str, str]:
    """What a reader finds by the index; each of its files must be there, whole."""
    there, folder = opened(place), tmp_path / f"read-{step}"
    found = {}
    for name, entry in Prefix(there).read().models.items():
        for number, part in enumerate(entry.parts):
            (folder / name).mkdir(parents=True, exist_ok=True)
            there.download(part.path, folder / name / str(number), part.bytes, part.sha256)
        there.fetch(entry.path, folder / name / "main")
        found[name] = (folder / name / "main").read_text()
    return found


@pytest.mark.parametrize("layout", ["zoo", pytest.param("triton", marks=pytest.mark.slow)])
def test_what_was_valid_is_after_every_step(
    mortal: Mortal,
    place: Url,
    tmp_path: Path,
    layout: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The versions that go are among the steps.
    monkeypatch.setattr(prefix, "GRACE_S", -1.0)
    nights = [
        manifest(
            *artifacts(tmp_path / text, "a", text),
            *artifacts(tmp_path / text, "b", "same"),
            day=day,
        )
        for day, text in enumerate(("one", "two"), start=1)
    ]
    step = 0
    while True:
        spec = PublishSpec.model_validate({"path": str(place / str(step)), "layout": layout})

        def publish(night: int, spec: PublishSpec = spec) -> list[str]:
            text = ("one", "two")[night]
            return publication.publish(nights[night], tmp_path / text, spec, None)

        assert publish(0) == []
        mortal.left = step
        try:
            publish(1)
            publish(1)  # it removes what the first one has marked
            done = True
        except KilledError:
            done = False
        mortal.left = 1 << 30
        assert contents(place / str(step), tmp_path, f"{step}-killed") in (
            {"a": "one", "b": "same"},
            {"a": "two", "b": "same"},
        )
        for _ in range(3):
            assert publish(1) == []
        folder = tmp_path / f"here-{step}"
        folder.mkdir()
        problems, notes = mirror.bring(opened(place / str(step)), folder)
        assert (problems, notes) == ([], [])
        assert sound(folder) == {"a": "two", "b": "same"}
        if done:
            break
        step += 1
    assert step > 10


def test_an_entry_is_whole_or_absent_after_every_step(
    mortal: Mortal, place: Url, tmp_path: Path
) -> None:
    job = make_plan(tmp_path, "a").jobs[0]
    for step in range(20):
        store = RemoteStore(opened(place / str(step)))
        key, result = writer.entry_of(job, step, tmp_path / "files")
        mortal.left = step
        try:
            store.put(job, key, result, tmp_path / "files", None)
            done = True
        except KilledError:
            done = False
        mortal.left = 1 << 30
        stored = store.read(key.digest)
        assert (stored is not None) is done
        store.put(job, key, result, tmp_path / "files", None)
        stored = store.read(key.digest)
        assert stored is not None
        assert store.damage(stored) == ""
        if done:
            break
    assert step == 5  # send, copy, delete, the mark of its name, the document


@pytest.mark.e2e
def test_a_run_keeps_and_publishes_in_a_bucket(
    bucket: Store,
    place: Url,
    tmp_path: Path,
    converter_command: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [
        "+experiment=smoke", "~models.single_conv_batch", "~models.simple_cnn",
        "benchmark.providers=[]", f"store.path={place}/store", f"publish_to={place}/models",
        "exclusive=true",
    ]  # fmt: skip
    path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    first = converter_command(*words, **bucket.environment, **path)
    assert first.returncode == 0, first.stdout + first.stderr
    again = converter_command(*words, **bucket.environment, **path)
    assert "1 from the store" in again.stdout
    assert main(["verify", str(place / "models")]) == 0
    assert set(Prefix(opened(place / "models")).read().models) == {"single_conv"}
    # The lease was given back, and no secret was written anywhere.
    assert opened(place / "models").read(".holder.json") is None
    secrets = [bucket.environment[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert not any(secret.encode() in file.read_bytes() for secret in secrets), file
    for each in opened(place).list():
        found = opened(place).read(each.key)
        assert found is not None
        assert not any(secret.encode() in found.data for secret in secrets), each.key
    assert zoo_index.INDEX in {each.key for each in opened(place / "models").list()}
