"""The packages whose versions decide what a file looks like."""

from __future__ import annotations

from functools import cache

import converter
from converter.layout import environment
from converter.plugins import loader

# What every conversion uses; a plugin states its own.
_LIBRARIES = (
    "torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript",
    "onnx-ir", "numpy", "hydra-core", "pydantic",
)  # fmt: skip
_KINDS = ("exporters", "simplifiers", "variants", "providers")


@cache
def of_plugins(kind: str) -> tuple[str, ...]:
    """The packages of the plugins of a kind.

    One that another distribution brought is not imported for that: its distribution stands for it.
    """
    found = dict[str, None]()
    for plugin in loader.found(kind).values():
        named = loader.packages_of(plugin.load()) if plugin.built_in else (plugin.distribution,)
        found |= dict.fromkeys(named)
    return tuple(found)


def names() -> list[str]:
    """All of them, installed or not."""
    found = [*_LIBRARIES, *(name for kind in _KINDS for name in of_plugins(kind))]
    return list(dict.fromkeys(found))


def versions() -> dict[str, str | None]:
    """Version of each; ``None``: not installed."""
    return {"converter": converter.__version__, **_installed()}


@cache
def _installed() -> dict[str, str | None]:
    """Read once a process: a file of metadata is as long as the package's own readme."""
    return {name: environment.version(name) for name in names()}
