"""Simplifiers: an ONNX model made smaller, with the same results.

A plugin of this kind is a module that has what ``Simplifier`` lists. It gets a loaded,
checked model, never a path (onnxsim follows external data out of the model's folder),
and is never trusted: ``converter.worker.onnxfile.simplification`` decides whether its result ships.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from converter.model.base import Frozen
from converter.plugins import loader

if TYPE_CHECKING:
    from onnx import ModelProto


class Simplifier(Protocol):
    """What a plugin has.

    Attributes:
        PRELOAD: libraries that are imported once for all jobs; others by the jobs that use them.
        PACKAGES: distributions whose versions decide what it makes; one that is not there, or is
            empty, leaves that to the version of the plugin's own distribution.
        Options: its options, which are keys of its preset (``simplifier.KEY``).
    """

    PRELOAD: tuple[str, ...]
    PACKAGES: tuple[str, ...]
    Options: type[Frozen]

    def simplify(self, model: ModelProto, options: Any) -> ModelProto:
        """The simplified model. Whatever it raises costs the simplification only."""


def load(name: str) -> Simplifier:
    """The simplifier of a name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    simplifier: Simplifier = loader.load("simplifiers", name)
    return simplifier
