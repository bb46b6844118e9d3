"""``publish_to`` on an object store: whole sets, one index, and readers that come to their end."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.cli import command_line
from converter.config import standard, validation
from converter.finalize import mirror, prefix, publication, published, zoo_index
from converter.finalize.prefix import Prefix
from converter.layout import signing
from converter.model.batch import PublishSpec
from converter.model.errors import ConfigError, RunError
from converter.model.manifest import Manifest
from converter.storage.backend import Content, Failure, Kind
from converter.storage.lease import LostError
from converter.storage.location import Url
from converter.storage.objects import opened
from converter.storage.retrying import FailedError
from tests.objectstore import BUCKET, Store
from tests.published import artifacts, sound
from tests.unit.nights import manifest

pytestmark = [pytest.mark.storage]


def publish(
    run: Manifest, tmp_path: Path, place: Url, listed: Iterable[str] | None = None, **said: Any
) -> list[str]:
    spec = PublishSpec.model_validate({"path": str(place), **said})
    publication.check(spec)
    return publication.publish(run, tmp_path, spec, None if listed is None else [*listed])


def night(tmp_path: Path, day: int, **models: str) -> Manifest:
    rows = [row for name, text in models.items() for row in artifacts(tmp_path, name, text)]
    return manifest(*rows, day=day)


def here(place: Url, tmp_path: Path) -> Path:
    """What is published, as a folder; nothing in it may be wrong."""
    folder = tmp_path / f"here-{len(list(tmp_path.glob('here-*')))}"
    folder.mkdir()
    problems, _ = mirror.bring(opened(place), folder)
    assert problems == []
    return folder


def versions(place: Url, name: str) -> set[str]:
    keys = (each.key.split("/") for each in opened(place).list(f"{name}/"))
    return {parts[1] for parts in keys if len(parts) > 2}


@pytest.mark.parametrize("layout", ["zoo", "triton", "huggingface"])
def test_what_verified_is_there_whole(place: Url, tmp_path: Path, layout: str) -> None:
    rows = [
        *artifacts(tmp_path, "a", "one", half="half one", data="weights"),
        *artifacts(tmp_path, "b", "two"),
    ]
    assert publish(manifest(*rows), tmp_path, place, layout=layout) == []
    expected = {"a": "one", "a/fp16": "half one", "b": "two"}
    assert sound(here(place, tmp_path)) == expected
    # Another night that makes the same: nothing is uploaded again.
    before = {each.key: each.version for each in opened(place).list()}
    assert publish(manifest(*rows, day=2), tmp_path, place, layout=layout) == []
    after = {each.key: each.version for each in opened(place).list()}
    assert {key for key in before if before[key] != after[key]} <= {
        zoo_index.INDEX,
        zoo_index.PAGE,
    }
    assert before.keys() == after.keys()


def test_an_old_version_stays_until_its_readers_are_done(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    (old,) = versions(place, "a")
    publish(night(tmp_path, 2, a="two"), tmp_path, place)
    assert sound(here(place, tmp_path)) == {"a": "two"}
    assert old in versions(place, "a")
    publish(night(tmp_path, 3, a="two"), tmp_path, place)
    assert old in versions(place, "a")
    monkeypatch.setattr(prefix, "GRACE_S", -1.0)
    publish(night(tmp_path, 4, a="two"), tmp_path, place)
    assert old not in versions(place, "a")
    assert sound(here(place, tmp_path)) == {"a": "two"}
    assert not [each.key for each in opened(place).list() if prefix.GONE in each.key]


def test_a_version_that_counts_again_is_no_longer_marked(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, text in enumerate(("one", "two", "one", "one"), start=1):
        publish(night(tmp_path, day, a=text), tmp_path, place)
        assert sound(here(place, tmp_path)) == {"a": text}
    monkeypatch.setattr(prefix, "GRACE_S", -1.0)
    publish(night(tmp_path, 5, a="one"), tmp_path, place)
    assert sound(here(place, tmp_path)) == {"a": "one"}
    assert len(versions(place, "a")) == 1


def test_versions_that_are_kept_stay(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "GRACE_S", -1.0)
    for day, text in enumerate(("one", "two", "three"), start=1):
        publish(night(tmp_path, day, a=text), tmp_path, place, keep_versions=2)
    publish(night(tmp_path, 4, a="three"), tmp_path, place, keep_versions=2)
    folder = here(place, tmp_path)
    assert sound(folder) == {"a": "three"}
    (kept,) = zoo_index.read(folder).models["a"].kept
    assert versions(place, "a") == {Path(kept.folder).name} | {
        Path(each.folder).name for each in zoo_index.read(folder).models["a"].sets
    }


def test_two_writers_lose_no_line(place: Url, tmp_path: Path) -> None:
    """They read the same index, and each writes its own: both are in it."""
    elsewhere = place / "elsewhere"
    publish(night(tmp_path, 1, b="two", c="three"), tmp_path, elsewhere)
    others = Prefix(opened(elsewhere)).read().models
    place = place / "here"
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    first, second = Prefix(opened(place)), Prefix(opened(place))
    seen, also_seen = first.read(), second.read()
    first.change(seen, lambda index: index.having("b", others["b"]))
    both = second.change(also_seen, lambda index: index.having("c", others["c"]))
    assert set(both.models) == {"a", "b", "c"}
    assert both == first.read()


def test_two_runs_at_once_publish_one_after_the_other(place: Url, tmp_path: Path) -> None:
    from converter.storage import exclusive

    problems: list[str] = []

    def run(name: str) -> None:
        made = night(tmp_path / name, 1, **{name: f"file of {name}"})
        spec = PublishSpec.model_validate({"path": str(place)})
        with exclusive.lock_with_timeout(place, 60) as guard:
            problems.extend(
                publication.publish(made, tmp_path / name, spec, None, still_held=guard.check)
            )

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sound(here(place, tmp_path)) == {name: f"file of {name}" for name in "abcd"}


def test_who_has_lost_the_lease_writes_nothing(place: Url, tmp_path: Path) -> None:
    def lost() -> None:
        raise LostError(str(place))

    spec = PublishSpec.model_validate({"path": str(place)})
    with pytest.raises(LostError, match="its lease was lost"):
        publication.publish(night(tmp_path, 1, a="one"), tmp_path, spec, None, still_held=lost)
    assert list(opened(place).list()) == []


def test_what_somebody_has_damaged_is_put_right(place: Url, tmp_path: Path) -> None:
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    path = zoo_index.read(here(place, tmp_path)).models["a"].path
    opened(place).write(path, b"xxx")
    found = published.check(here(place, tmp_path), None)
    assert any("is not as SHA256SUMS and index.json say" in text for text in found.problems)
    publish(night(tmp_path, 2, a="one"), tmp_path, place)
    assert sound(here(place, tmp_path)) == {"a": "one"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("403 Forbidden", "AccessDenied", ""), "access denied (AccessDenied): check the cred"),
        (("507 Insufficient Storage", "StorageFull", ""), "the object store is full, or over"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_run(
    bucket: Store, place: Url, answer: tuple[str, str, str], words: str
) -> None:
    bucket.faults.answer = answer
    with pytest.raises(RunError) as raised:
        publication.check(PublishSpec.model_validate({"path": str(place)}))
    assert str(raised.value).startswith(f"publish_to: {words}")
    assert str(place) in str(raised.value)


def test_a_place_inside_of_a_published_one_is_refused(place: Url, tmp_path: Path) -> None:
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    with pytest.raises(RunError, match=f"is inside of {place}, which is published to"):
        publication.check(PublishSpec.model_validate({"path": str(place / "a/served")}))


def test_a_place_around_a_published_one_is_refused(place: Url, tmp_path: Path) -> None:
    publish(night(tmp_path, 1, a="one"), tmp_path, place / "in")
    opened(place).write("other/index.json", b"[]")  # of something else
    with pytest.raises(RunError, match=f"{place} has {place}/in in it, which is published to"):
        publication.check(PublishSpec.model_validate({"path": str(place)}))
    assert publication.check(PublishSpec.model_validate({"path": str(place / "in")})) == []


def test_a_store_in_a_published_place_is_refused(place: Url, tmp_path: Path) -> None:
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    for path in (place, place / "store"):
        with pytest.raises(RunError, match=f"store.path: {path} .*published to: give the store"):
            publication.check_store(str(path))


def test_what_may_not_be_read_above_is_said(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.storage.objects import Objects

    read = Objects.read

    def refusing(self: Objects, key: str) -> Content | None:
        if self.place == place.parents[0]:
            raise FailedError(Failure(failing, errno.EIO, "not for you"), str(self.place / key))
        return read(self, key)

    monkeypatch.setattr(Objects, "read", refusing)
    spec, failing = PublishSpec.model_validate({"path": str(place)}), Kind.FINAL
    (told,) = publication.check(spec)
    assert told == f"s3://{BUCKET}/index.json could not be looked at: not for you"
    failing = Kind.AGAIN
    with pytest.raises(RunError, match=f"publish_to: not for you: s3://{BUCKET}/index.json"):
        publication.check(spec)


def test_etags_that_are_wrong_are_no_other_writers(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    target = Prefix(opened(place))
    target._objects._driver = WrongETags(target._objects._driver)  # type: ignore[assignment]
    monkeypatch.setattr(prefix.time, "sleep", lambda seconds: None)
    index = target.read()
    entry = index.models["a"]
    with pytest.raises(OSError, match="nobody has changed it: the ETags that it tells are not"):
        target.change(index, lambda index: index.having("b", entry))


class WrongETags:
    """A driver whose server tells another ETag than it compares with."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def get(self, path: str) -> Content:
        found: Content = self._driver.get(path)
        return replace(found, version='"wrong"')


