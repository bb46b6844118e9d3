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
        BEHIND: modules here whose providers take the nodes that it leaves, before the CPU does.
        INSTALL: what to do where this build of ONNX Runtime does not have it.
        LIBRARIES: what to do where the build has it, and it does not start.
    """

    NAME: str
    OPTIONS: dict[str, str]
    DEVICE: str
    BEHIND: tuple[str, ...]
    INSTALL: str
    LIBRARIES: str

    def prepare(self) -> None:
        """Load and set what it needs, before the first session that it has in a process."""


def load(name: str) -> Provider:
    """The provider of a configuration name."""
    return cast(Provider, importlib.import_module(f"{__name__}.{name}"))
