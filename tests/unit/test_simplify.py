"""``simplify`` refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.cli import command_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nte.onnx", "out.onnx"], "simplify: nte.onnx does not exist. Did you mean net.onnx"),
        (["net.onnx", "out.bin"], "--output: out.bin is no name of an ONNX file here."),
        (["net.onnx", "no/out.onnx"], "--output: there is no folder no."),
        (
            ["net.onnx", "./net.onnx"],
            "simplify: the file would be overwritten before anybody could",
        ),
        (["net.onnx", "link.onnx"], "Write beside it: net-simplified.onnx"),
        (["net.onnx", "out.onnx"], "simplify: net.onnx is damaged or not ONNX: "),
        (["net.onnx", "out.onnx", "--input", "x=1,3"], "simplify: net.onnx is damaged or not ONNX"),
        (["--", "-net.onnx", "out.onnx"], "simplify: -net.onnx does not exist. Did you mean net"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(b"junk")
    Path("link.onnx").hardlink_to("net.onnx")
    assert command_line.main(["simplify", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, said in err) == ("", True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.onnx", "net.onnx"]


def test_two_files_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["simplify", "net.onnx"])
    assert ended.value.code == 2
    assert "IN.onnx and OUT.onnx are required" in capsys.readouterr().err
