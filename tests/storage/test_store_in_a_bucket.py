"""Runs that share a store in an object store, with an executor that plays a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converter.cache import remote
from converter.cache.entries import DamagedError, Leftover, Stored
from converter.cache.remote import ENTRIES, FILES, RemoteStore
from converter.cli import command_line
from converter.config import standard
from converter.model.errors import ExitCode
from converter.model.job import Job
from converter.model.manifest import ArtifactRow
from converter.model.records import JobResult, StageRecord
from converter.runner.context import RunContext
from converter.runner.loop import execute
from converter.storage.location import Url
from converter.storage.objects import opened
from tests.objectstore import Store
from tests.unit.test_runner import CONTENT, Script, make_plan, ok, rows

pytestmark = [pytest.mark.storage]
OFF = standard.spec(benchmark={"providers": []}, reports=["csv"])
Night = Callable[..., dict[str, ArtifactRow]]


def alone(job: Job) -> JobResult:
    """A file without external data, of a worker that knows of no benchmark."""
    result = ok(job)
    stages = {**result.stages, "benchmark": StageRecord(status="not_requested")}
    return result.model_copy(update={"files": result.files[:1], "stages": stages})


@pytest.fixture
def store(place: Url) -> RemoteStore:
    return RemoteStore(opened(place))


@pytest.fixture
def ran() -> list[str]:
    """Which models of the last night were built."""
    return []


@pytest.fixture
def night(tmp_path: Path, place: Url, ran: list[str]) -> Night:
    def run(*names: str, code: ExitCode = ExitCode.OK) -> dict[str, ArtifactRow]:
        ran.clear()
        directory = tmp_path / f"night-{len(list(tmp_path.glob('night-*')))}"
        context = RunContext(directory, "zoo", [], "0" * 64, "converter", OFF, store=place)
        script = Script(dict.fromkeys(names, alone), lambda job: ran.append(job.name))
        assert execute(make_plan(directory, *names), script, replace(context)) is code
        found = rows(directory)
        for row in found.values():
            assert (directory / row.files[0].path).read_bytes() == CONTENT
        return found

    return run


def only(store: RemoteStore) -> str:
    (key,) = store.held()
    return key


def files_of(store: RemoteStore) -> list[str]:
    return [each.key for each in store._objects.list(FILES)]


def test_the_second_night_takes_everything_from_the_store(
    night: Night, ran: list[str], store: RemoteStore
) -> None:
    first = night("a", "b")
    assert ran == ["a", "b"]
    assert {row.cache_miss_reason for row in first.values()} == {"not in the store"}
    second = night("a", "b")
    assert ran == []
    assert {row.cached for row in second.values()} == {True}
    # Equal files are one.
    assert len(files_of(store)) == 1
    assert len(store.held()) == 2


def test_a_file_that_is_gone_or_damaged_is_a_miss_with_its_reason(
    night: Night, ran: list[str], store: RemoteStore
) -> None:
    night("a")
    (file,) = files_of(store)
    store._objects.delete(file)
    found = night("a")
    assert ran == ["a"]
    assert str(found["a"].cache_miss_reason).startswith("not in the store: s3://")
    assert str(found["a"].cache_miss_reason).endswith(f"{file} is gone")
    store._objects.write(file, CONTENT[::-1])
    found = night("a")
    assert ran == ["a"]
    assert found["a"].cache_miss_reason == "the stored entry is damaged: a.onnx: checksum mismatch"
    assert len(list(store._objects.list(remote.ASIDE))) == 1
    night("a")
    assert ran == []  # what was damaged under its name has been replaced


@pytest.mark.parametrize("damage", ["torn", "other result", "other key"])
def test_a_document_that_is_not_whole_is_a_miss(
    night: Night, ran: list[str], store: RemoteStore, damage: str
) -> None:
    night("a")
    key = only(store)
    path = f"{ENTRIES}{key}.json"
    text = store._objects.read(path)
    assert text is not None
    said = json.loads(text.data)
    if damage == "other result":
        said["result"] = said["result"].replace('"ok"', '"failed"')
    elif damage == "other key":
        said["entry"]["parts"] = {"schema": 0}
    data = text.data[:-40] if damage == "torn" else json.dumps(said).encode()
    store._objects.write(path, data)
    with pytest.raises(DamagedError) as raised:
        store.read(key)
    assert "validation error" not in str(raised.value)
    found = night("a")
    assert ran == ["a"]
    assert str(found["a"].cache_miss_reason).startswith("the stored entry is damaged: ")
    night("a")
    assert ran == []


def test_a_run_that_was_killed_before_the_document_left_no_entry(
    night: Night, ran: list[str], store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise OSError(5, "the server cannot be reached", "s3://zoo/there")

    monkeypatch.setattr(RemoteStore, "_install", killed)
    night("a")
    assert store.held() == []
    assert len(files_of(store)) == 1
    monkeypatch.undo()


def test_a_store_that_is_full_costs_no_model(
    night: Night,
    bucket: Store,
    store: RemoteStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(RemoteStore, "open", lambda self: None)
    bucket.faults.answer = ("507 Insufficient Storage", "XMinioStorageFull", "")
    assert night("a")["a"].status == "ok"
    told = capsys.readouterr().out
    assert f"The store {store.where} could not be written: the object store is full, or" in told
    assert "What it could not keep is built again by the next run." in told


def test_a_store_that_cannot_be_opened_ends_the_run_before_it_begins(
    bucket: Store, place: Url, tmp_path: Path
) -> None:
    bucket.faults.answer = ("403 Forbidden", "AccessDenied", "")
    context = RunContext(tmp_path / "run", "zoo", [], "0" * 64, "converter", OFF, store=place)
    words = r"cannot be written: access denied \(AccessDenied\): check the cred.*store.use=false"
    with pytest.raises(Exception, match=words):
        execute(make_plan(tmp_path / "run", "a"), Script({"a": alone}), context)


def test_the_command_lists_verifies_and_tidies(
    night: Night,
    store: RemoteStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night("a", "b")

    def command(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert command_line.main(["store", *words, "--path", str(store.where)]) == code
        return capsys.readouterr().out

    told = command("ls")
    assert f"2 entries, {2 * len(CONTENT) / 1000:.0f} kB" in told or "2 entries" in told
    found = json.loads(command("ls", "--json"))
    assert {each["name"] for each in found["entries"]} == {"a", "b"}
    assert found["path"] == str(store.where)
    assert "2 whole, 0 damaged" in command("verify")
    (file,) = files_of(store)
    store._objects.write(file, CONTENT[::-1])
    assert "a.onnx is not the file that was hashed" in command("verify", code=1)
    # Files stay for a while: another run may be about to name them.
    monkeypatch.setattr(remote, "GRACE_S", 3600.0)
    gone = json.loads(command("gc", "--max-age", "0s", "--json"))
    assert gone["kept"] == 0
    assert files_of(store) == [file]
    monkeypatch.setattr(remote, "GRACE_S", -10.0)
    gone = json.loads(command("gc", "--json"))
    assert file in gone["removed"]
    assert list(store._objects.list()) == []


def test_a_file_that_was_written_again_meanwhile_is_not_removed(
    night: Night, store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    night("a")
    store.drop(only(store))
    monkeypatch.setattr(remote, "GRACE_S", -10.0)
    rest = [left for left in store.leftovers() if left.name.startswith(FILES)]
    assert len(rest) == 1
    monkeypatch.setattr(remote, "GRACE_S", 3600.0)
    for left in rest:
        store.remove(left)
    assert len(files_of(store)) == 1


def test_what_is_no_listing_removes_no_file(
    night: Night,
    bucket: Store,
    store: RemoteStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page of a proxy in place of the listing of entries, as if there were none."""
    monkeypatch.setattr("converter.storage.retrying._LONGEST_S", 0.01)
    night("a", "b")
    there = {each.key for each in store._objects.list()}
    monkeypatch.setattr(remote, "GRACE_S", -10.0)
    for paged in ("entries", "list-type"):
        bucket.faults.page, bucket.faults.paged = b"<html>Sign in</html>", paged
        assert command_line.main(["store", "gc", "--path", str(store.where)]) == 3
        assert "what answered is no S3 server (a proxy?)" in capsys.readouterr().err
        bucket.faults.mend()
        assert {each.key for each in store._objects.list()} == there


