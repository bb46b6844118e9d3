"""Execution providers of ONNX Runtime.

A plugin of this kind is a module that has what ``Provider`` lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from converter.model.spec import Frozen
from converter.plugins import loader


class Provider(Protocol):
    """What a plugin has.

    Attributes:
        NAME: what ONNX Runtime calls it.
        Options: its provider options with their defaults, as text: keys of
            ``benchmark.options.NAME``. A module without them has none.
        DEVICE: where its tensors are, ``cpu`` or ``cuda``; on ``cuda`` they are bound there before
            they are timed, and PyTorch is timed there too.
        FALLBACKS: modules here whose providers take the nodes that it leaves, before the CPU does.
        INSTALL: what to do where this build of ONNX Runtime does not have it.
        LOAD_HINT: what to do where the build has it, and it does not start.

    The one that is in every build says ``VERIFIES = True``: files are verified on it.
    """

    NAME: str
    Options: type[Frozen]
    DEVICE: str
    FALLBACKS: tuple[str, ...]
    INSTALL: str
    LOAD_HINT: str

    def prepare(self) -> None:
        """Load and set what it needs, before the first session that it has in a process."""


def options(provider: Provider, stated: Mapping[str, Any]) -> dict[str, str]:
    """All options of a provider, as ONNX Runtime takes them."""
    return loader.options_of(provider).model_validate(dict(stated)).model_dump()


@cache
def standard() -> str:
    """The provider on which files are verified, and which takes the nodes that others leave.

    It comes with the converter: what is installed beside it must not change what verified means.
    """
    plugins = loader.found("providers").values()
    (name,) = [p.name for p in plugins if p.built_in and getattr(p.load(), "VERIFIES", False)]
    return name


def load(name: str) -> Provider:
    """The provider of a name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    provider: Provider = loader.load("providers", name)
    return provider
