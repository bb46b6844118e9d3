"""``python -m converter init DIR``: a zoo of one's own that runs, to be changed from there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.model.errors import ConfigError, ExitCode, Problem, RunError
from converter.model.plaintext import plain

SUMMARY = "make a zoo of your own that runs: DIR"

_TEMPLATE = Path(__file__).parents[1] / "zoo_template"


def main(argv: Sequence[str]) -> int:
    """Write the files and say what to do with them.

    Raises:
        ConfigError: the folder holds something already.
        RunError: it cannot be written.
    """
    parser = Parser(prog="python -m converter init", description=SUMMARY)
    parser.add_argument("directory", metavar="DIR", type=Path, help="a new or an empty folder")
    folder: Path = parser.parse_args(argv).directory
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(Problem("init", f"{folder} is in use.", "Name a new or an empty folder."))
    try:
        shutil.copytree(_TEMPLATE, folder, dirs_exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from error
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(plain(str(path)))
    print(plain(f"\ncd {folder}"))
    print("CONVERTER_TRUST=. python -m converter --config-dir . +experiment=mine")
    return ExitCode.OK
