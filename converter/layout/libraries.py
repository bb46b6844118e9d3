"""What is installed, and what is a user's own code: told by where a file lies.

An installed package changes by being installed again and counts by its version. Everything else
may be edited at any time and counts by its content.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Mapping
from functools import cache
from typing import Any

LIBRARIES = {
    "torchvision": ("weights", "weights_backbone", "pretrained", "pretrained_backbone"),
    "timm": ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
}
"""The libraries whose models are offered, with the arguments of their builders that are known to
load weights. A worker refuses whatever else turns out to load some."""

# Debian's Python installs into `dist-packages`.
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def is_library(path: str | os.PathLike[str]) -> bool:
    """Does a file or folder belong to the standard library or to the installed packages?"""
    place = f"{os.fspath(path)}{os.sep}"
    return place.startswith(_standard()) or any(name in place for name in _INSTALLED)


def is_standard(path: str | os.PathLike[str]) -> bool:
    """Does a file belong to the standard library?"""
    # `site-packages` lies inside of the standard library's folder.
    place = os.fspath(path)
    return place.startswith(_standard()) and not any(name in place for name in _INSTALLED)


def loading_arguments(library: str, kwargs: Mapping[str, Any]) -> list[str]:
    """Those of some arguments that make a builder of torchvision or timm load weights."""
    known = LIBRARIES.get(library, ())
    return [name for name, value in kwargs.items() if name in known and value not in (None, False)]


@cache
def _standard() -> tuple[str, ...]:
    return tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
