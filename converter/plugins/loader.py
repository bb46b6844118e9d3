"""The names that a kind of plugin answers to: the files of its folder, none imported."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

_PLUGINS = Path(__file__).resolve().parent
_COMMANDS = _PLUGINS.parent / "cli" / "commands"


def names(kind: str) -> list[str]:
    """The plugins of a folder (``exporters``, ``simplifiers``, ``executors``, ``commands``, …)."""
    found = (module.name for module in iter_modules([str(_folder(kind))]))
    return sorted(name for name in found if not name.startswith("_"))


def path(kind: str, name: str) -> Path:
    """The file of a plugin."""
    return _folder(kind) / f"{name}.py"


def _folder(kind: str) -> Path:
    return _COMMANDS if kind == "commands" else _PLUGINS / kind
