"""``fetch``: what a published folder holds is an input, of which nothing is taken on trust."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nights import manifest
from test_publication import made, publish

from converter.cli import command_line
from converter.finalize import fetching, zoo_index

_MOST = 16 << 20


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    return tmp_path / "zoo"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file that is written here can have more than 16 MiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fetch(zoo: Path, capsys: pytest.CaptureFixture[str], name: str = "a") -> tuple[int, str]:
    folder = zoo.parent / "fetched"
    code = command_line.main(["fetch", str(zoo), name, "-o", str(folder)])
    assert [*zoo.parent.glob(".converter-*")] == []
    assert folder.exists() == (code == 0)
    return code, capsys.readouterr().err


def model(zoo: Path) -> Path:
    return zoo / zoo_index.read(zoo).models["a"].path


def test_a_file_of_another_size_is_refused_before_it_is_copied(
    zoo: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    path = model(zoo)
    os.truncate(path, 1 << 30)  # it has holes: the disk keeps none of that
    request.getfixturevalue("small_disk")
    code, told = fetch(zoo, capsys)
    assert code == 1
    assert told == (
        f"a: not fetched: {path.relative_to(zoo)} is not what index.json says (4 bytes, SHA-256)\n"
    )


@pytest.mark.parametrize("name", ["a/", "a//", "/a", "a/onnx/", "..", "../zoo/a"])
def test_what_is_no_name_is_not_fetched(
    zoo: Path, capsys: pytest.CaptureFixture[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``a/``, as a shell completes a folder, made a folder ``a.``."""
    monkeypatch.chdir(zoo.parent)
    before = sorted(os.listdir())
    assert command_line.main(["fetch", str(zoo), name]) == 2
    told = capsys.readouterr().err
    assert f"has no {name!r}." in told
    assert f"Did you mean {name}?" not in told
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("planted", ["model", "set", "file"])
def test_a_link_in_a_zoo_is_not_what_its_index_says(
    zoo: Path, capsys: pytest.CaptureFixture[str], planted: str
) -> None:
    """Also where it leads to the very file."""
    file = model(zoo)
    place = {"model": zoo / "a", "set": file.parent, "file": file}[planted]
    moved = place.rename(zoo.parent / "moved")
    place.symlink_to(moved)
    told = f"a: not fetched: {place.relative_to(zoo)} is a symbolic link\n"
    assert fetch(zoo, capsys) == (1, told)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (os.mkfifo, "is a named pipe"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.symlink_to(path), "is a symbolic link"),
        (lambda path: None, "is missing"),
    ],
    ids=["pipe", "folder", "loop", "nothing"],
)
def test_what_is_no_file_of_a_zoo_is_not_what_its_index_says(
    zoo: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], None], said: str
) -> None:
    file = model(zoo)
    file.unlink()
    plant(file)
    assert fetch(zoo, capsys) == (1, f"a: not fetched: {file.relative_to(zoo)} {said}\n")


def test_a_file_in_the_place_of_a_set_is_not_what_the_index_says(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model(zoo)
    file.parent.rename(zoo.parent / "moved")
    file.parent.write_bytes(b"")
    assert fetch(zoo, capsys) == (1, f"a: not fetched: {file.relative_to(zoo)} is missing\n")


@pytest.mark.parametrize("name", ["model.onnx", "SHA256SUMS"])
def test_two_files_of_one_name_are_refused(
    zoo: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The second one took the place of the first, which the sums named as well."""
    index = json.loads((zoo / "index.json").read_text())
    other = model(zoo).with_name("further") / name
    other.parent.mkdir()
    other.write_bytes(b"evil")
    part = {"path": str(other.relative_to(zoo)), "bytes": 4}
    part["sha256"] = hashlib.sha256(b"evil").hexdigest()
    index["models"]["a"]["external_data"] = [part]
    (zoo / "index.json").write_text(json.dumps(index))
    code, told = fetch(zoo, capsys)
    assert (code, f"two of its files would be called {name} here" in told) == (1, True)


def test_no_more_is_copied_than_the_index_says() -> None:
    """Where a file grows after its size was seen."""
    copy = io.BytesIO()
    fetching._copy(io.BytesIO(b"12345678"), copy, 5)
    assert copy.getvalue() == b"12345"