def test_places_of_the_configuration() -> None:
    config = standard.filled({"models": {"srcnn": {"source": "srcnn"}}})
    places = [f"s3://{BUCKET}/a", f"s3://{BUCKET}/a/b", "s3://KEY:hunter2@zoo/c"]
    with pytest.raises(ConfigError) as raised:
        validation.parse({**config, "publish_to": places})
    told = str(raised.value)
    assert "publish_to.1.path: is inside of the folder of publish_to.0" in told
    assert "publish_to.2.path: s3://***@zoo/c has credentials in it" in told
    assert "hunter2" not in told


def test_verify_reads_every_byte_of_a_url(
    bucket: Store, place: Url, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(night(tmp_path, 1, a="one", b="two"), tmp_path, place)
    publish(night(tmp_path, 2, a="new", b="two"), tmp_path, place)
    assert command_line.main(["verify", str(place)]) == 0
    told = capsys.readouterr()
    assert "right: 8 files in 2 sets, 0 of them signed" in told.out
    assert "is named no more: a later run removes it" in told.err
    entry = zoo_index.read(here(place, tmp_path)).models["a"]
    assert command_line.main(["verify", str(place / entry.sets[0].folder)]) == 0
    capsys.readouterr()
    opened(place).write(entry.path, b"new, and damaged")
    opened(place).write("a/../../elsewhere", b"a path that leads out")
    assert command_line.main(["verify", "--json", str(place)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any(f"{Path(entry.path).name} is not as" in text for text in found["problems"])
    assert "'a/../../elsewhere' is no name of a file: nobody has published it" in found["problems"]
    assert command_line.main(["verify", str(place / "nothing")]) == 2
    assert "is no published place" in capsys.readouterr().err
    assert command_line.main(["verify", "s3://nobodys/zoo"]) == 2
    assert "there is no such bucket: s3://nobodys/zoo." in capsys.readouterr().err
    opened(place / "torn").write("index.json", b"{")
    assert command_line.main(["verify", str(place / "torn")]) == 2
    assert f"move it away: {place}/torn/index.json." in capsys.readouterr().err
    bucket.faults.answer = ("403 Forbidden", "AccessDenied", "")
    assert command_line.main(["verify", str(place)]) == 2
    assert "access denied: check the credentials: s3://" in capsys.readouterr().err


def test_a_reader_in_the_middle_finishes(
    place: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the index; then another version is published, and an hour is not over."""
    publish(night(tmp_path, 1, a="one"), tmp_path, place)
    there = opened(place)
    found = there.read(zoo_index.INDEX)
    assert isinstance(found, Content)
    entry = zoo_index.parsed(found.data, place).models["a"]
    for day in (2, 3):
        publish(night(tmp_path, day, a=f"of day {day}"), tmp_path, place)
    for number, part in enumerate(entry.parts):
        there.download(part.path, tmp_path / f"part{number}", part.bytes, part.sha256)


@pytest.mark.skipif(bool(signing.missing()), reason="the extra `sign`")
def test_a_set_is_signed(place: Url, tmp_path: Path) -> None:
    from tests.integration.test_signing import keys

    private, public = keys(tmp_path, "zoo")
    publish(night(tmp_path, 1, a="one"), tmp_path, place, sign={"private_key": str(private)})
    found = published.check(here(place, tmp_path), public)
    assert (found.problems, found.signed) == ([], 1)


def test_a_model_is_fetched_from_a_url(
    place: Url, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = artifacts(tmp_path, "a", "one", half="half one", data="weights")
    assert publish(manifest(*rows), tmp_path, place) == []
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["fetch", str(place), "a"]) == 0
    assert (tmp_path / "a/model.onnx").read_text() == "one"
    assert (tmp_path / "a/a.onnx.data").read_text() == "weights"
    home = zoo_index.read(here(place, tmp_path)).models["a"].sets[0].folder
    opened(place).write(f"{home}/model.fp16.onnx", b"evil one")
    assert command_line.main(["fetch", str(place), "a/fp16"]) == 1
    assert f"{home}/model.fp16.onnx is not what index.json says" in capsys.readouterr().err
    opened(place).write(f"{home}/model.fp16.onnx", b"evil " * 1_000_000)
    assert command_line.main(["fetch", str(place), "a/fp16"]) == 1
    assert f"{home}/model.fp16.onnx is not what index.json says" in capsys.readouterr().err
    assert not (tmp_path / "a.fp16").exists()
    assert [*tmp_path.glob(".converter-*")] == []
    # Of models there is nothing beside their versions.
    assert {each.key for each in opened(place).list("a/") if each.key.count("/") == 1} == {
        "a/README.md"
    }
