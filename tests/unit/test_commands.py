"""The person's own commands at the end of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from converter.finalize import commands

SHOW = (
    "import os, sys; print(sys.argv[1:], os.environ['CONVERTER_RUN_DIR'], "
    "os.environ['CONVERTER_EXIT_CODE'])"
)


def test_it_is_given_the_run_directory_and_its_output_is_logged(tmp_path: Path) -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", SHOW, "a word"]
    assert commands.run("on_failure", command, tmp_path, 1, lines.append) is None
    assert lines[0].startswith(f"on_failure: {sys.executable} -c ")
    assert lines[1] == f"    ['a word', '{tmp_path}'] {tmp_path} 1"


def test_a_string_is_split_as_a_shell_would_and_no_shell_reads_it(tmp_path: Path) -> None:
    lines: list[str] = []
    command = f"{sys.executable} -c 'import sys; print(sys.argv[1])' '$HOME; false'"
    assert commands.run("on_failure", command, tmp_path, 1, lines.append) is None
    assert lines[1] == "    $HOME; false"


def test_what_goes_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    exits = [sys.executable, "-c", "import sys; sys.exit('no such recipient')"]
    assert commands.run("on_failure", exits, tmp_path, 1, lines.append) == (
        f"on_failure failed with exit code 1: {sys.executable}; its output is in run.log"
    )
    assert lines[-1] == "    no such recipient"
    assert commands.run("on_failure", ["/no/such"], tmp_path, 1, lines.append) == (
        "on_failure could not be started: No such file or directory: /no/such"
    )
    monkeypatch.setattr(commands, "_LIMIT_S", 0.2)
    hangs = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert commands.run("on_failure", hangs, tmp_path, 1, lines.append) == (
        f"on_failure was ended after 0.2 s: {sys.executable}"
    )
