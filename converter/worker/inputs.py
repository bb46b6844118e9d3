"""Sample inputs: NumPy arrays drawn from a specification and a seed, the same on every machine.

NumPy's Philox stream does not depend on torch, its version or its device, so a file
can be verified again years later on the same numbers.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import Code, StageError
from converter.spec import InputSpec

Array = NDArray[np.generic]

# Bounds of `integers` where the configuration names none: negatives included, because
# integer division and remainder go wrong only below zero.
_INTEGER_LOW, _INTEGER_HIGH = -10, 10


def draw(name: str, spec: InputSpec, *, seed: int, sample: int = 0) -> Array:
    """One input tensor.

    Args:
        name: the input's name; inputs of one model get independent streams.
        spec: shape, dtype and fill.
        seed: the run's seed.
        sample: 0 is the traced example; other numbers give other values.

    Returns:
        An array of ``spec.shape`` and ``spec.dtype``.

    Raises:
        StageError: FORWARD, when a value or file does not fit the shape or dtype.
    """
    shape = tuple(spec.shape)
    dtype = np.dtype(spec.dtype)
    stream = np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(name.encode()), sample]))
    rng = np.random.Generator(stream)
    if spec.filling == "constant":
        return _constant(name, spec, shape, dtype)
    if spec.filling == "file":
        return _from_file(name, spec, shape, dtype)
    if spec.filling == "normal":
        # Even samples sum to more than zero and odd ones to less: code that branches on the sign
        # of its input takes another way in the second sample.
        values = np.asarray(rng.standard_normal(shape))
        negative = bool(values.sum() < 0)
        # `asarray`: the negative of an array without axes is no array.
        return np.asarray(values if negative == bool(sample % 2) else -values).astype(dtype)
    if dtype == np.bool_:
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    if spec.filling == "uniform":
        low = 0.0 if spec.low is None else spec.low
        high = 1.0 if spec.high is None else spec.high
        return np.asarray(rng.uniform(low, high, shape)).astype(dtype)
    floor = 0 if dtype.kind == "u" else _INTEGER_LOW
    first = floor if spec.low is None else int(spec.low)
    last = _INTEGER_HIGH if spec.high is None else int(spec.high)
    return np.asarray(rng.integers(first, last, shape)).astype(dtype)


def varies(spec: InputSpec) -> bool:
    """Whether another sample gives other values."""
    return spec.filling not in ("constant", "file")


def _constant(name: str, spec: InputSpec, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    try:
        value = np.asarray(spec.value, dtype=dtype)
        return np.ascontiguousarray(np.broadcast_to(value, shape))
    except (TypeError, ValueError) as error:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.value does not fit shape {list(shape)} and dtype {dtype}: {error}",
            "give one number, or a list of the tensor's shape",
        ) from error


def _from_file(name: str, spec: InputSpec, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    path = Path(spec.path or "")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.path {path} cannot be read: {error}",
            "expected a .npy file",
        ) from error
    if array.shape != shape or array.dtype != dtype:
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.path {path} holds {array.dtype}{list(array.shape)}, "
            f"expected {dtype}{list(shape)}",
            "make shape and dtype agree with the file",
        )
    return np.ascontiguousarray(array)
