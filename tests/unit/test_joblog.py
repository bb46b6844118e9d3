from __future__ import annotations

import os
from pathlib import Path

import pytest

from converter.processes import joblog
from converter.processes.joblog import JobLog


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblog, "HEAD_BYTES", 100)
    monkeypatch.setattr(joblog, "TAIL_BYTES", 40)


def written(path: Path, *chunks: bytes) -> str:
    log = JobLog(path, 1)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    return path.read_text()


def test_what_fits_is_kept_as_it_is(tmp_path: Path) -> None:
    assert written(tmp_path / "log", b"a" * 60, b"b" * 40) == "a" * 60 + "b" * 40


def test_what_just_does_not_fit_is_kept_by_the_tail(tmp_path: Path) -> None:
    assert written(tmp_path / "log", b"a" * 90, b"b" * 50) == "a" * 90 + "b" * 50


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    text = written(tmp_path / "log", *[b"0123456789"] * 50)
    assert text.startswith("0123456789" * 10 + "\n[... output left out here ...]\n")
    assert text.endswith("0123456789" * 4 + "\n" + text.splitlines()[-1] + "\n")
    assert text.splitlines()[-1].startswith("[log capped: 360 bytes left out")


def test_a_second_attempt_keeps_the_log_of_the_first(tmp_path: Path) -> None:
    written(tmp_path / "log", b"first")
    log = JobLog(tmp_path / "log", 2)
    log.write(b"second")
    log.close()
    assert (tmp_path / "log").read_text() == "first\n---- attempt 2 ----\nsecond"


def test_a_planted_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "log").symlink_to("target")
    with pytest.raises(OSError, match="symbolic"):
        JobLog(tmp_path / "log", 1)
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", ""),
        (b"one\n\n two \n\n", "two"),
        (
            b'Current thread 0x1 (most recent call first):\n  File "a.py", line 1 in f\n  File b',
            'File "a.py", line 1 in f',
        ),
    ],
)
def test_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: bytes, words: str
) -> None:
    monkeypatch.setattr(joblog, "TAIL_BYTES", 400)
    log = JobLog(tmp_path / "log", 1)
    log.write(output)
    assert log.last_words() == words
    log.close()


def test_a_full_disk_does_not_stop_the_watch() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    log = JobLog(Path("/dev/full"), 1)
    log.write(b"a")
    log.close()
