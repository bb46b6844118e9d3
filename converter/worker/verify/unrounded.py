"""Whether a file of 16-bit floats is its float32 file, but for rounding.

Where 16 bits round an output by more than a quarter of what other inputs move it by, the tolerance
takes what depends on the input for rounding: random weights make such outputs. Where they do, or
the output moves by little (``precision`` decides that), the graph is verified without rounding:
with the weights of the float32 file and arithmetic in float32 the file has to give what that gives.
Its weights are compared one by one (``rounded_weights``), and its rounding is within what the model
shows by itself: nothing is left that the tolerance could hide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from converter.worker.compare.numerics import BOUNDS
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.reduced import Reduced
from converter.worker.onnxfile import overflow
from converter.worker.runtime.session import Session
from converter.worker.verify import emulation

# Both files have the same operators in the same order, which ONNX Runtime computes alike.
_TIGHTEST = BOUNDS["float32"].tightest


def same(file: Path, parent: Path, kind: Reduced, cases: Sequence[Mapping[str, Array]]) -> bool:
    """Whether a file gives what the float32 file gives, if nothing rounds.

    Args:
        file: in 16 bits.
        parent: the float32 file that it was made from.
        cases: inputs, as the parent takes them.

    Raises:
        StageError: SESSION, when ONNX Runtime refuses one of the files.
    """
    wide = onnx.load(parent, format="protobuf")
    model = emulation.emulated(onnx.load(file, format="protobuf"), kind, rounds=False)
    _take_weights(model, wide)
    with overflow.session_of(wide) as before, overflow.session_of(model) as after:
        del wide, model  # the sessions hold copies of the weights
        return all(_alike(_run(before, feeds), _run(after, feeds)) for feeds in cases)


def _take_weights(model: ModelProto, parent: ModelProto) -> None:
    """Give a model, which is in float32 by now, the weights of its parent in place of its own."""
    held = dict(_weights(parent))
    for name, tensor in _weights(model):
        wide = held.get(name)
        if wide is not None and wide.data_type == tensor.data_type and wide.dims == tensor.dims:
            tensor.CopyFrom(wide)


def _weights(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t


def _run(session: Session, feeds: Mapping[str, Array]) -> list[Array]:
    return session.run({name: feeds[name] for name in session.inputs if name in feeds})


def _alike(want: Sequence[Array], got: Sequence[Array]) -> bool:
    if len(want) != len(got):
        return False
    for left, right in zip(want, got, strict=True):
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        if not dtypes.is_float(left):
            if not np.array_equal(left, right):
                return False
            continue
        scale = float(np.linalg.norm(left.astype(np.float64)))
        apart = float(np.linalg.norm(left.astype(np.float64) - right.astype(np.float64)))
        if not apart <= _TIGHTEST * scale:  # of NaN false too
            return False
    return True
