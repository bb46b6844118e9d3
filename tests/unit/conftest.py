"""A user's own folder of configurations, and the points that a command line composes from it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from converter.cli import command_line
from converter.config.point import Point
from converter.model.errors import ConverterError, ExitCode
from converter.sweep import launch

Composer = Callable[..., list[Point]]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own configurations; the working directory is beside them."""
    files = {
        "model/mine.yaml": "# @package models.mine\nsource: conv_bn_relu\nopset: {min: 13}\n",
        "model/other.yaml": "# @package models.other\nsource: conv_bn_relu\n",
        "experiment/one.yaml": "# @package _global_\ndefaults:\n  - /model: [mine]\nseed: 1\n",
        "experiment/two.yaml": "# @package _global_\ndefaults:\n  - /model: [other]\n",
    }
    for name, text in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "mine"


@pytest.fixture
def composed(folder: Path) -> Composer:
    """The points of a command line."""

    def compose_points(*words: str) -> list[Point]:
        points: list[Point] = []

        def task(point: Point) -> ExitCode:
            points.append(point)
            return ExitCode.OK

        def report(error: ConverterError, name: str) -> ExitCode:
            raise error

        launch.run(arguments("--config-dir", str(folder), *words), task, report)
        return points

    return compose_points


def arguments(*words: str) -> Namespace:
    return command_line.parser().parse_intermixed_args(words)


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in this process, with the user's folder: exit code, stdout, stderr."""

    def command(*words: str) -> tuple[int, str, str]:
        code = command_line.main(["--config-dir", str(folder), *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command
