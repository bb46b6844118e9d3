"""``python -m converter bundle RUN_DIR NAME[/ARTIFACT] [-o DIR]``: a file to hand to others.

The file is verified once more against its source, in a process of its own, and laid out with the
inputs and PyTorch's outputs of two samples, a script that compares them, and what it is. The folder
appears whole or not at all. Exit code 0: it is there; 1: the file is not right, or could not be
verified; 2: there is nothing to bundle, or the folder is in use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.display import notice
from converter.model.errors import ExitCode
from converter.model.plaintext import plain

SUMMARY = "a folder to hand on, with test data: RUN_DIR NAME[/ARTIFACT] [-o DIR]"


def main(argv: Sequence[str]) -> int:
    """Make the folder and say what is in it.

    Raises:
        ConfigError: there is no such run, model or file, or the folder is in use.
        RunError: the folder cannot be written.
    """
    parser = Parser(prog="python -m converter bundle", description=SUMMARY)
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="such as outputs/zoo/latest")
    parser.add_argument("name", metavar="NAME", help="a model of that run, or NAME/ARTIFACT")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="a new folder; default: NAME-bundle"
    )
    arguments = parser.parse_args(argv)
    from converter.runner import bundling  # now: help answers without pydantic

    name: str = arguments.name
    folder: Path = arguments.output or Path(f"{name.replace('/', '.')}-bundle")
    notice.show("loading torch …")
    made = bundling.bundle(arguments.run, name, folder)
    notice.clear()
    error = made.result.error
    if error is None:
        for part in [*(part.path for part in made.result.files), bundling.README]:
            print(folder / part)
        print(f"\npython {folder / 'check.py'}")
        return ExitCode.OK
    print(f"{name}: no bundle: {error.code}: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"    {error.hint}", file=sys.stderr)
    # Of a wrong file the error says where.
    if error.stage not in ("verify", "publish") and made.log:
        print("the end of its log:", *map(plain, made.log), sep="\n    ", file=sys.stderr)
    return ExitCode.MODELS_FAILED
