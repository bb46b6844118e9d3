"""Hydra's and OmegaConf's messages in words that say what to do here.

Both raise few types with free text, so the text of Hydra 1.3 is what tells the cases apart;
what no pattern knows keeps its own first line.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from converter.config import standard, strict_yaml
from converter.config.resolution import reason
from converter.model import wording
from converter.model.batch import BatchSpec
from converter.model.errors import ConfigError, Problem
from converter.plugins import loader

# How a plugin is asked for that brought no preset.
_BY_NAME = {
    "exporter": "exporter.name={}", "simplifier": "simplifier.name={}",
    "variant": "+variant.{}={{}}", "executor": "executor.name={}",
}  # fmt: skip
_DEFAULTS = "In a defaults list each item is GROUP: NAME, and the overrides come last."
_RAISED = (
    HydraException, OmegaConfBaseException, ValueError, KeyError, AssertionError, TypeError,
)  # fmt: skip


@contextmanager
def reworded(hydra: Hydra, config_name: str, overrides: Sequence[str]) -> Iterator[None]:
    """Turn what goes wrong while a configuration is composed into a ``ConfigError``.

    For malformed defaults lists Hydra raises built-in exceptions too.
    """
    try:
        yield
    except RecursionError as error:
        message = "a file includes itself, directly or through others."
        hint = "Look at the defaults lists of the files that the command names."
        raise ConfigError(Problem("defaults", message, hint)) from error
    except _RAISED as error:
        context = _Context(hydra, config_name, list(overrides))
        raise ConfigError(context.problem(error)) from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        # Hydra asks the file system for each key, whether it is a group.
        key = Path(str(error.filename)).name
        raise ConfigError(Problem(key, f"cannot be looked up: {error.strerror}.")) from error


def composed(
    hydra: Hydra, config_name: str, overrides: Sequence[str], mode: RunMode
) -> tuple[DictConfig, list[Problem]]:
    """Compose; an override that Hydra refuses is left out, so that it hides nothing else.

    Returns:
        The configuration, and what is wrong with the overrides that it lacks.

    Raises:
        ConfigError: it cannot be composed, or without what was refused nothing true could be
            said about the rest.
    """
    left = list(overrides)
    problems: list[Problem] = []
    while True:
        try:
            with reworded(hydra, config_name, left):
                return hydra.compose_config(config_name, left, mode), problems
        except ConfigError as error:
            problems += error.problems
            keys = {problem.key for problem in error.problems}
            # Some problems name the whole override, others only its key.
            refused = [text for text in left if text in keys or text.split("=")[0] in keys]
            if not refused or any(_decides_models(text) for text in refused):
                raise ConfigError(problems) from error
            # Shorter in each round, since `refused` is not empty here: the loop ends.
            left = [text for text in left if text not in refused]


def _decides_models(override: str) -> bool:
    """Whether it says which models there are, and not only how one of them is converted."""
    key = override.lstrip("+~").split("=")[0]
    # Without one of these, the rest would be judged for models that nobody asked for.
    named = ("experiment", "model", "models", "include", "exclude", "select")
    return key in named or re.fullmatch(r"models\.[^.]*", key) is not None


class _Context:
    """What a message may need to look up: the groups, and the configuration without an override."""

    def __init__(self, hydra: Hydra, config_name: str, overrides: list[str]) -> None:
        self._hydra = hydra
        self._config_name = config_name
        self._overrides = overrides

    def problem(self, error: Exception) -> Problem:
        if isinstance(error, OverrideParseException):
            return _grammar(error)
        # By type where there is one; only then by text.
        if isinstance(error, MissingConfigException):
            return self._missing(error)
        text = str(error)
        # A list of something else than names raises a TypeError in Hydra.
        if isinstance(error, TypeError) or text.startswith("Config group override must be"):
            for group, _, value in (o.lstrip("+").partition("=") for o in self._overrides):
                # Neither a name nor a list of names.
                if re.fullmatch(r"null|true|false|[-.\d]\S*|\[.*|\{.*", value) and self._options(
                    group
                ):
                    return self._no_choice(group)
        for pattern, method in self._patterns():
            if found := re.search(pattern, text):
                return method(*found.groups())
        # Hydra wraps OmegaConf's errors; only those know their key.
        causes = (error, error.__cause__, error.__context__)
        cause = next((one for one in causes if isinstance(one, OmegaConfBaseException)), None)
        if cause is not None:
            if "Cannot merge DictConfig with ListConfig" in str(cause):
                key = str(cause.full_key or "")
                stated = [o.lstrip("+").partition("=") for o in self._overrides]
                given = [value for name, _, value in stated if name == key]
                return _other_kind(key, text, given[-1] if given else "")
            return Problem(str(cause.full_key or ""), f"{reason(cause)}.")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return Problem("defaults", lines[0] if lines else "Hydra cannot read a list.", _DEFAULTS)

    def _patterns(self) -> list[tuple[str, Callable[..., Problem]]]:
        return [
            (r"To append to your default list use (\S+)", _no_default),
            (r"Could not override '([^']+)'", self._no_key),
            (r"Could not delete from config\. '([^']+)' does not exist", self._no_deletion),
            (r"An item is already at '([^']+)'", _there_already),
            (r"force-add of config groups is not supported: '\+\+([^'=]+)=", self._no_choice),
            (r"Ambiguous value for argument '([^']+)'", _sweep_without_flag),
            (r"value has (\d+) digits", self._long_number),
            (r"Sweep parameters '([^']+)' requires --multirun", _sweep_without_flag),
            (r"^'(\w+)' object is not iterable$", _no_list),
        ]

    def _long_number(self, digits: str) -> Problem:
        # More than Python reads.
        stated = (override for override in self._overrides if re.search(r"\d{1000}", override))
        return Problem(next(stated, "").partition("=")[0], strict_yaml.too_long(int(digits)))

    def _missing(self, error: MissingConfigException) -> Problem:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if not group:
            return Problem("", str(error).splitlines()[0])
        place = re.match(r"In '([^']+)'", str(error))
        where = f"{place[1]}.yaml: " if place and place[1] != self._config_name else ""
        options = list(error.options or self._hydra.config_loader.get_group_options(group))
        if group in _BY_NAME and name in loader.names(f"{group}s"):
            message = f"{where}{name} is a plugin, and no file is its preset."
            return Problem(group, message, f"Write {_BY_NAME[group].format(name)}")
        message = f"{where}there is no {group} '{name}'."
        kind = f"{group}s"
        meant = loader.meant(kind, name) if kind in loader.KINDS else None
        if meant in options:
            return Problem(group, message, f"Did you mean {meant}?")
        return Problem(group, message, wording.did_you_mean(name, options))

    def _no_key(self, key: str) -> Problem:
        """An override of a key that is not there: unknown, or only not stated."""
        stated = next((o for o in self._overrides if o.startswith(f"{key}=")), f"{key}=VALUE")
        parent, part, there = self._first_missing(key)
        if parent == "models" and part in there:  # text, of which nothing is a key
            hint = f"Write it as a mapping, models.{part}: {{source: NAME}}, and change that."
            return Problem(key, f"models.{part} is stated by its source alone.", hint)
        if parent == "models":
            hint = f"{wording.did_you_mean(part, there)} To add it: +models.{part}={{source: NAME}}"
            return Problem(key, f"this run has no model '{part}'.", hint.strip())
        if key.startswith("hydra."):
            return Problem(key, "unknown key.", wording.did_you_mean(part, there))
        kind: Any = BatchSpec
        for step in key.split("."):
            known = wording.keys(kind)
            if step == part:  # the options of a plugin stand in its preset
                known = list(dict.fromkeys([*known, *there]))
            if known and step not in known:
                return Problem(key, "unknown key.", wording.did_you_mean(step, known))
            kind = wording.below(kind, step)
        # The key is right: Hydra takes `key=` only for what some file has stated.
        return Problem(key, "no file of this run states this key.", f"Write ++{stated}")

    def _options(self, group: str) -> list[str]:
        return list(self._hydra.config_loader.get_group_options(group))

    def _no_choice(self, group: str) -> Problem:
        """A value in the place of the name of a preset."""
        options = self._options(group)
        message = f"expected the name of a preset: {' or '.join(options)}."
        return Problem(group, message, f"For one of its keys write ++{group}.KEY=VALUE")

    def _no_deletion(self, key: str) -> Problem:
        _, part, there = self._first_missing(key)
        message = "there is nothing of that name to remove."
        return Problem(f"~{key}", message, wording.did_you_mean(part, there))

    def _first_missing(self, key: str) -> tuple[str, str, list[str]]:
        """Where a dotted key leaves the configuration: parent, missing part, keys there."""
        # Without the override that does not fit: with it, nothing can be composed to look into.
        others = [o for o in self._overrides if o.lstrip("+~").split("=", 1)[0] != key]
        try:
            # As a sweep, where an override may have several values.
            config = self._hydra.compose_config(self._config_name, others, RunMode.MULTIRUN)
        except (HydraException, OmegaConfBaseException):
            config = OmegaConf.create()
        path: list[str] = []
        node: Any = config
        parts = key.split(".")
        for part in parts[:-1]:
            below = node.get(part) if isinstance(node, DictConfig) and part in node else None
            if not isinstance(below, DictConfig):
                return ".".join(path), part, _keys(node)
            node = below
            path.append(part)
        return ".".join(path), parts[-1], _keys(node)


def _keys(node: Any) -> list[str]:
    names = [str(key) for key in node] if isinstance(node, DictConfig) else []
    return [name for name in names if name != "hydra"]


def _other_kind(key: str, text: str, given: str) -> Problem:
    """A list where the configuration has a mapping already, or the other way round.

    Args:
        key: of an override; OmegaConf does not know that of a file.
        text: names the file.
        given: the value of the override.
    """
    where, written = "", "a mapping" if given.startswith("{") else "a list"
    if not key and (name := re.match(r"In '([^']+)'", text)):
        path, content = strict_yaml.last_read(name[1])
        where = f"{path}: "
        key, written = next(_unlike(content, standard.plain()), ("", written))
    if key == "models":
        message = f"{where}found a list; expected a mapping of names to models."
        return Problem(
            key, message, "Write '+models.NAME=SOURCE', in a file models: {NAME: SOURCE}."
        )
    kind: Any = BatchSpec
    for step in key.split("."):
        kind = wording.below(kind, step)
    expected = wording.expected(kind)
    mapping = written == "a mapping"
    if given and expected.startswith("a list, each item a mapping" if mapping else "a list"):
        # Either is right by itself: Hydra merges, and cannot merge the one with the other.
        other = "a list" if mapping else "a mapping"
        message = f"found {written}, where a file of this run has {other}."
        return Problem(key, message, f"To replace that write ~{key} '+{key}={given}'")
    return Problem(key, f"{where}found {written}; expected {expected}.")


def _unlike(found: Any, usual: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The keys with a list for a mapping or a mapping for a list, and which of both they have."""
    for key, value in found.items() if isinstance(found, Mapping) else ():
        before = usual.get(key)
        if isinstance(before, list | dict) and isinstance(value, list | dict):
            if isinstance(before, dict) and isinstance(value, dict):
                yield from _unlike(value, before, f"{path}{key}.")
            elif type(before) is not type(value):
                yield f"{path}{key}", wording.found(value)


