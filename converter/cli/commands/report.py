"""``python -m converter report RUN_DIR``: render the reports of a run again from its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from converter.cli.arguments import Parser
from converter.layout import runfiles
from converter.layout.runfiles import MANIFEST
from converter.model.errors import ConfigError, ExitCode, Problem, RunError
from converter.model.manifest import Manifest
from converter.model.wording import did_you_mean
from converter.plugins import loader, reports

SUMMARY = "write report.html and the other reports again: RUN_DIR"


def main(argv: Sequence[str]) -> int:
    """Write every report of a run and print their paths.

    Raises:
        ConfigError: there is no such run, or its manifest cannot be read.
        RunError: its folder cannot be written.
    """
    parser = Parser(prog="python -m converter report", description=SUMMARY)
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="such as outputs/zoo/latest")
    directory = parser.parse_args(argv).run
    # The manifest of a killed run is the one of its start: what it finished is in results.jsonl.
    recorded = runfiles.with_partial_results(_manifest(directory), directory)
    try:
        # All of them: the manifest does not say which of them the run was to write.
        paths = reports.write(recorded, directory, loader.names("reports"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot write into {directory}: {reason}") from error
    for path in paths:
        print(path)
    return ExitCode.OK


def _manifest(directory: Path) -> Manifest:
    if not directory.is_dir():
        siblings = sorted(path.name for path in directory.parent.glob("*/"))
        raise _usage(
            f"there is no run directory {directory}.", did_you_mean(directory.name, siblings)
        )
    if not (directory / MANIFEST).is_file():
        points = sorted(path.parent.name for path in directory.glob(f"*/{MANIFEST}"))
        hint = "Name the folder of a run, such as outputs/zoo/latest."
        if points:
            hint = f"Take one of the runs in it: {', '.join(points)}."
        raise _usage(f"{directory} holds no run: there is no {MANIFEST}.", hint)
    try:
        return runfiles.read(directory)
    except OSError as error:
        reason = error.strerror or str(error)
        raise _usage(f"{directory / MANIFEST} cannot be read: {reason}.", "") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        found = f"{where}: {first['msg']}" if where else first["msg"]
        hint = "It must be as this version of the converter wrote it."
        raise _usage(f"{directory / MANIFEST} cannot be read: {found}.", hint) from error


def _usage(message: str, hint: str) -> ConfigError:
    return ConfigError(Problem("report", message, hint))
