"""Sample inputs: NumPy arrays drawn from a specification and a seed, the same on every machine.

NumPy's Philox stream does not depend on torch, its version or its device, so a file
can be verified again years later on the same numbers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from converter.layout import environment
from converter.model import units
from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec, holds_fractions
from converter.plan import samples
from converter.worker.inputs import dtypes, files
from converter.worker.inputs.dtypes import Array as Array

# Smaller inputs fit every machine that converts.
_LARGE = 1 << 30
# Where the configuration names no bound of `integers`, half of the span lies below zero: integer
# division and remainder go wrong only there.
_INTEGER_SPAN = 20
# Drawn where nothing is known of a vocabulary: cases, blanks, letters beyond ASCII, nothing.
WORDS = ("apple", "Bear", "cherry pie", " dog", "\u00c9COLE", "")


def draw(
    name: str,
    spec: InputSpec,
    *,
    seed: int,
    sample: int = 0,
    resize: bool = False,
    full: int | None = None,
) -> Array:
    """One input tensor.

    Args:
        name: the input's name; inputs of one model get independent streams.
        spec: shape, dtype and fill.
        seed: the run's seed.
        sample: 0 is the traced example; other numbers give other values.
        resize: lists and files of another size are cut or repeated along each axis that differs.
        full: of lengths, the size that none exceeds.

    Returns:
        An array of ``spec.shape`` and ``spec.dtype``.

    Raises:
        StageError: FORWARD, when a value or file does not fit the shape or dtype; MEM_LIMIT, for
            what the machine cannot hold.
    """
    shape = tuple(spec.shape)
    dtype = dtypes.named(spec.dtype)
    _require_room(name, shape, dtype)
    if spec.filling == "constant":
        return _constant(name, spec, shape, dtype, resize=resize)
    if spec.filling == "file":
        return _from_file(name, spec, shape, dtype, sample, resize=resize)
    rng = generator(name, seed, sample)
    if spec.filling == "lengths":
        return _lengths(rng, shape, spec, full, one_full=sample % 2 == 0).astype(dtype)
    if spec.filling == "normal":
        # Even samples sum to more than zero and odd ones to less: code that branches on the sign
        # of its input takes another way in the second sample.
        values = np.asarray(rng.standard_normal(shape))
        negative = bool(values.sum() < 0)
        # `asarray`: the negative of an array without axes is no array.
        return dtypes.cast(values if negative == bool(sample % 2) else -values, dtype)
    return _bounded(name, spec, rng, shape, dtype)


def _require_room(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse, with the input's name, what NumPy would refuse without one."""
    needed = math.prod(shape) * dtype.itemsize
    if needed > _LARGE and needed > (there := environment.memory_bytes()):
        sizes = "×".join(map(str, shape))
        held = f"{units.size(needed)}, and this machine has {units.size(there)}"
        message = f"input {name} of {sizes} {dtype} takes {held}"
        raise StageError(Code.MEM_LIMIT, message, f"correct the shape of {name}")


def _bounded(
    name: str, spec: InputSpec, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype
) -> Array:
    """Values of a fill that has bounds, or a meaning."""
    if spec.filling in _MEANINGS:
        return dtypes.cast(_MEANINGS[spec.filling](rng, shape, spec), dtype)
    if dtype == np.bool_:
        return _mixed(np.asarray(rng.integers(0, 2, shape)).astype(dtype))
    if spec.columns:
        return np.asarray(in_columns(name, spec, rng.uniform(0, 1, shape)))
    if spec.filling == "uniform":
        low, high = bounds(spec)
        return dtypes.cast(rng.uniform(low, high, shape), dtype)
    return dtypes.cast(rng.integers(*_integer_bounds(name, spec, dtype), shape), dtype)


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


def padded(taken: Any, shape: tuple[int, ...], *, left: bool) -> Any:
    """Rows of ones, as many as ``taken`` says of each row, padded with zeros."""
    size = shape[-1]
    # At least one, where there is one: a row without any entry has no mean.
    ones = np.clip(taken, min(1, size), size)
    places = np.arange(size)[::-1] if left else np.arange(size)
    return (places[None] < np.reshape(ones, (-1, 1))).reshape(shape)


def rows(shape: tuple[int, ...]) -> int:
    """How many rows there are, a row being the last axis."""
    return int(np.prod(shape[:-1]))


def _mask(rng: np.random.Generator, shape: tuple[int, ...], spec: InputSpec) -> Any:
    taken = rng.integers(1, max(shape[-1], 1) + 1, rows(shape))
    return padded(taken, shape, left=spec.padding == "left")


def _ascending(rng: np.random.Generator, shape: tuple[int, ...], spec: InputSpec) -> Any:
    low, high = ends(spec)
    if holds_fractions(spec.dtype):
        values: Any = np.minimum(rng.uniform(low, high, shape), high)
    else:
        values = rng.integers(int(low), int(high) + 1, shape)
    return np.sort(values, axis=-1)


def _one_hot(rng: np.random.Generator, shape: tuple[int, ...], spec: InputSpec) -> Any:
    return one_hot(rng.integers(0, max(shape[-1], 1), shape[:-1]), shape)


def one_hot(classes: Any, shape: tuple[int, ...]) -> Any:
    """Zeros with a single one in each row, at ``classes``."""
    return np.broadcast_to(np.arange(shape[-1]) == np.asarray(classes)[..., None], shape)


