"""Inputs as Python has them, in the terms of a configuration: tensors, arrays, shapes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from converter.model.errors import ConfigError, Problem
from converter.model.inputs import holds_fractions

Inputs: TypeAlias = Any
"""A tensor, array or shape for each argument of forward: by name, in a list, or a single one."""


def parameters(model: Any) -> list[str]:
    """The names of forward's arguments that may be given by their place."""
    taken = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(model.forward)
    except ValueError:  # of what torch.jit.trace makes
        return []
    return [name for name, one in signature.parameters.items() if one.kind in taken]


def check(model: Any, dynamic: Any, variants: Any, overrides: Any) -> None:
    """Refuse arguments of another kind, which would fail later in words of Python.

    Raises:
        ConfigError: the first that is wrong.
    """
    if isinstance(model, type):
        hint = f"Make one: {model.__name__}(…)"
        raise ConfigError(Problem("model", f"{model.__name__} is a class.", hint))
    if not isinstance(model, str) and not hasattr(model, "state_dict"):
        message = f"found {type(model).__name__}; expected a torch.nn.Module or a source in words."
        raise ConfigError(Problem("model", message))
    axes = isinstance(dynamic, Mapping) and all(isinstance(a, Mapping) for a in dynamic.values())
    if dynamic is not None and not axes:
        message = "expected a mapping of inputs to mappings of axes to names."
        raise ConfigError(Problem("dynamic", message, "Write {'x': {0: 'batch'}}"))
    for key, value in {"variants": variants, "overrides": overrides}.items():
        if isinstance(value, str):
            raise ConfigError(Problem(key, f"found text; write ['{value}']."))


def stated(inputs: Inputs, names: Sequence[str] | None, folder: Path | None) -> dict[str, Any]:
    """``inputs`` and ``cases`` of a request.

    A tensor says of which shape, dtype and range inputs are; those are drawn, since a single input
    shows little, and the tensor itself is one more case.

    Args:
        names: of forward's arguments, where they are known.
        folder: takes the values of tensors; ``None``: only their shapes and ranges count.

    Raises:
        ConfigError: names are missing, or one is no tensor, array or shape.
    """
    given: dict[str, Any] = {}
    declared = {name: _tree(name, value, given) for name, value in _listed(inputs, names).items()}
    # A constant is declared with its value already.
    arrays = {n: v for n, v in given.items() if _is_array(v) and "value" not in _declared(v)}
    if folder is None or not arrays:
        return {"inputs": declared, "cases": ()}
    paths = {name: str(folder / f"{number}.npy") for number, name in enumerate(arrays)}
    for name, array in arrays.items():
        _save(paths[name], array)
    case = {"label": "given", "inputs": {name: {"path": path} for name, path in paths.items()}}
    return {"inputs": declared, "cases": (case,)}


def _tree(path: str, value: Any, given: dict[str, Any]) -> Any:
    """A value as a configuration states it; what stands in for a tensor is put into ``given``."""
    if isinstance(value, (list, tuple)) and not _is_shape(value):
        return [_tree(f"{path}.{index}", item, given) for index, item in enumerate(value)]
    if isinstance(value, Mapping) and not _is_stated(value):
        return {str(key): _tree(f"{path}.{key}", item, given) for key, item in value.items()}
    given[path] = _array(path, value)
    return _declared(given[path])


def _is_stated(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is an input in the terms of a configuration, and no tree of tensors."""
    return "_target_" in value or not any(
        _is_array(item) or (isinstance(item, Mapping | list | tuple) and not _is_shape(item))
        for item in value.values()
    )


def _listed(inputs: Inputs, names: Sequence[str] | None) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    # A shape is a tuple as well: of numbers, where a list of inputs has none.
    several = isinstance(inputs, (list, tuple)) and not _is_shape(inputs)
    values = list(inputs) if several else [] if inputs is None else [inputs]
    known = list(names or ())[: len(values)]
    if len(known) < len(values):
        hint = "Name them: inputs={'x': (1, 3, 64, 64)}"
        raise ConfigError(Problem("inputs", "their names are not known.", hint))
    return dict(zip(known, values, strict=True))


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(size) is int for size in value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _array(name: str, value: Any) -> Any:
    """A tensor as an array; what is none stays what it is."""
    if isinstance(value, Mapping) or _is_shape(value):
        return value
    # By what they can do: here are neither torch nor NumPy.
    try:
        found = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    except TypeError:  # bfloat16
        dtype = str(value.dtype).removeprefix("torch.")
        message = f"NumPy has no {dtype}, so that its values cannot be passed on."
        hint = f"State it: {{'{name}': {{'shape': {list(value.shape)}, 'dtype': '{dtype}'}}}}."
        raise ConfigError(Problem(f"inputs.{name}", message, hint)) from None
    if not _is_array(found):
        message = f"found {type(value).__name__}; expected a tensor, an array or a shape."
        raise ConfigError(Problem(f"inputs.{name}", message))
    return found


def _declared(value: Any) -> dict[str, Any]:
    """An input as a configuration states it."""
    if isinstance(value, Mapping):
        return dict(value)
    if not _is_array(value):
        return {"shape": list(value)}
    dtype = str(value.dtype)
    declared: dict[str, Any] = {"shape": [int(size) for size in value.shape], "dtype": dtype}
    if value.size == 0 or dtype == "bool":
        return declared
    low, high = value.min().item(), value.max().item()
    if holds_fractions(dtype):
        if low < high:
            return {**declared, "low": low, "high": high}
        # A single number is a parameter; of a whole tensor of ones nobody means the ones.
        return {**declared, "value": low} if value.size == 1 else declared
    # `high` is excluded; ids begin at 0, and a tensor of zeros stands for more than zeros.
    return {**declared, "low": min(0, low), "high": max(2, high + 1)}


def _save(path: str, array: Any) -> None:
    # Whoever has an array has NumPy: the parent of a run needs none.
    import numpy as np  # noqa: TID251

    # Files of NumPy have no bfloat16; it is rounded to it again when it is read.
    narrow = array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
    np.save(path, array.astype(np.float32) if narrow else array, allow_pickle=False)
