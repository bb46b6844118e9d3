"""What the types of elements are called, and what NumPy does not know of them itself.

bfloat16 and float8 are types of ml_dtypes: NumPy calls their kind ``V`` (or ``f``), has no
``finfo`` of them, and finds them by name only where ml_dtypes was imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

NARROW: dict[str, tuple[Any, Any]] = {
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.uint16)),
    "float8_e4m3fn": (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.uint8)),
    "float8_e5m2": (np.dtype(ml_dtypes.float8_e5m2), np.dtype(np.uint8)),
}
"""The types of ml_dtypes by name, each with the whole numbers that have its bits."""


def of(array: Array) -> str:
    """As ONNX calls it: to NumPy strings are objects."""
    return "string" if array.dtype.kind == "O" else array.dtype.name


def named(name: str) -> np.dtype[Any]:
    """NumPy's type of a dtype as the configuration calls it."""
    return np.dtype(object) if name == "string" else np.dtype(name)


def is_narrow(array: Array | np.generic) -> bool:
    """Whether it is of a type of ml_dtypes."""
    return array.dtype.name in NARROW


def is_float(array: Array | np.generic) -> bool:
    """Whether its elements are floating-point numbers, also of types that NumPy does not know."""
    return array.dtype.kind == "f" or is_narrow(array)


def bits(array: Array) -> Array:
    """An array of a type of ml_dtypes as the whole numbers that have its bits."""
    return array.view(NARROW[array.dtype.name][1])


def of_bits(array: Array, name: str) -> Array:
    """An array of whole numbers as what their bits are in a type of ml_dtypes."""
    return array.view(NARROW[name][0])


def _facts(dtype: np.dtype[Any]) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def eps(dtype: np.dtype[Any]) -> float:
    """The relative distance of neighbouring numbers."""
    if dtype.name in NARROW:
        return float(_facts(dtype).eps)
    return float(np.finfo(dtype.name).eps)


def least(dtype: np.dtype[Any]) -> float:
    """The smallest number above zero of a type of ml_dtypes."""
    return float(_facts(dtype).smallest_subnormal)


def fed(array: Array, dtype: str, shape: Sequence[int]) -> Array:
    """An array as a person or a file has it, as the input of that dtype takes it.

    Files of arrays have no bfloat16, which rounds float32, and strings of one length; an input of
    pairs may be given its complex numbers.
    """
    if dtype in NARROW and is_float(array):
        return cast(array, named(dtype))
    if dtype == "string" and array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind == "c" and array.ndim == len(shape) - 1 and shape[-1] == 2:
        return np.stack([array.real, array.imag], axis=-1).astype(dtype)
    return array


def cast(values: Any, dtype: np.dtype[Any]) -> Array:
    """Values in a dtype; float8 ends early, and what lies beyond becomes its end."""
    array = np.asarray(values)
    if dtype.name in NARROW and dtype.itemsize == 1:
        end = float(_facts(dtype).max)
        array = np.clip(array.astype(np.float64), -end, end)
    return array.astype(dtype)
