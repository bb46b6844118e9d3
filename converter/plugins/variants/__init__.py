"""Variants: further artifacts of a model, made from its ONNX file.

A plugin of this kind is a module that has what ``Variant`` lists. It makes files and has no way to
say that they are right: ``converter.worker.pipeline.derive`` checks, verifies and seals them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from converter.model.spec import Frozen
from converter.plugins import loader


class Variant(Protocol):
    """What a plugin has.

    Attributes:
        FORMAT: of its files: ``onnx``.
        PRECISION: of weights and computation: ``float32``, ``float16``. A file that came out
            otherwise is refused, and the bounds of its verification follow from it.
        PACKAGES: distributions whose versions decide what it makes.
        Options: its options, which are keys of its preset (``variant.NAME.KEY``).
    """

    FORMAT: str
    PRECISION: str
    PACKAGES: tuple[str, ...]
    Options: type[Frozen]

    def keeps_io(self, options: Any) -> bool:
        """Whether inputs and outputs keep their types; else floats are of ``PRECISION`` too."""

    def derive(self, parent: Path, target: Path, options: Any) -> None:
        """Write ``target``, and beside it only ``target.data`` for external data.

        Args:
            parent: the verified ONNX file; it must stay as it is.
            target: in an empty folder of its own.

        Raises:
            ValueError: the model cannot be made so; a sentence that says why.
        """


def load(name: str) -> Variant:
    """The plugin of a name.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    variant: Variant = loader.load("variants", name)
    return variant
