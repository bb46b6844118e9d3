"""Finds plugins: those of this package and those that installed distributions announce.

A built-in plugin is a file of its kind's folder; families of models are in ``registry``. Another
distribution announces its own as an entry point of the group ``converter.KIND``, whose value is a
module::

    [project.entry-points."converter.exporters"]
    mine = "my_package.exporter"

The value of ``converter.configs`` is a package that holds configuration groups (``experiment/``,
``model/``, …). Else a plugin is a module that has what ``converter.plugins.KIND`` describes. The
parent process imports it as well, so that it must not import torch, onnx or ONNX Runtime at its
top: it does so in its functions, or in a module beside it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ValidationError

from converter.model.base import Frozen
from converter.model.batch import ExecutorSpec, PublishSpec, SimplifierSpec
from converter.model.errors import ConfigError, Problem
from converter.model.spec import VariantSpec

T = TypeVar("T")

KINDS = (
    "exporters", "simplifiers", "variants", "providers", "executors", "reports", "layouts",
    "models", "configs",
)  # fmt: skip
BUILT_IN = "onnx-zoo-converter"
"""The distribution of the plugins that are here."""

# What importing somebody's module may raise: it must not end a run that does not ask for it.
_BROKEN = (
    ImportError, SyntaxError, AttributeError, TypeError, ValueError, NameError, LookupError,
    RuntimeError, OSError, ArithmeticError, SystemExit,
)  # fmt: skip
# What `load` looks for at once; the package of each kind says what it is for.
_PARTS = {
    "exporters": ("SOURCES", "CAPTURE", "OPSETS", "NATIVE_OPSET", "unsuited", "export"),
    "simplifiers": ("simplify",),
    "variants": ("FORMAT", "PRECISION", "PACKAGES", "keeps_io", "derive"),
    "providers": ("NAME", "DEVICE", "FALLBACKS", "prepare"),
    "executors": ("create",),
    "reports": ("FILE", "render"),
    "layouts": ("NUMBERED", "OUTSIDE", "left_out", "sets", "identity", "texts"),
}
# The kinds whose options stand among the keys of a group.
_OF_GROUPS: dict[str, type[Frozen]] = {
    "simplifiers": SimplifierSpec, "variants": VariantSpec, "executors": ExecutorSpec,
    "layouts": PublishSpec,
}  # fmt: skip
# Modules that have been found to be what their kind asks for.
_WHOLE: set[tuple[str, ModuleType]] = set()
_FOLDER = Path(__file__).resolve().parent
_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Plugin:
    """One plugin, not imported yet.

    Attributes:
        name: as configurations call it.
        module: where it is imported from.
        distribution: what it was installed with.
    """

    kind: str
    name: str
    module: str
    distribution: str

    @property
    def version(self) -> str:
        return version(self.distribution)

    @property
    def built_in(self) -> bool:
        return self.distribution == BUILT_IN

    def path(self) -> Path | None:
        """Its file, where it can be found without importing it."""
        if self.built_in:
            return _FOLDER / self.kind / f"{self.name}.py"
        # Of a dotted name this imports the packages above it, and not the module.
        found = find_spec(self.module)
        return Path(found.origin) if found is not None and found.origin else None

    def load(self) -> Any:
        """The module.

        Raises:
            ConfigError: its distribution cannot be imported.
        """
        try:
            found = importlib.import_module(self.module)
        except _BROKEN as error:
            why = f"{type(error).__name__}: {error}"
            raise self.broken(f"cannot be imported: {why}") from error
        if (self.kind, found) in _WHOLE:  # it is asked for once for each job
            return found
        # Told now, by name: else the first job that uses the part would fail in the middle of a
        # run.
        parts = _PARTS.get(self.kind, ())
        missing = [name for name in parts if not hasattr(found, name)]
        if missing:
            raise self.broken(f"has no {', '.join(missing)}")
        # Constants have capital letters.
        wrong = [name for name in parts if name.islower() and not callable(getattr(found, name))]
        if wrong:
            raise self.broken(f"has no function {', '.join(wrong)}")
        if not isinstance(packages_of(found), tuple):
            raise self.broken("has PACKAGES that are no tuple of names")
        options = options_of(found)
        if not _is_options(options):
            raise self.broken("has Options that are no subclass of converter.model.base.Frozen")
        shadowed = _OF_GROUPS.get(self.kind, Frozen).model_fields.keys() & options.model_fields
        if shadowed:
            keys = ", ".join(sorted(shadowed))
            raise self.broken(f"has Options of a name that its group has already: {keys}")
        _WHOLE.add((self.kind, found))
        return found

    def call(self, work: Callable[[], T]) -> T:
        """What code of the plugin gives here, in the parent process.

        Raises:
            pydantic.ValidationError: its options are not of their types.
            ConfigError: it raises something else.
        """
        try:
            return work()
        except ValidationError:
            raise
        except _BROKEN as error:
            why = f"{type(error).__name__}: {error}"
            raise self.broken(f"raises {why} where its options are read") from error

    def broken(self, why: str) -> ConfigError:
        """The refusal of a plugin that is not what its kind asks for."""
        message = f"the plugin of {self.distribution} {why}."
        hint = f"Mend it, or remove {self.distribution}."
        return ConfigError(Problem(f"{self.kind}.{self.name}", message, hint))


def _is_options(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Frozen)


def options_of(plugin: Any) -> type[Frozen]:
    """The options of a plugin's module; one that states none takes none."""
    options: type[Frozen] = getattr(plugin, "Options", Frozen)
    return options


