"""Which files that a job opens are the user's own, and which come and go by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.worker.recording import opening


@pytest.mark.parametrize("variable", ["TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"])
def test_what_a_compiler_keeps_is_no_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Several jobs write there at a time, and none of them depends on what it finds."""
    kept = tmp_path / "kept" / "x2"
    kept.mkdir(parents=True)
    (kept / "code.py").write_text("1")
    assert opening.own_file(kept / "code.py") == str(kept / "code.py")
    # torch states its own folder late, with the process running.
    monkeypatch.setenv(variable, str(tmp_path / "kept"))
    assert opening.own_file(kept / "code.py") is None
    (tmp_path / "kept.py").write_text("1")
    assert opening.own_file(tmp_path / "kept.py") == str(tmp_path / "kept.py")


def test_a_cache_without_a_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "relative")
    (tmp_path / "weights.bin").write_text("1")
    assert opening.own_file("weights.bin") == str(tmp_path / "weights.bin")
