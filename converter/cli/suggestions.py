"""What somebody may have meant whose command or option does not exist."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from converter.model.errors import Problem

_HELP = "See python -m converter --help."
_RUN = "python -m converter +experiment=smoke"
_CONVERT = "convert"
# Words of other tools: what does it here.
_ELSEWHERE = {
    "run": f"A run needs no command: {_RUN}",
    "start": f"A run needs no command: {_RUN}",
    "ls": "Did you mean list?",
    "models": "Did you mean list?",
    "diff": "Did you mean compare?",
    "show": "Did you mean view (a report) or inspect (a file)?",
    "open": "Did you mean view?",
    "check": "Did you mean verify (a run) or doctor (this machine)?",
    "dry-run": "Did you mean plan?",
    "continue": "Did you mean resume?",
    "cache": "Did you mean store?",
    "clean": "Did you mean store?",
    "export": f"Did you mean {_CONVERT}?",
    "optimize": "Did you mean simplify?",
    "package": "Did you mean bundle?",
    "pack": "Did you mean bundle?",
    "pull": "Did you mean fetch?",
    "get": "Did you mean fetch?",
    "download": "Did you mean fetch?",
    "help": "Did you mean --help?",
    "version": "Did you mean --version?",
}
_OPTIONS = {
    "-V": "Did you mean --version?",
    "-v": "Did you mean --version? For tracebacks: --debug",
    "--verbose": "For tracebacks: --debug",
    "--workers": "Write executor.workers=N",
    "--jobs": "Write executor.workers=N",
    "-j": "Write executor.workers=N",
    "--dry-run": "To see what a run would do: python -m converter plan OVERRIDES",
    "-n": "To see what a run would do: python -m converter plan OVERRIDES",
    "--output": "Write hydra.run.dir=DIR",
    "--output-dir": "Write hydra.run.dir=DIR",
    "-o": "Write hydra.run.dir=DIR",
    "--gpu": "Write device=cuda, or benchmark=cuda to time the files there",
    "--config": "A file of your own is read from a folder: --config-dir DIR",
    "--config-name": "Name an experiment: +experiment=NAME",
}
_SUFFIXES = (".py", ".onnx", ".pt", ".pt2", ".pth")


def unknown_command(name: str, known: Sequence[str]) -> Problem:
    """The refusal of a first word that is no command, with what it may stand for."""
    message = f"unknown command '{name}'."
    if hint := _model(name) or _ELSEWHERE.get(name.casefold(), ""):
        return Problem("usage", message, hint)
    from converter.config.standard import configs
    from converter.model import wording  # slow to import
    from converter.plugins import loader

    if name.casefold() in loader.names("simplifiers"):  # the command of such a package
        return Problem("usage", message, "Did you mean simplify?")
    if (configs() / "experiment" / f"{name}.yaml").is_file():
        hint = f"'{name}' is an experiment: python -m converter +experiment={name}"
        return Problem("usage", message, hint)
    if close := wording.near(name, known):
        return Problem("usage", message, f"Did you mean {' or '.join(close)}?")
    hint = f"The commands are: {', '.join(known)}. An override is written key=value. {_HELP}"
    return Problem("usage", message, hint)


def late_command(words: Sequence[str], known: Sequence[str]) -> Problem | None:
    """The refusal of a command that does not come first; ``None``: there is none."""
    for place, word in enumerate(words):
        value_of = words[place - 1] if place else ""
        if word in known and value_of not in ("--config-dir", "-cd", "--package", "-p"):
            line = shlex.join(["python", "-m", "converter", word, *_without(words, place)])
            return Problem("usage", f"the command '{word}' comes first.", f"Write {line}")
    return None


def for_option(message: str, parser: argparse.ArgumentParser) -> str:
    """What to write in place of an option that argparse refuses, from what it says."""
    found = re.match(r"unrecognized arguments: (-[\w-]+)", message)
    if found is None:
        return _HELP
    option = found[1]
    if option in _OPTIONS:
        return _OPTIONS[option]
    from converter.model import wording  # slow to import
    from converter.model.batch import BatchSpec

    name = option.lstrip("-")
    own = re.findall(r"--([\w-]+)", parser.format_usage())
    if close := wording.near(name, own):
        return f"Did you mean --{close[0]}?"
    key = name.replace("-", "_")
    # Closer than usual: an option may stand for anything.
    if close := difflib.get_close_matches(key, wording.keys(BatchSpec), n=1, cutoff=0.75):
        return f"Overrides have no dashes: {close[0]}=VALUE."
    return _HELP


def _model(word: str) -> str:
    """How to convert one model, where the word names one."""
    path, _, name = word.partition(":")
    if path.endswith(_SUFFIXES):
        source = f"{path}:{name or 'CLASS'} --input x=1x3x224x224" if path.endswith(".py") else path
        stem = Path(path).stem
        return _to_convert(source, f"{stem}-checked" if path.endswith(".onnx") else stem)
    import registry

    prefix, _, last = word.rpartition("/")
    known = registry.names(word if prefix else f"*{word}")
    sources = [found for found in known if found == word or found.rpartition("/")[2] == word]
    if not sources:
        return ""
    # Of the families the one that every installation has.
    return _to_convert(min(sources, key=lambda name: ("/" in name, name.startswith("timm/"))), last)


def _to_convert(source: str, stem: str) -> str:
    return f"To convert one model: python -m converter {_CONVERT} {source} -o {stem}.onnx"


def _without(words: Sequence[str], place: int) -> list[str]:
    return [*words[:place], *words[place + 1 :]]