def _shares(rng: np.random.Generator, shape: tuple[int, ...], spec: InputSpec) -> Any:
    return normalised(rng.exponential(1.0, shape))


def normalised(weights: Any) -> Any:
    """Positive numbers that sum to one in each row."""
    # No share is so small that float16 would make a zero of it.
    weights = np.maximum(np.asarray(weights), 1e-3)
    return weights / weights.sum(axis=-1, keepdims=True)


def words(spec: InputSpec) -> list[str]:
    """Those that strings are drawn from."""
    return spec.words or list(WORDS)


def _words(rng: np.random.Generator, shape: tuple[int, ...], spec: InputSpec) -> Any:
    return np.array(words(spec), object)[rng.integers(0, len(words(spec)), shape)]


# Draws whose values are related along a row: generator, shape and specification.
_Meaning = Callable[[np.random.Generator, tuple[int, ...], InputSpec], Any]
_MEANINGS: dict[str, _Meaning] = {
    "mask": _mask, "sorted": _ascending, "onehot": _one_hot, "probabilities": _shares,
    "words": _words,
}  # fmt: skip


def _lengths(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    spec: InputSpec,
    full: int | None,
    *,
    one_full: bool,
) -> Array:
    least, most = length_range(spec, full)
    values = np.asarray(rng.integers(least, most + 1, shape))
    # Every other sample has a row that is full, as most batches have, and code pads to the longest.
    if one_full and shape:
        values[-1:] = most
    elif one_full:
        values = np.asarray(most)
    return values


def length_range(spec: InputSpec, full: int | None) -> tuple[int, int]:
    """The least and the greatest length; ``full``: the size that none exceeds."""
    most = full if full is not None else 1
    low = spec.low if isinstance(spec.low, float | int) else 1
    return min(int(low), most), most


def in_columns(name: str, spec: InputSpec, shares: Any) -> Any:
    """Values between the bounds of each column, at the share of each range from 0 to 1."""
    dtype = dtypes.named(spec.dtype)
    shares = np.asarray(shares)
    if spec.filling == "uniform":
        low, high = np.asarray(spec.columns).T
        values = (low + (high - low) * shares).astype(dtype)
        # Rounding to the dtype may reach the upper bound, which is not part of the range.
        last = np.nextafter(high.astype(dtype), low.astype(dtype))
        # NumPy clips in float32 what it does not know.
        return np.clip(values, low.astype(dtype), last).astype(dtype)
    every = [
        _integer_bounds(name, spec.model_copy(update={"low": low, "high": high}), dtype)
        for low, high in spec.columns
    ]
    least, past = np.asarray(every).T
    return np.minimum(least + np.floor((past - least) * shares), past - 1).astype(dtype)


def ends(spec: InputSpec) -> tuple[float, float]:
    """The least and the greatest value of ``sorted``, both included."""
    if holds_fractions(spec.dtype):
        kind, (least, most) = dtypes.named(spec.dtype).type, bounds(spec)
        # The upper bound is excluded, in the dtype too.
        return least, float(np.nextafter(kind(most), kind(least)))
    low, past = _integer_bounds("", spec, dtypes.named(spec.dtype))
    return low, past - 1


def bounds(spec: InputSpec) -> tuple[float, float]:
    """The bounds that ``uniform`` draws between."""
    assert not isinstance(spec.low, list), "see `columns`"
    assert not isinstance(spec.high, list), "see `columns`"
    if spec.low is None:
        return (0.0, 1.0) if spec.high is None else (spec.high - 1, spec.high)
    return spec.low, spec.low + 1 if spec.high is None else spec.high


def _integer_bounds(name: str, spec: InputSpec, dtype: np.dtype) -> tuple[int, int]:
    """The least value and the one past the greatest, within the dtype."""
    assert not isinstance(spec.low, list), "see `columns`"
    assert not isinstance(spec.high, list), "see `columns`"
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
    dtype = dtypes.named(spec.dtype)
    if spec.filling != "integers" or dtype.kind not in "iu":
        return None
    if spec.columns:
        low, high = np.asarray(spec.columns).T
        return int(low.min()), int(high.max()) - 1
    low, past = _integer_bounds(name, spec, dtype)
    return low, past - 1


def varies(spec: InputSpec) -> bool:
    """Whether another sample gives other values."""
    return spec.filling not in ("constant", "file") or sampled(spec)


def sampled(spec: InputSpec) -> bool:
    """Whether the values are those of several files."""
    return spec.filling == "file" and len(samples.of(spec)) > 1


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
    kept = np.isfinite(value) if dtypes.is_float(value) else value == given
    if not np.all(kept):
        lost = given[~np.asarray(kept)].flat[0] if given.ndim else given
        raise StageError(
            Code.FORWARD,
            f"inputs.{name}.value holds {lost}, which {dtype} cannot hold",
            "Choose another value or another dtype.",
        )
    return filled


def _from_file(
    name: str,
    spec: InputSpec,
    shape: tuple[int, ...],
    dtype: np.dtype,
    sample: int,
    *,
    resize: bool,
) -> Array:
    array, what = files.read(name, spec, sample)
    array = dtypes.fed(array, spec.dtype, shape)
    if resize and array.ndim == len(shape):
        array = _resized(array, shape)
    if array.shape != shape or array.dtype != dtype:
        raise StageError(
            Code.FORWARD,
            f"{what} holds {array.dtype}{list(array.shape)}, expected {spec.dtype}{list(shape)}",
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
