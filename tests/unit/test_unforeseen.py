"""The frame around every command: what nobody has foreseen."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from converter.cli import command_line
from converter.model.errors import ExitCode


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A command that fails as none should; the folder that its file comes to."""

    def fails(words: list[str], debug: bool) -> int:
        if words == ["deep"]:
            fails(words, debug)
        raise LookupError("s3://me:hunter2@host/x \x1b[31mand a_long_word")

    monkeypatch.setattr(command_line, "_dispatch", fails)
    monkeypatch.setenv("MY_API_KEY", "a_long_word")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_it_is_a_sentence_and_a_file_and_never_a_failed_model(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["plan", "token=a_long_word"]) in (
        ExitCode.CONFIG,
        ExitCode.RUN_FAILED,
    )
    first, second = capsys.readouterr().err.splitlines()
    assert "Traceback" not in first
    found = re.fullmatch(
        r"(?:run|command): a defect of the converter: LookupError: s3://\*\*\*@host/x .*and \*\*\*"
        r"(?: \(command_line\.py:\d+\))?",
        first,
    )
    assert found, first
    assert "\x1b" not in first
    (file,) = broken.iterdir()
    assert str(file) in second
    assert "please report it" in second
    text = file.read_text()
    assert "Traceback (most recent call last)" in text
    assert "python -m converter plan token=***" in text
    assert "hunter2" not in text
    assert "a_long_word" not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_that_has_gone_is_no_defect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert command_line.main(["+experiment=smoke"]) == ExitCode.CONFIG
    assert "the folder that this command was started in does not" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)


def test_with_debug_it_is_a_traceback(broken: Path) -> None:
    with pytest.raises(LookupError):
        command_line.main(["plan", "--debug"])


def test_a_file_of_an_endless_recursion_is_bounded(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line.main(["deep"])
    assert "RecursionError" in capsys.readouterr().err
    (file,) = broken.iterdir()
    assert len(file.read_text().splitlines()) < 350


def test_where_no_file_can_be_written_it_says_so(
    broken: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/nowhere")
    command_line.main(["plan"])
    assert "no file could be written: run it again with --debug" in capsys.readouterr().err
