"""A command or an option that does not exist is answered with what does it."""

from __future__ import annotations

import pytest

from converter.cli import command_line

CONVERT = "To convert one model: python -m converter convert "


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command_line.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("reprot", "Did you mean report?"),
        ("lst", "Did you mean list?"),
        ("conver", "Did you mean convert?"),
        ("run", "A run needs no command: python -m converter +experiment=smoke"),
        ("export", "Did you mean convert?"),
        ("onnxsim", "Did you mean simplify?"),
        ("simplfy", "Did you mean simplify?"),
        ("package", "Did you mean bundle?"),
        ("smoke", "'smoke' is an experiment: python -m converter +experiment=smoke"),
        ("resnet18", f"{CONVERT}torchvision/resnet18 -o resnet18.onnx"),
        ("torchvision/resnet18", f"{CONVERT}torchvision/resnet18 -o resnet18.onnx"),
        ("srcnn", f"{CONVERT}srcnn -o srcnn.onnx"),
        ("a/net.py", f"{CONVERT}a/net.py:CLASS --input x=1x3x224x224 -o net.onnx"),
        ("net.py:Net", f"{CONVERT}net.py:Net --input x=1x3x224x224 -o net.onnx"),
        ("net.pt", f"{CONVERT}net.pt -o net.onnx"),
        ("net.onnx", f"{CONVERT}net.onnx -o net-checked.onnx"),
    ],
)
def test_an_unknown_command(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"usage: unknown command '{word}'. {hint}\n" in told(capsys, word)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--workers", "Write executor.workers=N"),
        ("--workers=4", "Write executor.workers=N"),
        ("--dry-run", "To see what a run would do: python -m converter plan OVERRIDES"),
        ("-V", "Did you mean --version?"),
        ("--multirn", "Did you mean --multirun?"),
        ("--opset=18", "Overrides have no dashes: opset=VALUE."),
        ("--nope", "See python -m converter --help."),
    ],
)
def test_an_unknown_option(option: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    told_of = told(capsys, "+experiment=smoke", option)
    assert f"usage: unrecognized arguments: {option}. {hint}\n" in told_of


def test_a_folder_of_the_name_of_a_command_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no folder" in told(capsys, "--config-dir", "list", "+experiment=smoke")
