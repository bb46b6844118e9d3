"""Whether the weights of a file of 16-bit floats are those of its float32 file, rounded.

The rounding of a deep network to float16 drowns what a small damage does: of 352 tensors negated or
scaled by 1.1 the outputs showed 319. The weights themselves show each of them, on any hardware.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, numpy_helper

from converter.worker.inputs.reduced import REDUCED, Reduced
from converter.worker.onnxfile import checking

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_KINDS = {kind.element: kind for kind in REDUCED.values()}
# Converters bring large numbers (masks) to a limit of theirs, onnxconverter-common to ±1e4.
_LIMIT = 1e4


def changed(parent: Path, derived: Path) -> str | None:
    """The first weight that is another than the parent's, in a sentence; ``None``: all are right.

    Weights are initializers and constants; those whose name only one file has are not compared.
    """
    wide = dict(_constants(checking.load(parent).graph))
    for name, tensor in _constants(checking.load(derived).graph):
        # What a converter has added, or left in float32, is none of the parent's rounded weights.
        kind = _KINDS.get(tensor.data_type)
        if kind is None or name not in wide:
            continue
        if wide[name].data_type == tensor.data_type:  # as the source itself has it
            if not np.array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(wide[name])):
                return f"weight '{name}' is another one than in the file it was made from"
            continue
        if wide[name].data_type not in _FLOATS:
            return f"weight '{name}' holds no floats in the float32 file"
        got, want = numpy_helper.to_array(tensor), numpy_helper.to_array(wide[name])
        if got.shape != want.shape:
            return f"weight '{name}' is {list(got.shape)}, the float32 file has {list(want.shape)}"
        off = _off(got.astype(np.float64), want.astype(np.float64), kind)
        if off.any():
            place = tuple(int(index) for index in np.unravel_index(np.argmax(off), off.shape))
            return (
                f"weight '{name}'{list(place)} is {float(got[place]):.6g}, the float32 file has "
                f"{want[place]:.6g}"
            )
    return None


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


def _constants(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t
