"""Names of dynamic axes: those that the list form and ``all`` stand for, and their symbols."""

from __future__ import annotations

from collections.abc import Mapping

from converter.model.inputs import InputSpec
from converter.model.spec import DynamicAxes, EveryAxis

Axes = dict[str, dict[int, str]]


def name_axes(
    axes: DynamicAxes | EveryAxis, inputs: Mapping[str, InputSpec]
) -> dict[str, dict[int, str]]:
    """Name the axes of the list form, and of ``all``: ``<tensor>_dim_<axis>``."""
    if isinstance(axes, str):
        axes = {name: list(range(len(spec.shape))) for name, spec in inputs.items() if spec.shape}
    return {
        tensor: {axis: f"{tensor}_dim_{axis}" for axis in listed}
        if isinstance(listed, list)
        else dict(listed)
        for tensor, listed in axes.items()
    }


def symbols_of(
    axes: Mapping[str, Mapping[int, str]], inputs: Mapping[str, InputSpec]
) -> dict[str, int]:
    """The symbols of inputs, with their sizes in the example."""
    found: dict[str, int] = {}
    for name, spec in inputs.items():
        for axis, symbol in axes.get(name, {}).items():
            if 0 <= axis < len(spec.shape):
                found.setdefault(symbol, spec.shape[axis])
    return found
