"""For tests of your own: does a model become a right ONNX file?

pytest finds the fixture ``converter_zoo`` by itself where the converter is installed; see
``converter.pytest_plugin``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converter.api.given import Inputs
from converter.api.runs import quoted
from converter.api.single import Converted, convert

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251 - for the type only

__all__ = ["assert_converts"]


def assert_converts(
    model: str | nn.Module,
    inputs: Inputs = None,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    opset: int | None = None,
    variants: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Converted:
    """Convert a model and verify it against PyTorch; its files are gone afterwards.

    Args:
        model: as of ``converter.convert``.
        inputs: as of ``converter.convert``.

    Raises:
        AssertionError: it does not convert, or the file is not what PyTorch computes. A
            ``ConversionFailed``, whose message has the code, the reason and what to do.
        ConfigError: what was asked for is not possible.
    """
    with tempfile.TemporaryDirectory(prefix="converter-test-") as folder:
        place = f"hydra.run.dir={quoted(Path(folder) / 'run')}"
        return convert(
            model,
            inputs,
            dynamic=dynamic,
            opset=opset,
            variants=variants,
            overrides=[place, "store.use=false", *overrides],
        )
