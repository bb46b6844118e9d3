"""``bundle`` refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.cli import command_line
from converter.model.errors import Code
from converter.model.job import Bundle
from converter.model.records import ProviderVerdict
from converter.runner import bundling


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command_line.main(["bundle", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "night").mkdir()
    err = told(capsys, str(tmp_path / "nihgt"), "net")
    assert f"bundle: there is no run directory {tmp_path / 'nihgt'}. Did you mean night?" in err
    assert "bundle: " in (err := told(capsys, str(tmp_path / "night"), "net"))
    assert "holds no models of a run." in err


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        (["traced", "second", "large"], [0, 1]),
        (["traced", "dark", "second"], [0, 2]),
        (["traced", "dark", "large"], [0, 1]),
        (["traced"], [0]),
    ],
)
def test_the_samples_that_go_along(labels: list[str], chosen: list[int]) -> None:
    assert Bundle.samples(labels) == chosen


def test_what_another_runtime_gave_names_no_folder_of_this_machine() -> None:
    reason = (
        'killed by SIGSEGV; log: File "/home/me/venv/openvino/_ov_api.py", line 646; a/b of /Conv'
    )
    told = bundling._wrong(
        ProviderVerdict(
            provider="openvino", version="openvino 2026.4.1", status="failed", code=Code.SIGNAL,
            reason=reason,
        )
    )  # fmt: skip
    assert told == (
        "**wrong on openvino 2026.4.1**: SIGNAL: killed by SIGSEGV; log: File "
        '"…/_ov_api.py", line 646; a/b of /Conv'
    )
