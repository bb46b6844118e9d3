"""The models that the converter offers by name, looked up without importing torch.

Two kinds of module live in this folder, and nothing lists them but the folder itself:

* A model module (``conv_bn_relu.py``) is ordinary torch code with a literal
  ``SOURCES = {name: {...}}``. It is read with ``ast``, never executed, by the parent.
* A family module (``torchvision_zoo.py``) offers the models of a library. It is free of
  torch, states a literal ``PREFIX`` and has ``names()`` and ``entry(name)``; it is imported
  only when a name or a pattern needs it. A distribution that announces a module as entry point
  ``NAME`` of ``converter.models`` offers a family too, whose prefix is ``NAME/``.

A worker builds a model with ``getattr(import_module(entry.module), entry.builder)(**kwargs)``.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Protocol, cast

from converter.model.errors import ConfigError, Problem
from converter.plugins import loader

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Entry:
    """What a configuration may leave unsaid about a model.

    Attributes:
        name: as written in ``source:``.
        task: what the model is for (``classification``); torchvision's folders give theirs.
        module: the Python module that has ``builder``; a worker imports it.
        inputs: defaults, each as ``converter.model.inputs.InputSpec``, in order of ``forward``.
        outputs: names; empty where their number depends on the arguments.
        parameters: what the builder takes, with the default of each (``None`` if required).
        kwargs: arguments that the builder is always given; a configuration's ``kwargs`` win.
        defaults: other keys of ``converter.model.spec.ModelSpec``, for what every use needs.
    """

    name: str
    task: str
    module: str
    builder: str
    inputs: Mapping[str, Mapping[str, Any]]
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """How large a model is, as its library says.

    Attributes:
        parameters: elements of all weights.
        operations: multiply-adds of one forward pass; 0: nobody says.
    """

    parameters: int
    operations: float = 0.0


class Family(Protocol):
    """A module that offers the models of an installed library."""

    def names(self) -> tuple[str, ...]:
        """Every name, with the prefix; none when the library is not installed."""

    def entry(self, name: str) -> Entry | None:
        """The entry of a name, or ``None``."""


def find(name: str) -> Entry | None:
    """The entry of a registry name, or ``None`` if there is none."""
    # By the prefix alone: what is not of a family does not import one.
    prefix = family(name)
    return _family(prefix).entry(name) if prefix else _own().get(name)


def published(name: str) -> tuple[str, ...] | None:
    """The names of a model's published weights; ``None``: they show only in its library."""
    prefix = family(name)
    # Of a family that can tell: timm's tags are made when it is imported.
    tell = getattr(_family(prefix), "published", None) if prefix else None
    found: tuple[str, ...] | None = tell(name) if tell is not None else None
    return found


def size(name: str) -> Size | None:
    """How large a model is; ``None``: nobody says without building it."""
    prefix = family(name)
    tell = getattr(_family(prefix), "size", None) if prefix else None
    found: Size | None = tell(name) if tell is not None else None
    return found


def names(pattern: str = "*") -> list[str]:
    """The names that match a glob, sorted within each kind: own models, then the families'."""
    found = sorted(name for name in _own() if fnmatchcase(name, pattern))
    # What stands before the first wildcard. `res*` imports no family; `torchv*` and
    # `torchvision/res*` import one, whose names they may match.
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    for prefix in _modules()[1]:
        if prefix.startswith(literal) or literal.startswith(prefix):
            found += sorted(n for n in _family(prefix).names() if fnmatchcase(n, pattern))
    return found


def nearest(name: str) -> list[str]:
    """Up to three names that someone who wrote ``name`` may have meant, best first."""
    prefix = family(name)
    inside = _nearest(name, _family(prefix).names()) if prefix else []
    # Those of the family that was written come first.
    return [*inside, *(known for known in _nearest(name, names()) if known not in inside)][:3]


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    # By the last part: `resnt18` and `timm/resnt18` are both near `torchvision/resnet18`.
    by_last: dict[str, list[str]] = {}
    for one in known:
        by_last.setdefault(_last(one), []).append(one)
    close = difflib.get_close_matches(_last(name), by_last, n=3)
    return [one for word in close for one in by_last[word] if one != name]


def family(name: str) -> str | None:
    """The prefix (``torchvision/``) of the family that a name belongs to, known or not."""
    return next((prefix for prefix in _modules()[1] if name.startswith(prefix)), None)


def parameters_of(signature: ast.arguments) -> dict[str, Any]:
    """Names and defaults of a builder, from its source; ``None`` stands for "required"."""
    positional = [*signature.posonlyargs, *signature.args]
    # `ast` gives the defaults of positional arguments for the last of them only; of keyword-only
    # ones None stands where there is no default.
    required = len(positional) - len(signature.defaults)
    defaults: list[ast.expr | None] = [*[None] * required, *signature.defaults]
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
    return {argument.arg: _value(default) for argument, default in pairs}


def _value(default: ast.expr | None) -> Any:
    if default is None:
        return None
    try:
        return ast.literal_eval(default)
    except ValueError:  # a name: show it as it stands in the source
        return ast.unparse(default)


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


@cache
def _modules() -> tuple[dict[str, tuple[dict[str, Any], ast.Module]], dict[str, str]]:
    """The folder, read once: module → (its SOURCES, its tree), and prefix → family module.

    Raises:
        ConfigError: two families have one prefix.
    """
    own: dict[str, tuple[dict[str, Any], ast.Module]] = {}
    families: dict[str, str] = {}
    for found in iter_modules([str(FOLDER)]):
        tree = ast.parse((FOLDER / f"{found.name}.py").read_text(encoding="utf-8"))
        literals = dict(_literals(tree))
        if "SOURCES" in literals:
            own[found.name] = literals["SOURCES"], tree
        elif "PREFIX" in literals:
            families[literals["PREFIX"]] = f"{__name__}.{found.name}"
    for plugin in loader.found("models").values():
        prefix = f"{plugin.name}/"
        if families.setdefault(prefix, plugin.module) != plugin.module:
            message = f"{plugin.distribution} announces a family that is here: {families[prefix]}."
            raise ConfigError(Problem(f"models.{plugin.name}", message, "Uninstall it."))
    return own, families


def _literals(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            # Only these are read: `literal_eval` raises for other constants, which may be anything.
            if name in ("SOURCES", "PREFIX"):
                yield name, ast.literal_eval(node.value)


@cache
def _family(prefix: str) -> Family:
    return cast(Family, import_module(_modules()[1][prefix]))


@cache
def _own() -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for module, (sources, tree) in _modules()[0].items():
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for name, source in sources.items():
            builder = source.get("builder", "build")
            entries[name] = Entry(
                name=name,
                task=source["task"],
                module=f"{__name__}.{module}",
                builder=builder,
                inputs=source["inputs"],
                outputs=tuple(source["outputs"]),
                parameters=parameters_of(functions[builder].args),
                kwargs=source.get("kwargs", {}),
                defaults=_absolute(source.get("defaults", {})),
            )
    return entries


def _absolute(defaults: dict[str, Any]) -> dict[str, Any]:
    """Resolve a checkpoint, which a source names relative to this folder."""
    weights = defaults.get("weights")
    if not isinstance(weights, dict):
        return defaults
    path = str(FOLDER / weights["checkpoint"])
    return {**defaults, "weights": {**weights, "checkpoint": path}}
