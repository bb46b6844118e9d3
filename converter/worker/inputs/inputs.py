"""Sample inputs: NumPy arrays drawn from a specification and a seed, the same on every machine.

NumPy's Philox stream does not depend on torch, its version or its device, so a file
can be verified again years later on the same numbers.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.model.errors import Code, StageError
from converter.model.spec import InputSpec
from converter.plan import foresight

Array = NDArray[np.generic]

# Where the configuration names no bound of `integers`, half of the span lies below zero: integer
# division and remainder go wrong only there.
_INTEGER_SPAN = 20


def draw(name: str, spec: InputSpec, *, seed: int, sample: int = 0, resize: bool = False) -> Array:
    """One input tensor.

    Args:
        name: the input's name; inputs of one model get independent streams.
        spec: shape, dtype and fill.
        seed: the run's seed.
        sample: 0 is the traced example; other numbers give other values.
        resize: lists and files of another size are cut or repeated along each axis that differs.

    Returns:
        An array of ``spec.shape`` and ``spec.dtype``.

    Raises:
        StageError: FORWARD, when a value or file does not fit the shape or dtype.
    """
    shape = tuple(spec.shape)
    dtype = np.dtype(spec.dtype)
    rng = generator(name, seed, sample)
    if spec.filling == "constant":
        return _constant(name, spec, shape, dtype, resize=resize)
    if spec.filling == "file":
        return _from_file(name, spec, shape, dtype, resize=resize)
    if spec.filling == "normal":
        # Even samples sum to more than zero and odd ones to less: code that branches on the sign
        # of its input takes another way in the second sample.
        values = np.asarray(rng.standard_normal(shape))
        negative = bool(values.sum() < 0)
        # `asarray`: the negative of an array without axes is no array.
        return np.asarray(values if negative == bool(sample % 2) else -values).astype(dtype)
    if dtype == np.bool_:
        return _mixed(np.asarray(rng.integers(0, 2, shape)).astype(dtype))
    if spec.filling == "uniform":
        low, high = bounds(spec)
        return np.asarray(rng.uniform(low, high, shape)).astype(dtype)
    return np.asarray(rng.integers(*_integer_bounds(name, spec, dtype), shape)).astype(dtype)


def _mixed(mask: Array) -> Array:
    """A mask in whose rows something is on and something off: an empty row has no mean."""
    if mask.ndim and mask.shape[-1] > 1:
        # The first is switched on and the last one off, so that a row keeps its other values.
        mask[..., 0] = np.where(mask.any(axis=-1), mask[..., 0], True)
        mask[..., -1] = np.where(mask.all(axis=-1), False, mask[..., -1])
    return mask


def generator(name: str, seed: int, sample: int) -> np.random.Generator:
    """The stream of random numbers of one input and sample."""
    # Not `hash`, which Python salts anew in each process.
    # By name as well: two inputs of one shape would be equal else, and their difference zero.
    entropy = [seed, zlib.crc32(name.encode()), sample]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def bounds(spec: InputSpec) -> tuple[float, float]:
    """The bounds that ``uniform`` draws between."""
    if spec.low is None:
        return (0.0, 1.0) if spec.high is None else (spec.high - 1, spec.high)
    return spec.low, spec.low + 1 if spec.high is None else spec.high


def _integer_bounds(name: str, spec: InputSpec, dtype: np.dtype) -> tuple[int, int]:
    """The least value and the one past the greatest, within the dtype."""
    info = np.iinfo(dtype if dtype.kind in "iu" else np.int64)  # floats may hold integers as well
    least, past = int(info.min), int(info.max) + 1
    for key, bound in (("low", spec.low), ("high", spec.high)):
        if bound is not None and (int(bound) != bound or not least <= bound <= past):
            raise StageError(
                Code.FORWARD,
                f"inputs.{name}.{key} is {bound:g}; {dtype} holds whole numbers "
                f"from {least} to {past - 1}",
                "Choose another bound or another dtype.",
            )
    if spec.low is None:
        high = _INTEGER_SPAN // 2 if spec.high is None else int(spec.high)
        # Unsigned types have no half below zero.
        low = max(high - _INTEGER_SPAN, least) if least else 0
    else:
        low = int(spec.low)
        high = min(low + _INTEGER_SPAN, past) if spec.high is None else int(spec.high)
    if low >= high:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}: no {dtype} lies from low {low} to below high {high}",
            "Choose other bounds or another dtype.",
        )
    return low, high


def integer_range(name: str, spec: InputSpec) -> tuple[int, int] | None:
    """The least and the greatest number that is drawn for an input of whole numbers."""
    dtype = np.dtype(spec.dtype)
    if spec.filling != "integers" or dtype.kind not in "iu":
        return None
    low, past = _integer_bounds(name, spec, dtype)
    return low, past - 1


def varies(spec: InputSpec) -> bool:
    """Whether another sample gives other values."""
    return spec.filling not in ("constant", "file")


def _constant(
    name: str, spec: InputSpec, shape: tuple[int, ...], dtype: np.dtype, *, resize: bool
) -> Array:
    try:
        # A value that the dtype cannot hold is told below, by name.
        with np.errstate(over="ignore", invalid="ignore"):
            given = np.asarray(spec.value)
            value = given.astype(dtype)
        fitted = _resized(value, shape) if resize else value
        # A copy: `ascontiguousarray` would give a number an axis.
        filled: Array = np.broadcast_to(fitted, shape).copy()
    except (TypeError, ValueError, OverflowError) as error:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.value does not fit shape {list(shape)} and dtype {dtype}: {error}",
            "give one number, or a list of the tensor's shape",
        ) from error
    # Integers must be kept exactly. Of floats a rounded value is right, an infinite one is not.
    kept = value == given if dtype.kind != "f" else np.isfinite(value)
    if not np.all(kept):
        lost = given[~np.asarray(kept)].flat[0] if given.ndim else given
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.value holds {lost}, which {dtype} cannot hold",
            "Choose another value or another dtype.",
        )
    return filled


def _from_file(
    name: str, spec: InputSpec, shape: tuple[int, ...], dtype: np.dtype, *, resize: bool
) -> Array:
    path = Path(spec.path or "")
    foresight.check_array(f"inputs.{name}.path", path)
    try:
        # Unpickling would run code out of a file of data.
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.path {path} cannot be read: {error}",
            "expected a .npy file",
        ) from error
    if resize and array.ndim == len(shape):
        array = _resized(array, shape)
    if array.shape != shape or array.dtype != dtype:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.path {path} holds {array.dtype}{list(array.shape)}, "
            f"expected {dtype}{list(shape)}",
            "make shape and dtype agree with the file",
        )
    return np.array(array, order="C")


def _resized(values: Array, shape: tuple[int, ...]) -> Array:
    """As many entries along each axis, counted from the last, as asked for; repeated for more."""
    for axis, size in zip(range(-1, -values.ndim - 1, -1), reversed(shape), strict=False):
        # An axis of size zero has nothing to repeat.
        if values.shape[axis]:
            values = np.take(values, np.arange(size) % values.shape[axis], axis)
    return values
