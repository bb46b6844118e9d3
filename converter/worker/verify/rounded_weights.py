"""Whether the weights of a file of 16-bit floats are those of its float32 file, rounded.

The rounding of a deep network to float16 drowns what a small damage does: of 352 tensors negated or
scaled by 1.1 the outputs showed 319. The weights themselves show each of them, on any hardware.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from converter.worker.inputs.reduced import REDUCED, Reduced
from converter.worker.onnxfile import checking, structure
from converter.worker.verify import counterparts
from converter.worker.verify.counterparts import Near, Unnamed

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_KINDS = {kind.element: kind for kind in REDUCED.values()}
# Converters bring large numbers (masks) to a limit of theirs, onnxconverter-common to ±1e4.
_LIMIT = 1e4
_BLOCK = 1 << 20


def changed(parent: Path, derived: Path) -> str | None:
    """The first weight that is another than the parent's, in a sentence; ``None``: all are right.

    Weights are initializers and constants. Those whose name only one file has are compared by
    their numbers.
    """
    wide = dict(structure.constants(checking.load(parent).graph))
    graph = checking.load(derived).graph
    used = counterparts.used(graph)
    named: list[str] = []
    unnamed: list[Unnamed] = []
    for name, tensor in structure.constants(graph):
        if tensor.data_type not in counterparts.FLOATS or name not in used:
            continue
        if name in wide:
            named.append(name)
            wrong = _changed(name, tensor, wide[name])
            if wrong is not None:
                return wrong
            continue
        kind = _KINDS.get(tensor.data_type)
        unnamed += counterparts.floats(name, tensor, None if kind is None else _rounds_to(kind))
    return counterparts.match(unnamed, wide, named).wrong or None


def _changed(name: str, tensor: TensorProto, wide: TensorProto) -> str | None:
    """How a weight is another one than its namesake in the parent."""
    got, want = numpy_helper.to_array(tensor), numpy_helper.to_array(wide)
    if wide.data_type == tensor.data_type:  # as the source itself has it
        if got.shape != want.shape or not all(
            np.array_equal(one, other, equal_nan=True) for _, one, other in _blocks(got, want)
        ):
            return f"weight '{name}' is another one than in the file it was made from"
        return None
    if wide.data_type not in _FLOATS:
        return f"weight '{name}' holds no floats in the float32 file"
    kind = _KINDS.get(tensor.data_type)
    if kind is None:
        return None
    if got.shape != want.shape:
        return f"weight '{name}' is {list(got.shape)}, the float32 file has {list(want.shape)}"
    for start, one, other in _blocks(got, want):
        off = _off(one, other, kind)
        if off.any():
            place = np.unravel_index(start + int(np.argmax(off)), got.shape)
            return (
                f"weight '{name}'{[int(index) for index in place]} is {float(got[place]):.6g}, the "
                f"float32 file has {want[place]:.6g}"
            )
    return None


def _blocks(
    got: NDArray[Any], want: NDArray[Any]
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Elements of two arrays beside each other, with the place where they begin.

    As float64 a weight of 400 MB would take several GB with what is computed of it.
    """
    one, other = np.asarray(got).ravel(), np.asarray(want).ravel()
    for start in range(0, one.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        yield start, one[part].astype(np.float64), other[part].astype(np.float64)


def _rounds_to(kind: Reduced) -> Near:
    return lambda got, want, step: ~_off(got, want, kind)


def _off(got: NDArray[np.float64], want: NDArray[np.float64], kind: Reduced) -> NDArray[np.bool_]:
    """Where a number is no rounding of the other, to either side."""
    # The difference of two infinities is NaN, which is no error here.
    with np.errstate(invalid="ignore"):
        # A whole step: some converters round to either side, not to the nearest. Near zero two
        # steps: onnxconverter-common brings what is there to 1e-7 in float16.
        near = np.abs(got - want) <= np.maximum(kind.eps * np.abs(want), 2 * kind.subnormal)
    same = np.isnan(got) & np.isnan(want)
    # `&` binds tighter than `|`: either the parent's number is beyond 16 bits and the file's is at
    # the limit or beyond, or the file has the limit itself. The next line asks for the same sign.
    large = (np.abs(want) > kind.largest) & (np.abs(got) >= _LIMIT) | (np.abs(got) == _LIMIT)
    limited = large & (np.abs(want) >= _LIMIT) & (np.sign(got) == np.sign(want))
    # Equality is for infinities, whose difference is NaN.
    right: NDArray[np.bool_] = near | same | (got == want) | limited
    return ~right
