"""Whether the weights of an ncnn file are those of the ONNX file that it was made from.

pnnx renames weights, lays them out anew, joins and splits them and folds what follows a layer into
it. So they are matched by their content, whatever its order; what was folded has no counterpart.
A tensor without a counterpart that is nearly one of the parent is damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from converter.plugins.providers._ncnn_files import Array, Weight

# Shorter ones may be equal by chance, or constants that pnnx made.
_LEAST = 8
# So many equal elements are no chance, and fewer than all are no folding.
_NEARLY = 0.5
# A normalisation in front or behind that was just initialised is a factor of 1 - 5e-6 (epsilon).
_SCALED = 1e-3
_SAME = {"float32": 1e-6, "float16": 1e-3}
_CHUNK = 1 << 22
_TINY = 1e-30
_SMALLEST_HALF = np.float32(2.0**-14)


@dataclass(frozen=True)
class Matched:
    """What of the weights is in the parent.

    Attributes:
        share: of the elements of all weights that are of tensors with a counterpart, 0 to 1.
        flushed: weights that are zero in the file and not in the parent.
    """

    share: float
    flushed: int


def compare(weights: Iterable[Weight], parent: Path) -> Matched:
    """Match the weights of a file with those of its parent.

    Args:
        parent: an ONNX file, with its external data beside it.

    Raises:
        ValueError: weights are damaged; a sentence that names the layer and the parent's tensor.
    """
    tensors = dict(_tensors(onnx.load(parent)))
    factors = {float(array.ravel()[0]) for array in tensors.values() if array.size == 1}
    held = [weight for weight in weights if weight.values.size]
    left: list[Weight] = []
    seen: dict[str, int] = {}
    flushed = 0
    for kind in (np.float32, np.float16):
        these = [weight for weight in held if weight.values.dtype == kind]
        known = _Known(tensors, kind == np.float16) if these else None
        for weight in these:
            name = known.name_of(weight.values) if known is not None else None
            if name is None:
                left.append(weight)
                continue
            seen[name] = seen.get(name, 0) + weight.values.size
            if kind == np.float16:
                flushed += _flushed(tensors[name], weight.values.size)
    others = {name: array for name, array in tensors.items() if name not in seen}
    for weight in left:
        if weight.values.size >= _LEAST:
            _refuse_damage(weight, others, factors)
    total = sum(weight.values.size for weight in held)
    missing = sum(weight.values.size for weight in left)
    return Matched(1 - missing / total if total else 1.0, flushed)


def half(array: Array) -> Array:
    """Float32 as pnnx writes it in float16: ties away from zero, and subnormal values are zero.

    Measured with pnnx 20261020: numpy rounds ties to even and keeps subnormal values.
    """
    values = np.ascontiguousarray(array, np.float32)
    bits = (values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    with np.errstate(over="ignore"):
        rounded = bits.view(np.float32).astype(np.float16)
    return np.where(np.abs(values) < _SMALLEST_HALF, np.float16(0), rounded)


def _tensors(model: Any) -> Iterator[tuple[str, Array]]:
    """Float32 tensors of the main graph, with their names."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield tensor.name, numpy_helper.to_array(tensor)
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                yield node.output[0], numpy_helper.to_array(attribute.t)


_Key = tuple[int, int]


class _Known:
    """The tensors of a parent by their content, as a file holds it."""

    def __init__(self, tensors: dict[str, Array], halved: bool) -> None:
        self._tensors = {name: half(one) if halved else one for name, one in tensors.items()}
        self._whole = {_key(array): name for name, array in self._tensors.items()}
        self._parts: dict[int, dict[_Key, str]] = {}

    def name_of(self, values: Array) -> str | None:
        """The tensor that has these values, whole or as one of three equal parts."""
        key = _key(values)
        return self._whole.get(key) or self._thirds(values.size).get(key)

    def _thirds(self, size: int) -> dict[_Key, str]:
        # Queries, keys and values are one tensor in PyTorch and three in ncnn.
        if size not in self._parts:
            self._parts[size] = {
                _key(part): name
                for name, array in self._tensors.items()
                if array.size == 3 * size
                for axis, length in enumerate(array.shape[:2])
                if length % 3 == 0
                for part in np.split(array, 3, axis)
            }
        return self._parts[size]


def _key(array: Array) -> _Key:
    """Number of elements, and a hash of them that their order does not change."""
    flat = np.ravel(array)
    width = np.uint32 if flat.dtype == np.float32 else np.uint16
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for first in range(0, flat.size, _CHUNK):
            # Plus zero: -0 and 0 are the same weight.
            part = flat[first : first + _CHUNK] + flat.dtype.type(0)
            # splitmix64's finaliser: similar values must not have similar hashes, or a sum would
            # not tell them apart.
            mixed = part.view(width).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            total = total + np.sum(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
    return flat.size, int(total)


def _flushed(array: Array, size: int) -> int:
    """Elements that became zero in float16; of a third of a tensor a third of them."""
    lost = np.count_nonzero((np.abs(array) < _SMALLEST_HALF) & (array != 0))
    return int(lost * size / array.size)


def _refuse_damage(weight: Weight, tensors: dict[str, Array], factors: set[float]) -> None:
    """Raise where a tensor of the parent is nearly this one."""
    values = weight.values.astype(np.float32)
    for name, array in tensors.items():
        if array.size != values.size:
            continue
        wanted = half(array) if weight.values.dtype == np.float16 else array
        for held in _layouts(wanted):
            same = _SAME[str(weight.values.dtype)]
            why = _damage(values, held.astype(np.float32).ravel(), factors, same)
            if why:
                raise ValueError(f"{weight.role} of layer {weight.layer} is {name}, but {why}")


def _layouts(array: Array) -> Iterator[Array]:
    """An array with its axes in the orders that layers of ncnn have."""
    yield array
    if array.ndim >= 2:
        yield np.swapaxes(array, 0, 1)


def _damage(values: Array, wanted: Array, factors: set[float], same: float) -> str:
    """How ``values`` are ``wanted`` with something done to them; empty: they are something else."""
    if not np.any(values):
        return "all zeros" if np.any(wanted) else ""
    differ = np.count_nonzero(values != wanted)
    if differ and differ <= (1 - _NEARLY) * values.size:
        return f"differs in {differ} of {values.size} elements"
    scale = float(values @ wanted) / max(float(wanted @ wanted), _TINY)
    told = any(abs(scale - one) <= _SCALED * abs(one) for one in (1.0, *factors))
    if not told and np.linalg.norm(values - scale * wanted) <= same * np.linalg.norm(values):
        return f"multiplied by {scale:.6g}"
    return ""