def _grammar(error: OverrideParseException) -> Problem:
    lines = [line for line in error.message.splitlines() if not line.startswith(("See ", "Error "))]
    detail = lines[0].strip() if lines else "it cannot be read"
    if "Exception: " in detail:  # of the lexer; what follows only repeats the override
        detail = "a character is not allowed there"
    hint = "Put it in single quotes where it has spaces, brackets or braces."
    key, _, value = error.override.partition("=")
    if re.search("[=%#]", value):
        hint = f"Put the value in quotes of its own inside of the shell's: '{key}=\"{value}\"'"
    return Problem(error.override, f"is not a valid override ({detail}).", hint)


def _no_default(addition: str) -> Problem:
    group = addition.lstrip("+").split("=")[0]
    return Problem(group, "is not in the defaults, so it is added.", f"Write {addition}")


def _no_list(kind: str) -> Problem:
    return Problem("defaults", f"found one {kind}; expected a list.", _DEFAULTS)


def _there_already(key: str) -> Problem:
    return Problem(f"+{key}", "is stated already.", f"Write {key}=VALUE, or ++{key}=VALUE")


def _sweep_without_flag(override: str) -> Problem:
    key, _, values = override.partition("=")
    listed = "" if "(" in values else f"; for a list write {key}=[{values}]"
    return Problem(override, "has several values.", f"For a sweep add -m{listed}")
