"""Interpolations: resolved once, with every problem told, and closed to the environment.

``${oc.env:NAME}`` reads only what the environment variable ``CONVERTER_ENV`` lists. What a
configuration resolves to goes to the models; records show it unresolved.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from converter.config import nodes
from converter.model.errors import ConfigError, Problem

ALLOWED = "CONVERTER_ENV"
MAX_DEPTH = 50
MAX_ADDED = 10_000
"""How many values interpolations may put into one configuration; each takes 0.1 ms."""
MAX_NESTED = 300
"""How many interpolations may be behind one, and MAX_CHARACTERS in what it comes to."""
MAX_CHARACTERS = 100_000
_SHOWN = 200
NUL = "has a NUL character, which no name or path has."
# Not `None`, which a configuration may state as the default.
_ABSENT = object()


def install() -> None:
    """Register the resolvers of ``configs/config.yaml`` and close ``oc.env``."""
    # OmegaConf has one table of resolvers for the process, and its own oc.env reads every variable.
    OmegaConf.register_new_resolver("oc.env", _environment, replace=True)
    OmegaConf.register_new_resolver("experiment", _experiment, replace=True)
    if not isinstance(Container.resolve_parse_tree, _Bounded):
        Container.resolve_parse_tree = _Bounded(Container.resolve_parse_tree)  # type: ignore[method-assign]


def resolve(config: DictConfig, without: str) -> dict[str, Any]:
    """Plain values of a configuration, but for one section.

    Raises:
        ConfigError: all interpolations that do not resolve and values that are missing.
    """
    # OmegaConf's own way stops at the first problem and lets `${a}${a}` multiply without a limit.
    walk = _Walk()
    names = [name for name in config if name != without]
    resolved = walk.mapping(config, names, "", 0)
    if walk.problems:
        raise ConfigError(walk.problems)
    return resolved


def overrides(config: DictConfig) -> list[str]:
    """What the command line changed, as written: iterating over it would resolve it."""
    return [str(text) for text in _plain(config.hydra.overrides.task)]


def config_dir(config: DictConfig) -> str | None:
    """The folder of configurations that the command named, from where it was started."""
    cwd = Path(config.hydra.runtime.cwd)
    for source in config.hydra.runtime.get("config_sources") or ():
        if source.provider == "command-line":
            path = Path(source.path)
            return str(path.relative_to(cwd) if path.is_relative_to(cwd) else path)
    return None


def experiment(config: DictConfig) -> str:
    """The name of the experiment, safe for a folder; a list is joined with ``+``."""
    choice = config.hydra.runtime.choices.get("experiment")
    # Of a list Hydra keeps no choice: what was written tells it.
    written = [text for text in overrides(config) if re.match(r"\+{0,2}experiment=", text)]
    text = written[-1].partition("=")[2] if written else str(choice or "")
    names = [name.replace("/", "-").strip("-.") for name in re.findall(r"[\w./-]+", text)]
    return "+".join(name for name in names if name) or "adhoc"


def refuse_copied_environment(config: DictConfig) -> None:
    """``hydra.job.env_copy`` is another way to read the environment: the same names may pass.

    Raises:
        ConfigError: it names a variable that may not be read.
    """
    for name in config.hydra.job.env_copy:
        _refuse_unlisted(name)


def reason(error: OmegaConfBaseException) -> str:
    """The first line of what OmegaConf says, without the type of the exception inside it."""
    lines = str(error).splitlines()
    first = lines[0] if lines else type(error).__name__
    return re.sub(r"^\w+ (raised )?while resolving interpolation: ", "", first).rstrip(".")


class _WithoutEndError(InterpolationResolutionError):
    """An interpolation that leads through too many others, or comes to too much."""


class _Bounded:
    """OmegaConf's resolution of one interpolation, with an end: `${a}${a}` doubles at each level.

    OmegaConf has no limit of its own, and no other place that sees each step before it is taken.
    """

    def __init__(self, resolve: Callable[..., Any]) -> None:
        self._resolve = resolve
        self._depth = 0
        self._steps = 0

    def __get__(self, node: Any, owner: type | None = None) -> Any:
        return self if node is None else partial(self, node)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._steps = self._steps + 1 if self._depth else 0
        if self._steps > MAX_NESTED:
            raise _WithoutEndError(f"it leads through more than {MAX_NESTED} other interpolations")
        self._depth += 1
        try:
            found = self._resolve(*args, **kwargs)
        finally:
            self._depth -= 1
        if isinstance(found, str) and len(found) > MAX_CHARACTERS:
            raise _WithoutEndError(f"it comes to more than {MAX_CHARACTERS} characters")
        return found


class _Walk:
    """One pass over a configuration."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._added = 0
        self._deepest = 0
        self._known: dict[int, _Made] = {}

    def mapping(
        self, node: DictConfig, keys: Iterable[Any], path: str, depth: int, added: bool = False
    ) -> dict[Any, Any]:
        return {key: self._item(node, key, _join(path, key), depth, added) for key in keys}

    def _item(
        self, node: DictConfig | ListConfig, key: Any, path: str, depth: int, added: bool
    ) -> Any:
        """Args: added: an interpolation put ``node`` there."""
        child = nodes.child(node, key)
        literal = nodes.is_literal(child)
        added = added or (not literal and OmegaConf.is_interpolation(node, key))
        self._count(int(added), depth, path)
        value = nodes.value(child) if literal else self._resolved(node, key, path)
        if isinstance(value, str) and "\0" in value:
            self.problems.append(Problem(path, NUL))
        if isinstance(value, DictConfig | ListConfig):
            return self._container(value, path, depth + 1, added)
        return value

    def _resolved(self, node: DictConfig | ListConfig, key: Any, path: str) -> Any:
        """What a key comes to; ``None`` where that is a problem."""
        # Asked first: reading it raises, as an interpolation that fails does.
        if OmegaConf.is_missing(node, key):
            self.problems.append(Problem(path, "a value is missing (???).", f"Give {path}=VALUE."))
            return None
        try:
            return node[key]
        except OmegaConfBaseException as error:
            written = str(_plain(node)[key])
            shown = written if len(written) <= _SHOWN else f"{written[: _SHOWN - 1]}…"
            message = f"{shown} cannot be resolved: {reason(error)}."
            self.problems.append(Problem(path, message))
            if isinstance(error, _WithoutEndError):  # others will take as long
                raise ConfigError(self.problems) from error
            return None

    def _count(self, values: int, depth: int, path: str) -> None:
        # While they are made: 20 levels of `[${a}, ${a}]` are a million values, and the limit has
        # to hold before they are there.
        self._added += values
        self._deepest = max(self._deepest, depth)
        if self._added > MAX_ADDED or depth > MAX_DEPTH:
            message = f"interpolations add more than the limit of {MAX_ADDED} values"
            raise ConfigError(Problem(path, f"{message} (or {MAX_DEPTH} levels)."))

    def _container(self, node: DictConfig | ListConfig, path: str, depth: int, added: bool) -> Any:
        """What a node comes to; one that interpolations put to several places is resolved once."""
        if added and (known := self._known.get(id(node))) is not None:
            self._count(known.added, depth + known.levels, path)
            return copy.deepcopy(known.value)
        before, outside, self._deepest = self._added, self._deepest, depth
        value: Any
        if isinstance(node, DictConfig):
            value = self.mapping(node, list(node), path, depth, added)
        else:
            indices = range(len(node))
            value = [self._item(node, i, _join(path, i), depth, added) for i in indices]
        if added:
            levels = self._deepest - depth
            self._known[id(node)] = _Made(node, value, self._added - before, levels)
        self._deepest = max(self._deepest, outside)
        return value


@dataclass(frozen=True)
class _Made:
    """What a node came to, and of how much; the node is kept, so that its `id` is its own."""

    node: Any
    value: Any
    added: int
    levels: int


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _experiment(*, _root_: DictConfig) -> str:
    return experiment(_root_)


def _environment(name: str, default: Any = _ABSENT) -> str | None:
    _refuse_unlisted(name)
    if name in os.environ:
        return os.environ[name]
    if default is _ABSENT:
        raise ConfigError(f"the environment variable {name} is not set")
    return None if default is None else str(default)


def _refuse_unlisted(name: str) -> None:
    listed = [item.strip() for item in os.environ.get(ALLOWED, "").split(",") if item.strip()]
    if name not in listed:
        # The name may be told. The value never is: it may be a secret.
        names = ",".join([*listed, name])
        raise ConfigError(
            f"the environment variable {name} may not be read here "
            f"(to allow it: export {ALLOWED}={names})"
        )
