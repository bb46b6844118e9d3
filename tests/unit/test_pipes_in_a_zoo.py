"""Of a named pipe nobody knows when its writer comes: nothing that reads a zoo waits for one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nights import manifest
from test_publication import made, publish

from converter.cli import command_line
from converter.finalize import publication, published, zoo_index
from converter.layout import signing
from converter.model.batch import PublishSpec
from converter.model.errors import ConfigError


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    """What waits for a pipe fails its test after some seconds, and does not hang."""

    def late(*_: object) -> None:
        raise TimeoutError("it waited")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    publish(manifest(made(tmp_path, "a", b"good")), tmp_path)
    return tmp_path / "zoo"


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = os.getcwd()
        os.chdir(path.parent)  # its name may have 108 characters
        try:
            made.bind(path.name)
        finally:
            os.chdir(before)


KINDS: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a socket": a_socket,
    "a folder": Path.mkdir,
    "a symbolic link": lambda path: path.symlink_to("elsewhere"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_index_is_refused_at_once(
    zoo: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo / "index.json").unlink()
    KINDS[kind](zoo / "index.json")
    with pytest.raises(ConfigError, match=rf"is {kind}: move it away: .*/zoo/index\.json"):
        publication.check(PublishSpec(path=str(zoo)))
    assert command_line.main(["fetch", str(zoo), "a"]) == 2
    assert f"zoo/index.json: is {kind}: move it away." in capsys.readouterr().err
    assert command_line.main(["verify", str(zoo)]) == 2
    publication.check_store(str(zoo / "store"))  # looks at the folders above
    assert [each.name for each in zoo.glob("*/*/model.onnx")] == ["model.onnx"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["index.html", "SHA256SUMS", "sbom.cdx.json", "README.md", "model.onnx"]
)
def test_what_is_no_file_of_a_zoo_is_told_at_once(
    zoo: Path, tmp_path: Path, name: str, kind: str
) -> None:
    home = zoo if name == "index.html" else zoo / zoo_index.read(zoo).models["a"].sets[0].folder
    (home / name).unlink()
    KINDS[kind](home / name)
    assert any(name in text for text in published.check(zoo, None).problems)
    # A run of the same model does not wait either, and replaces or tells it.
    publication.publish(
        manifest(made(tmp_path, "a", b"good"), day=2), tmp_path, PublishSpec(path=str(zoo)), None
    )


def test_signatures_are_not_checked_beside_a_pipe(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = zoo / zoo_index.read(zoo).models["a"].sets[0].folder
    (home / signing.SIGNATURE).write_text("{}")
    asked = []
    monkeypatch.setattr(signing, "refusal", lambda *said: asked.append(said) or "it is another")
    assert any("it is another" in text for text in published.check(zoo, tmp_path / "key").problems)
    os.mkfifo(home / "pipe")
    told = published.check(zoo, tmp_path / "key").problems
    assert any("its signature was not checked: pipe is no file" in text for text in told)
    assert len(asked) == 1
    shutil.rmtree(zoo)