def packages_of(plugin: Any) -> tuple[str, ...]:
    """The distributions, beside those that every job uses, whose versions decide what it makes."""
    packages: tuple[str, ...] = getattr(plugin, "PACKAGES", ())
    return packages


# Once a process: `entry_points` reads the metadata of every installed distribution.
@cache
def found(kind: str) -> dict[str, Plugin]:
    """All plugins of a kind by their names, none imported.

    Raises:
        ConfigError: two have one name.
    """
    return combined(kind, _announced(kind))


def _announced(kind: str) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=f"converter.{kind}")
    # One file that cannot be read hides those of all other distributions.
    except ValueError as error:
        unreadable = [d.name for d in distributions() if not _is_readable(d)]
        message = f"the entry points of {', '.join(unreadable)} cannot be read: {error}."
        hint = f"Install {' and '.join(unreadable)} again, or remove it."
        raise ConfigError(Problem("plugins", message, hint)) from error


def _is_readable(distribution: Distribution) -> bool:
    try:
        return bool(distribution.entry_points) or True
    except ValueError:
        return False


def every() -> list[Plugin]:
    """The plugins of all kinds; families of models that are here stand in ``registry``."""
    return [plugin for kind in KINDS for plugin in found(kind).values()]


def combined(kind: str, announced: Iterable[EntryPoint]) -> dict[str, Plugin]:
    """The built-in plugins of a kind and those that other distributions announce.

    Raises:
        ConfigError: two have one name.
    """
    # Read from the folder: the parent knows a plugin without importing it.
    names = (module.name for module in iter_modules([str(_FOLDER / kind)]))
    plugins = {
        name: Plugin(kind, name, f"{_PACKAGE}.{kind}.{name}", BUILT_IN)
        for name in sorted(names)
        if not name.startswith("_")  # that is what plugins of a folder share
    }
    for point in announced:
        distribution = point.dist.name if point.dist is not None else "unknown"
        # An empty value has no module: told when it is asked for, like one that is not there.
        module = point.module if point.pattern.match(point.value) else ""
        plugin = Plugin(kind, point.name, module, distribution)
        other = plugins.setdefault(point.name, plugin)
        if other != plugin:
            raise ConfigError(
                Problem(
                    f"{kind}.{point.name}",
                    f"two plugins have this name: {other.module} of {other.distribution} and "
                    f"{plugin.module} of {plugin.distribution}.",
                    "Uninstall one of the two.",
                )
            )
    return plugins


def names(kind: str) -> list[str]:
    """What a configuration may name."""
    return list(found(kind))


def meant(kind: str, name: str) -> str | None:
    """The plugin that others call by this name (its ``ALSO_CALLED``), or ``None``."""
    for plugin in found(kind).values():
        if plugin.built_in and name.casefold() in getattr(plugin.load(), "ALSO_CALLED", ()):
            return plugin.name
    return None


def load(kind: str, name: str) -> Any:
    """The module of a plugin.

    Raises:
        ConfigError: there is none of that name, or it cannot be imported.
    """
    if name not in found(kind):
        known = ", ".join(names(kind))
        message = f"found '{name}', expected one of {known}."
        raise ConfigError(Problem(f"{kind.removesuffix('s')}.name", message))
    return found(kind)[name].load()
