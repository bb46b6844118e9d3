"""The command line: one of the commands, or a Hydra run.

The first word decides: the name of a file in ``converter/cli/commands``, else it is for Hydra. Help
and version answer without importing Hydra.
"""

from __future__ import annotations

import argparse
import ast
import errno
import gc
import os
import shlex
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, NoReturn

import converter
from converter.cli import suggestions, unforeseen
from converter.display import notice
from converter.layout import interrupts
from converter.model.errors import ConfigError, ConverterError, ExitCode, Problem, RunError, told
from converter.model.plaintext import plain

if TYPE_CHECKING:
    from converter.config.point import Point

_COMMANDS = Path(__file__).parent / "commands"
# Objects after which Python looks for garbage, by default 700: rows of many models are none.
_YOUNG = 10_000
_HELP = """\
usage: python -m converter [OVERRIDE ...] [-m] [--config-dir DIR] [--cfg job]
       python -m converter COMMAND ...

Convert the PyTorch models of a configuration to ONNX, verify each file against
its model, and record the run in outputs/<experiment>/<time>/.

  python -m converter +experiment=smoke                    three small models
  python -m converter +experiment=zoo opset=18 'select=[resnet*,srcnn*]'
  python -m converter -m +experiment=smoke opset=13,15,17  a sweep
  python -m converter '+models.mine={source: torchvision/resnet18}'

commands:
%(commands)s

options:
  -m, --multirun     run every point of a sweep
  --config-dir DIR   a folder with models and experiments of your own
  --cfg job|all      print the configuration instead of running;
                     with --resolve, --package KEY
  --info KIND        what it was composed from (defaults, searchpath, ...)
  --hydra-help       Hydra's own help
  --shell-completion install=bash   eval "$(...)" of it: Tab completes
  --debug            print tracebacks
  --version, -h, --help

overrides:     key=value; ~key; ++key=value for a key that its file lacks
environment:   CONVERTER_TRUST  modules and folders whose code may run (a:b)
               CONVERTER_ENV    variables that a configuration may read (A,B)
exit codes:    0 all as expected · 1 a model is not · 2 configuration or usage ·
               3 the run failed · 4 regression · 130, 143 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Taken out here: it may stand anywhere, and neither Hydra's flags nor the parser of a command
    # knows it.
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    thresholds = gc.get_threshold()
    try:
        code = _dispatch(words, debug)
        sys.stdout.flush()  # a reader that went away shows here, not where Python ends
        return code
    except ConverterError as error:
        return _report(error, debug)
    except KeyboardInterrupt as error:
        notice.clear()
        # A run handles its signals itself: this one came before, or a command has none of its own.
        is_term = isinstance(error, interrupts.Terminated)
        how = "terminated" if is_term else "interrupted"
        what = f"{words[0]}: {how}" if _is_command(words) else f"{how} before the run began"
        print(what, file=sys.stderr)
        return ExitCode.TERMINATED if is_term else ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of a listing went away, as `head` does
        # Python flushes once more at its end, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    # The frame around all commands; a model's own errors end in its row (recording/stages.py).
    except Exception as error:
        if debug:
            raise
        notice.clear()
        if _folder_has_gone():
            message = "the folder that this command was started in does not exist any more"
            return _report(ConfigError(Problem("command", message, "Go to one that does.")), debug)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _report(_too_long(error), debug)
        return unforeseen.report(error, words)
    # Also after an error: in a process that calls `main` itself the collector would stay off.
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        notice.clear()
        # Only a run imports it.
        if (exclusive := sys.modules.get("converter.storage.exclusive")) is not None:
            exclusive.release_all()


def script() -> int:
    """The console script: the user's modules are found in this folder, as with ``python -m``."""
    # `python -m` puts the current folder first on the path, a console script its own. With Python's
    # `-P` (PYTHONSAFEPATH) neither is there.
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    return main()


def _folder_has_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _too_long(error: OSError) -> ConverterError:
    """No file system has such a name: wherever it is looked at first, somebody has written it."""
    name, why = str(error.filename), "is longer than a name of a file can be"
    if "converter.runner.start" in sys.modules:
        return RunError(f"{name[:200]}… {why}")
    return ConfigError(Problem(name, f"{why}."))


def _dispatch(words: list[str], debug: bool) -> int:
    _refuse_unread(words)
    if _is_command(words):
        with interrupts.raising():
            return _command(words[0])(words[1:])
    if (late := suggestions.late_command(words, commands())) is not None:
        raise ConfigError(late)
    # Overrides may stand on both sides of a flag, which `parse_args` refuses.
    arguments = parser().parse_intermixed_args(words)
    # Before Hydra is imported: its own help composes first, which takes 0.45 to 0.6 s (1.3.8).
    if arguments.help:
        print(_HELP % {"commands": "\n".join(_listed())}, end="")
        return ExitCode.OK
    if arguments.version:
        print(f"converter {converter.__version__}")
        return ExitCode.OK
    if arguments.shell_completion and (text := _completion(arguments.overrides)) is not None:
        print(text, end="")
        return ExitCode.OK
    # Nothing that is built until the configuration is known becomes garbage: looking for it would
    # take a tenth of the time. `convert` switches it on again.
    gc.disable()
    if not (arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion):
        notice.show("reading the configuration …")
    from converter.sweep import launch

    # Hydra renders `--hydra-help` from the parser in the arguments.
    arguments.parser = parser()
    command = shlex.join(["python", "-m", "converter", *words])
    return launch.run(
        arguments,
        lambda point: convert(point, command),
        lambda error, point: _report(error, debug, point),
    )


