"""``python -m converter history EXPERIMENT [MODEL]``: an experiment over its nights."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.cli.arguments import Parser
from converter.cli.commands import _arguments
from converter.display import notice
from converter.display.screen import Paragraph, Screen
from converter.finalize.history import OUTPUTS
from converter.model.errors import ConfigError, ExitCode, RunError
from converter.model.wording import did_you_mean
from converter.trends import page, report, words
from converter.trends.strips import History, Strip

_COMMAND = "history"
SUMMARY = "an experiment over its nights: EXPERIMENT [MODEL] [--json] [--nights N] [--rebuild]"


def main(argv: Sequence[str]) -> int:
    """Print each model's nights, or one model night by night; ``--rebuild`` writes the page too.

    Raises:
        ConfigError: there is no such experiment or model, or it has no night.
        RunError: the history cannot be read or written.
    """
    parser = Parser(prog="python -m converter history", description=SUMMARY)
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", help="its name, or the folder of its runs"
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="one model, night by night")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--nights",
        metavar="N",
        type=_positive,
        default=page.NIGHTS,
        help=f"only the last N (default {page.NIGHTS})",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="make history.sqlite and history.html again from the run directories",
    )
    arguments = parser.parse_args(argv)
    home = _home(arguments.experiment)
    notice.show("reading the nights …")
    try:
        found, notes = report.read(home, arguments.nights, anew=arguments.rebuild)
        if arguments.rebuild:
            report.write(home)
    except OSError as error:
        raise RunError(f"{error.filename or home}: {error.strerror or error}") from error
    finally:
        notice.clear()
    for note in notes:
        # Not on stdout, which may be one JSON object.
        print(f"note: {note}.", file=sys.stderr)
    if not found.nights:
        raise _no_night(home)
    _print(_narrowed(found, arguments.model), arguments, home)
    return ExitCode.OK


def _print(found: History, arguments: argparse.Namespace, home: Path) -> None:
    if arguments.json:
        print(json.dumps(words.record(found), indent=2, ensure_ascii=False))
        return
    screen = Screen(sys.stdout)
    parts: list[Paragraph]
    if arguments.model is None:
        parts = words.paragraphs(found, screen.width)
        if (home / page.FILE).is_file():
            parts.append(str(home / page.FILE))
    else:
        parts = [words.heading(found)]
        parts += [part for strip in found.strips for part in words.model(strip, found)]
    screen(*parts)


def _home(text: str) -> Path:
    """The folder of an experiment's runs.

    Raises:
        ConfigError: there is none.
    """
    named = os.sep in text or text in (".", "..")
    home = Path(text) if named else Path(OUTPUTS) / text
    if home.is_dir():
        return home
    known = [name for name in _arguments.names(home.parent, "*/") if not name.startswith(".")]
    hint = did_you_mean(home.name, known)
    if not known:
        hint = "The runs of an experiment are in outputs/EXPERIMENT, below where they were started."
    raise _arguments.usage(_COMMAND, f"there are no runs of '{text}': {home} does not exist.", hint)


def _no_night(home: Path) -> ConfigError:
    hint = (
        "A night is a run of +experiment=NAME that converted all of its models: no point of a "
        "sweep, and none that select has narrowed."
    )
    return _arguments.usage(_COMMAND, f"{home} holds no night.", hint)


def _narrowed(found: History, model: str | None) -> History:
    """The history of a model with all its artifacts, or of one of these.

    Raises:
        ConfigError: no night has it.
    """
    if model is None:
        return found
    strips = [strip for strip in found.strips if model in (strip.model, strip.label)]
    if not strips:
        known = sorted({name for strip in found.strips for name in _names(strip)})
        message = f"no night of {found.experiment} has a model '{model}'."
        raise _arguments.usage(_COMMAND, message, did_you_mean(model, known))
    return found.of(strips)


def _names(strip: Strip) -> tuple[str, str]:
    return strip.model, strip.label


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of nights")
    return number
