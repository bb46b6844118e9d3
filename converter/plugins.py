"""The names that a kind of plugin answers to: the files of its folder, none imported."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

_PACKAGE = Path(__file__).resolve().parent


def names(kind: str) -> list[str]:
    """The plugins of a folder (``exporters``, ``simplifiers``, ``executors``, ``verbs``, …)."""
    found = (module.name for module in iter_modules([str(_PACKAGE / kind)]))
    return sorted(name for name in found if not name.startswith("_"))


def path(kind: str, name: str) -> Path:
    """The file of a plugin."""
    return _PACKAGE / kind / f"{name}.py"