def _refuse_unread(words: Sequence[str]) -> None:
    """Refuse words that Python could not decode, where the locale is why."""
    if (encoding := sys.getfilesystemencoding()) == "utf-8":
        return
    for word in words:
        if not word.isascii():
            message = f"Python was told that words and names of files are {encoding}."
            hint = "Set LC_ALL=C.UTF-8, and leave PYTHONUTF8 alone."
            raise ConfigError(Problem(ascii(word)[1:-1], message, hint))


def _completion(overrides: Sequence[str]) -> str | None:
    from converter.cli import completion

    actions = parser()._actions
    flags = {flag for action in actions for flag in action.option_strings if flag[:2] == "--"}
    return completion.run(overrides, flags, commands())


def _is_command(words: Sequence[str]) -> bool:
    # An option or an override begins with one of these, or assigns.
    return bool(words) and words[0][:1] not in ("", *"-+~") and "=" not in words[0]


def convert(point: Point, command: str) -> ExitCode:
    """Run one composed configuration; ``command`` is what the user typed.

    Raises:
        ConfigError: it is wrong.
        RunError: the run cannot go on.
    """
    # Before the run is imported: a wrong configuration does not wait for it.
    from converter.config import validation

    spec = validation.parse(point.config, sweep=point.sweep)
    # All that is here now stays to the end, but for what the configuration was composed of: looking
    # at it again and again would take a tenth of the time of a run of many models.
    gc.unfreeze()  # what an earlier point of a sweep has left
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    gc.enable()
    notice.show("preparing the run …")
    from converter.runner import start

    return start.of_point(point, command, spec=spec)


class _Parser(argparse.ArgumentParser):
    # argparse would print its usage and call `sys.exit`. Here a wrong flag is told like a wrong key
    # of the configuration, by `_report`.
    def error(self, message: str) -> NoReturn:
        raise ConfigError(Problem("usage", f"{message}.", suggestions.for_option(message, self)))


def parser() -> argparse.ArgumentParser:
    """The flags of a run: Hydra's, but for those that have no meaning here."""
    flags = _Parser(prog="python -m converter", add_help=False, allow_abbrev=False)
    flags.add_argument("overrides", nargs="*", help="key=value")
    flags.add_argument("--help", "-h", action="store_true", help="this program's help")
    flags.add_argument("--version", action="store_true", help="this program's version")
    flags.add_argument("--hydra-help", action="store_true", help="Hydra's help")
    flags.add_argument("--multirun", "-m", action="store_true", help="run every point of a sweep")
    flags.add_argument("--config-dir", "-cd", help="a folder with configurations of your own")
    flags.add_argument("--cfg", "-c", choices=["job", "hydra", "all"], help="show, do not run")
    flags.add_argument("--resolve", action="store_true", help="with --cfg: interpolations too")
    flags.add_argument("--package", "-p", help="with --cfg: only this key")
    flags.add_argument(
        "--info",
        "-i",
        choices=["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"],
        help="what the configuration is composed from",
    )
    flags.add_argument("--shell-completion", "-sc", action="store_true", help="as Hydra's")
    return flags


def commands() -> list[str]:
    """The commands, as they are typed."""
    found = (module.name for module in iter_modules([str(_COMMANDS)]))
    # The folder is the list of the commands; what they share begins with an underscore.
    return sorted(name for name in found if not name.startswith("_"))


def summary(command: str) -> str:
    """The ``SUMMARY`` of a command, read without importing it."""
    # Some commands import Hydra and all the types at their top: help must not wait for them.
    tree = ast.parse((_COMMANDS / f"{command}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUMMARY":
            return str(ast.literal_eval(node.value))
    return ""


def _listed() -> Iterator[str]:
    """The commands with their summaries, in 80 columns."""
    known = commands()
    width = max(map(len, known)) + 2
    for name in known:
        lead = f"  {name:<{width}}"
        yield from textwrap.wrap(
            summary(name), 80, initial_indent=lead, subsequent_indent=" " * len(lead)
        )


def _command(name: str) -> Callable[[Sequence[str]], int]:
    known = commands()
    if name not in known:
        raise ConfigError(suggestions.unknown_command(name, known))
    main: Callable[[Sequence[str]], int] = import_module(f"converter.cli.commands.{name}").main
    return main


def _report(error: ConverterError, debug: bool, point: str = "") -> ExitCode:
    """Tell what is wrong on stderr, and give the exit code of its kind.

    What a person or a file has written may be in it, so that it is made safe to print here.
    """
    notice.clear()
    if debug:
        traceback.print_exception(error)
    if isinstance(error, ConfigError):
        number = len(error.problems)
        of = f" of {point}" if point else ""
        print(f"configuration{of}: {number} problem{'s'[: number > 1]}", file=sys.stderr)
        for line in told(error.problems):
            print(f"  {plain(line)}", file=sys.stderr)
        return ExitCode.CONFIG
    print(f"run{' ' + point if point else ''}: {plain(str(error))}", file=sys.stderr)
    return ExitCode.RUN_FAILED
