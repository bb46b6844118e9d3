"""Completion in a real bash: what the documented line installs, and what Tab then gives."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
]

DOCUMENTED = 'eval "$(python -m converter --shell-completion install=bash)"'
# What bash does on Tab, without a terminal; `compopt` works only while it completes.
ASK = """
compopt() { return 0; }
ask() { COMP_LINE=$1; COMP_POINT=${#1}; _converter_completion; echo "${COMPREPLY[*]}"; }
"""


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(REPOSITORY), "HOME": str(folder), "TERM": "dumb"}


def answers(folder: Path, *lines: str) -> list[str]:
    asked = "\n".join(f"ask '{line}'" for line in lines)
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{DOCUMENTED}\n{ASK}\n{asked}"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_line_is_documented() -> None:
    assert DOCUMENTED in (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")


def test_overrides_commands_flags_and_names(tmp_path: Path) -> None:
    (tmp_path / "zoo/experiment").mkdir(parents=True)
    for name in ("own", "o$(touch hacked)"):
        (tmp_path / f"zoo/experiment/{name}.yaml").write_text("# @package _global_\nopset: 18\n")
    python = Path(sys.executable)
    assert answers(
        tmp_path,
        "python -m converter +experiment=s",
        "python -m converter +experiment=smoke models.simple_c",
        "python -m converter compare.lat",
        "python -m converter veri",
        "python -m converter doc",
        "python -m converter bund",
        "python -m converter simplif",
        "python -m converter --conf",
        "python -m converter list torchvision/resnet1",
        "python -m converter --config-dir zoo +experiment=o",
        f"{python.parent / 'python'} -m converter +experiment=zo",
        "python -m converter plan +experiment=ni",
        "python other.py +experiment=s",
    ) == [
        "seeds smoke",  # what follows the `=`: bash keeps what stands before it
        "models.simple_cnn.",
        "compare.latency=",
        "verify verify. verify=",  # the command, or a key
        "doctor",
        "bundle",
        "simplifier. simplifier= simplify simplify=",
        "--config-dir",
        "torchvision/resnet101 torchvision/resnet152 torchvision/resnet18",
        "opset_sweep own",
        "zoo",
        "nightly",
        "",
    ]
    assert not (tmp_path / "hacked").exists()


def test_tab_completes_what_is_typed(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "-i"], environment(tmp_path))
    try:
        os.write(terminal, f"{DOCUMENTED}; echo rea''dy\n".encode())
        _read(terminal, "ready")
        os.write(terminal, b"python -m converter +experiment=smo\t")
        assert "+experiment=smoke" in _read(terminal, "smoke")
    finally:
        os.write(terminal, b"\x03exit\n")
        os.close(terminal)
        os.waitpid(child, 0)


def _read(terminal: int, awaited: str, seconds: float = 60) -> str:
    """What the terminal shows until ``awaited`` is on it, without control sequences."""
    shown, end = "", time.monotonic() + seconds
    while awaited not in shown:
        assert time.monotonic() < end, f"{awaited!r} never came:\n{shown}"
        shown += os.read(terminal, 4096).decode(errors="replace")
        shown = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]|\x07|\r", "", shown)
    return shown


def test_what_it_takes_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "converter", "--shell-completion", "bash"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "takes install=SHELL or uninstall=SHELL" in done.stderr
    assert DOCUMENTED in done.stderr
