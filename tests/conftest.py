"""What every test shares: a clean environment, and the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell exports must not decide a test; one thread, two cores."""
    colours = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
    for name in ("CONVERTER_TRUST", "CONVERTER_ENV", "HYDRA_FULL_ERROR", *colours):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def converter_command(tmp_path: Path) -> Command:
    """Run ``python -m converter ARGS`` in ``tmp_path``, never in the repository."""

    def run(
        *arguments: str, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "converter", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
