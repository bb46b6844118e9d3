"""``python -m converter debug RUN_DIR NAME[/ARTIFACT] [-o DIR]``: where a file begins to be wrong.

The model is converted again, in a process of its own, and the values of its graph are held against
those of a computation that is right: PyTorch's, the graph before it was simplified, the same file
without ONNX Runtime's optimisations, on the CPU, or in float32. What is found is written as a
report to file upstream, with a model of those nodes alone, their inputs and twenty lines that show
it. Exit code 0: the node is found, or the file is right now; 1: it could not be found; 2: there is
no such run or model, or the folder is in use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.display import notice
from converter.model.errors import ExitCode

SUMMARY = "the first wrong node of a wrong file: RUN_DIR NAME[/ARTIFACT] [-o DIR]"


def main(argv: Sequence[str]) -> int:
    """Find the node and say where it is.

    Raises:
        ConfigError: there is no such run or model, or the folder is in use.
        RunError: the folder cannot be written.
    """
    parser = Parser(prog="python -m converter debug", description=SUMMARY)
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="such as outputs/zoo/latest")
    parser.add_argument("name", metavar="NAME", help="a model of that run, or NAME/fp16")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="a new folder; default: NAME-debug"
    )
    arguments = parser.parse_args(argv)
    from converter.runner import debugging  # now: help answers without pydantic

    name: str = arguments.name
    folder: Path = arguments.output or Path(f"{name.replace('/', '-')}-debug")
    notice.show("loading torch …")
    done = debugging.debug(arguments.run, name, folder)
    notice.clear()
    error = done.result.error
    if error is not None:
        print(f"{name}: nothing found: {error.code}: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"    {error.hint}", file=sys.stderr)
        if done.log:
            print("the end of its log:", *done.log, sep="\n    ", file=sys.stderr)
        return ExitCode.MODELS_FAILED
    if not done.result.files:
        print(f"{name}: the file is right now, on all cases")
        return ExitCode.OK
    print(f"{name}: {done.title}")
    for part in done.result.files:
        print(folder / part.path)
    return ExitCode.OK
