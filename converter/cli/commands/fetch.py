"""``python -m converter fetch ZOO NAME[/ARTIFACT] [-o DIR]``: a model of a published folder or URL.

The files that its index names are copied, and each copy is hashed. The folder appears whole or not
at all. Exit code 0: it is there; 1: a file is not what the index says; 2: there is no such model,
the index is damaged, or the folder is in use.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.model.errors import ExitCode
from converter.model.plaintext import plain

SUMMARY = "copy a published model and verify its hashes: ZOO NAME[/ARTIFACT] [-o DIR]"


def main(argv: Sequence[str]) -> int:
    """Copy the files and say how they are opened.

    Raises:
        ConfigError: there is no such place or model, or the folder is in use.
        RunError: something cannot be read or written.
    """
    parser = Parser(prog="python -m converter fetch", description=SUMMARY)
    parser.add_argument("zoo", metavar="ZOO", help="a folder or URL of publish_to")
    parser.add_argument("name", metavar="NAME", help="a model of it, or NAME/ARTIFACT")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="a new folder; default: NAME"
    )
    arguments = parser.parse_args(argv)
    from converter.cli.commands._arguments import usage  # now: help answers without pydantic
    from converter.finalize import fetching, loading
    from converter.storage import location

    name: str = arguments.name
    try:
        place = location.parse(arguments.zoo, Path())
    except ValueError as error:
        raise usage("fetch", f"{location.masked(arguments.zoo)} {error}.") from error
    try:
        made = fetching.fetch(place, name, arguments.output or Path(name.replace("/", ".")))
    except fetching.DamagedError as error:
        print(plain(f"{name}: not fetched: {error}"), file=sys.stderr)
        return ExitCode.MODELS_FAILED
    print(*(plain(str(path)) for path in made.files), sep="\n")
    if told := loading.lines(str(made.files[0]), made.inputs):
        print("", *map(plain, told), sep="\n")
    for note in made.notes:
        print(plain(f"note: {note}"), file=sys.stderr)
    return ExitCode.OK