@pytest.mark.parametrize("fault", ["listed as empty", "read as missing", "read as torn"])
def test_files_stay_where_entries_are_not_known(
    night: Night, store: RemoteStore, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    night("a")
    monkeypatch.setattr(remote, "GRACE_S", -10.0)
    if fault == "listed as empty":
        monkeypatch.setattr(RemoteStore, "held", lambda self: [])
    elif fault == "read as missing":
        monkeypatch.setattr(RemoteStore, "read", lambda self, key: None)
    else:
        store._objects.write(f"{ENTRIES}{only(store)}.json", b"{")
    assert not [left for left in store.leftovers() if left.name.startswith(FILES)]


def test_what_the_store_has_not_written_stays(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "GRACE_S", -10.0)
    for key in ("files/index.json", "files/resnet18/1/model.onnx", "names/mine.txt", "used/a"):
        store._objects.write(key, b"somebody else's")
    assert store.leftovers() == []


def test_what_a_second_look_keeps_is_not_counted(
    night: Night, store: RemoteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    night("a")
    (file,) = files_of(store)
    left = Leftover(file, 10)
    assert not store.remove(left)  # it is new
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteStore, "leftovers", lambda self: [left])
        capsys.readouterr()
        assert command_line.main(["store", "gc", "--path", str(store.where)]) == 0
    assert "removed 0 entries, 0 B; 1 stay" in capsys.readouterr().out


def test_a_server_that_is_gone_costs_time_and_no_model(
    night: Night,
    ran: list[str],
    bucket: Store,
    place: Url,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("converter.storage.retrying._LONGEST_S", 0.01)
    night("a")
    monkeypatch.setattr(RemoteStore, "open", lambda self: None)
    bucket.faults.answer = ("503 Slow Down", "SlowDown", "")
    found = night("a", "b")
    assert ran == ["a", "b"]
    assert str(found["a"].cache_miss_reason).startswith("the store could not be read: the server")
    told = capsys.readouterr().out
    assert f"The store {place} could not be read: the server asks for fewer calls" in told
    assert not any(secret in told for secret in ("AKIAEXAMPLE", "a-secret-that-nobody"))


def test_a_run_asks_for_several_entries_at_a_time(
    night: Night, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "b", "c", "d")
    night(*names)
    together = threading.Barrier(len(names), timeout=20)
    read = RemoteStore.read

    def waiting(store: RemoteStore, key: str) -> Stored | None:
        together.wait()  # one after the other would wait for ever
        return read(store, key)

    monkeypatch.setattr(RemoteStore, "read", waiting)
    assert list(night(*names)) == list(names)
    assert ran == []
