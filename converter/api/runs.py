"""Run a configuration from Python: the same road as from the command line."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from converter.config.point import Point
from converter.layout import runfiles
from converter.model.errors import ConfigError, ConverterError, ExitCode, Problem
from converter.model.manifest import Manifest
from converter.runner import start
from converter.sweep import launch


@dataclass(frozen=True)
class Run:
    """A run that has come to its end.

    Attributes:
        directory: where its files, logs and reports are.
        exit_code: as that of the command; 0 when every model is as expected.
        manifest: what became of each model.
    """

    directory: Path
    exit_code: ExitCode
    manifest: Manifest


def run(*overrides: str, config_dir: str | Path | None = None, quiet: bool = False) -> Run:
    """Convert what a configuration lists, as ``python -m converter OVERRIDES`` does.

    A model that fails raises nothing: it is in the manifest, and in the exit code.

    Args:
        overrides: ``+experiment=zoo``, ``opset=18``: what the command line takes.
        config_dir: a folder with models and experiments of your own.
        quiet: print nothing; run.log has it all.

    Raises:
        ConfigError: the configuration is wrong, or is a sweep; nothing was started.
        RunError: the run itself cannot go on.
    """
    if not all(isinstance(text, str) for text in overrides):
        raise ConfigError(Problem("run", "an override is text, such as 'opset=18'."))
    return started(overrides, config_dir, quiet, shlex.join(["converter.run", *overrides]))


def started(
    overrides: Sequence[str],
    config_dir: str | Path | None,
    quiet: bool,
    command: str,
    again: str = "",
) -> Run:
    """Like ``run``.

    Args:
        command: what the user typed, for the log.
        again: how to go on where it was stopped; by default ``resume``.
    """
    claimed: list[Path] = []

    def task(point: Point) -> ExitCode:
        if point.sweep:
            hint = "Use the command line, or one call of converter.run for each point."
            raise ConfigError(Problem("run", "this configuration is a sweep.", hint))
        return start.of_point(point, command, claimed.append, again=again)

    with _silence() if quiet else contextlib.nullcontext():
        folder = None if config_dir is None else str(config_dir)
        code = launch.compose_and_run(list(overrides), task, _raise, config_dir=folder)
    (directory,) = claimed
    return Run(directory, code, runfiles.read(directory))


def quoted(path: Path) -> str:
    """A path as the value of an override, whatever is in its name."""
    # Hydra (1.3) leaves a backslash alone that is not before a quote.
    escaped = str(path).replace("'", "\\'")
    return f"'{escaped}'"


def _raise(error: ConverterError, point: str) -> NoReturn:
    raise error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
