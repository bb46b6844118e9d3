"""Which axis a length counts along: ``fill: lengths`` with its ``of``."""

from __future__ import annotations

from collections.abc import Mapping

from converter.model.inputs import InputSpec


def place(
    name: str, inputs: Mapping[str, InputSpec], axes: Mapping[str, Mapping[int, str]]
) -> tuple[str, int] | None:
    """The input and the axis whose size no length exceeds; ``None``: there is none such.

    Args:
        name: of the input of lengths.
        axes: input name → axis → symbol.
    """
    of = inputs[name].of
    if of is None:
        return _beside(name, inputs)
    for other, symbols in axes.items():
        for axis, symbol in symbols.items():
            if symbol == of and other in inputs and other != name:
                return other, axis
    other, _, number = of.rpartition(".")
    if other in inputs and number.isdecimal() and int(number) < len(inputs[other].shape):
        return other, int(number)
    return None


def _beside(name: str, inputs: Mapping[str, InputSpec]) -> tuple[str, int] | None:
    """Axis 1 of the first other input with as many rows."""
    rows = inputs[name].shape[:1]
    for other, spec in inputs.items():
        if other != name and rows and len(spec.shape) > 1 and spec.shape[0] == rows[0]:
            return other, 1
    return None
