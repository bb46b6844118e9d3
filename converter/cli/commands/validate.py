"""``python -m converter validate FILE...``: files of a zoo, checked without running anything.

Each is composed as a run would compose it, and its keys and values are checked. Exit code 0: a run
could use all of them; 2: not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.config import zoo_files
from converter.model.errors import ExitCode, told
from converter.model.plaintext import plain

SUMMARY = "check models, experiments and presets without running them: FILE..."


def main(argv: Sequence[str]) -> int:
    """Check files, and tell what is wrong with each."""
    parser = Parser(prog="python -m converter validate", description=SUMMARY)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="model/a.yaml")
    files: list[Path] = parser.parse_args(argv).files
    wrong = 0
    for file in files:
        found = zoo_files.problems(file)
        wrong += bool(found)
        for line in told(found):
            print(plain(f"{file}: {line}"), file=sys.stderr)
    print(f"{len(files)} file{'s' * (len(files) != 1)}: {len(files) - wrong} right, {wrong} wrong")
    return ExitCode.CONFIG if wrong else ExitCode.OK
