"""Execution providers: one file each, whose name is its configuration name."""

from __future__ import annotations

import importlib
from typing import Protocol, cast


class Provider(Protocol):
    """What a module here has.

    Attributes:
        NAME: what ONNX Runtime calls it.
        OPTIONS: its provider options.
        DEVICE: where its tensors are, ``cpu`` or ``cuda``; on ``cuda`` they are bound there before
            they are timed, and PyTorch is timed there too.
        INSTALL: what to do where it is not available.
    """

    NAME: str
    OPTIONS: dict[str, str]
    DEVICE: str
    INSTALL: str


def load(name: str) -> Provider:
    """The provider of a configuration name."""
    return cast(Provider, importlib.import_module(f"{__name__}.{name}"))
