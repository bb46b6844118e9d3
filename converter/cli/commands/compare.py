"""``python -m converter compare OLD NEW``: what changed from one run to another, and what is worse.

Slower models are timed again on this machine, the two files alternating, where both runs still
have them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.compare import wording
from converter.display import notice
from converter.display.screen import Screen
from converter.finalize import baseline
from converter.model import manifest
from converter.model.batch import CompareSpec
from converter.model.errors import ExitCode
from converter.model.manifest import Manifest
from converter.runner import finalize

SUMMARY = "what is worse from one run to the next: OLD NEW [--json]"


def main(argv: Sequence[str]) -> int:
    """Print the comparison; exit code 4 where something is worse.

    Raises:
        ConfigError: one of the two is no run.
    """
    limits = CompareSpec()
    parser = Parser(prog="python -m converter compare", description=SUMMARY)
    parser.add_argument("old", metavar="OLD", type=Path, help="a run directory or a manifest")
    parser.add_argument("new", metavar="NEW", type=Path, help="the same, of the later run")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    # From the type: a key that is added to `compare` is a flag here, with the same default.
    for name, field in CompareSpec.model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_number,
            default=getattr(limits, name),
            metavar="NUMBER",
            help=f"as the key compare.{name} (default {field.default:g})",
        )
    arguments = parser.parse_args(argv)
    old = baseline.load(arguments.old.absolute(), "compare")
    new = baseline.load(arguments.new.absolute(), "compare")
    stated = {name: getattr(arguments, name) for name in CompareSpec.model_fields}
    notice.show("comparing …")
    found = finalize.compared(old, new, CompareSpec.model_validate(stated))
    notice.clear()
    for path, run in ((arguments.old, old), (arguments.new, new)):
        if words := _unknown(path, run.manifest):
            # Not on stdout, which may be one JSON object.
            print(words, file=sys.stderr)
    if arguments.json:
        print(manifest.dump(found), end="")
    else:
        Screen(sys.stdout)("\n".join(wording.lines(found)))
    return ExitCode.REGRESSION if found.verdict == "regression" else ExitCode.OK


def _unknown(path: Path, run: Manifest) -> str | None:
    """What a run that did not come to its end says nothing of."""
    count = sum(row.status == "not_run" for row in run.models)
    if not count:
        return None
    return f"{path} has not come to its end: {count} of {len(run.models)} models were not run"


def _number(text: str) -> float:
    """A limit; argparse tells what is wrong with it."""
    value = float(text)
    # `float` reads nan and inf too. No growth is above either: nothing would ever be worse.
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"found {text}; expected a number of 0 or more")
    return value
