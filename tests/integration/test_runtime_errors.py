"""What ONNX Runtime refuses: real messages, the reason first, a hint for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from converter.model.errors import Code, StageError
from converter.worker.runtime import runtime_errors
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors, first_line

pytestmark = pytest.mark.integration

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
ONES = {"x": np.ones((2, 3), np.float32), "y": np.ones(4, np.float32)}
SIZES = {"x": np.ones(6, np.float32), "s": np.array([4, 2])}

# graph → reason, hint
LOADING = {
    "g (float[2] x, int64[2] y) => (float[2] z) { z = Add(x, y) }": (
        "Type Error: Type parameter (T) of Optype (Add) bound to different types",
        "two inputs of that operator differ in dtype: cast one in forward",
    ),
    "g (int32[2] x) => (int32[2] z) { z = Sin(x) }": (
        "Type Error: Type 'tensor(int32)' of input parameter (x) of operator (Sin)",
        "that operator does not take this dtype: cast its input in forward",
    ),
    "g (bfloat16[2] x) => (bfloat16[2] z) { z = Relu(x) }": (
        "Could not find an implementation for Relu(14) node",
        "no kernel for that operator, version and dtype on the CPU",
    ),
    "g (float[2] x) => (float[2] z) { z = DeformConv(x, x, x) }": (
        "No Op registered for DeformConv with domain_version of 17 (DeformConv node)",
        "DeformConv is in ONNX from opset 19 on",
    ),
    "g (float[2] x) => (float[2] z) { z = Banana(x) }": (
        "No Op registered for Banana with domain_version of 17 (Banana node)",
        "ONNX has no operator Banana from opset 17 on",
    ),
    "g (float[2,3] x, float[4,5] y) => (float[2,5] z) { z = MatMul(x, y) }": (
        "[ShapeInferenceError] Incompatible dimensions for matrix multiplication (MatMul node)",
        "sizes do not fit: an axis was frozen, lost or added",
    ),
    """g (bool c, float[2] x, int64[2] y) => (float[2] z) { z = If(c)
       <then_branch = t () => (float[2] u) {u = Identity(x)},
        else_branch = e () => (int64[2] w) {w = Identity(y)}> }""": (
        "[TypeInferenceError] Mismatched tensor element type: inferred=int64 declared=float (If",
        "both sides of an if must give the same dtype",
    ),
    "g (float[2] x) => (int64[2] z) { z = Relu(x) }": (
        "Type Error: Type (tensor(int64)) of output arg (z)",
        "the graph declares another dtype than the operator gives",
    ),
    "g (float[2] x) => (float[2] z) { z = Add(x, w) }": (
        "Node input 'w' is not a graph input, initializer, or output of a previous node.",
        "rewrite what this operator comes from, or choose another opset",
    ),
}
RUNNING: dict[str, tuple[dict[str, Any], str, str]] = {
    "g (float[n,m] x, float[k] y) => (float[p,q] z) { z = Add(x, y) }": (
        ONES,
        "Attempting to broadcast an axis by a dimension other than 1. 3 by 4 (Add node)",
        "two sizes do not fit: one was frozen, or is to be expanded first",
    ),
    "g (float[n] x, int64[r] s) => (float z) { z = Reshape(x, s) }": (
        SIZES,
        "The input tensor cannot be reshaped to the requested shape. Input shape:{6}, requested "
        "shape:{4,2} (Reshape node)",
        "a size was frozen (reshape to x.shape[0] or -1",
    ),
    "g (float[n] x, int64[r] s) => (float[q] z) { z = Gather(x, s) }": (
        {**SIZES, "s": np.array([9])},
        "indices element out of data bounds, idx=9 must be within the inclusive range [-6,5]",
        "an index is outside of what it selects from",
    ),
    "g (float[n,m] x, float[k] y) => (float[q] z) { z = MatMul(x, y) }": (
        ONES,
        "MatMul dimension mismatch (MatMul node)",
        "sizes do not fit: an axis was frozen, lost or added",
    ),
    "g (float[3,3] x) => (float[3,3] z) { z = Relu(x) }": (
        {"x": ONES["x"]},
        "Got invalid dimensions for input: x for the following indices index: 0 Got: 2 Expected: 3",
        "the file takes this size only: declare the axis in dynamic_axes",
    ),
    "g (float[2,3,1] x) => (float[2,3,1] z) { z = Relu(x) }": (
        {"x": ONES["x"]},
        "Invalid rank for input: x Got: 2 Expected: 3",
        "the file takes this size only: declare the axis in dynamic_axes",
    ),
    "g (double[2,3] x) => (double[2,3] z) { z = Abs(x) }": (
        {"x": ONES["x"]},
        "Unexpected input data type. Actual: (tensor(float)) , expected: (tensor(double))",
        "state the dtype that the file declares",
    ),
    """g (bool c, float[n] x, int64[r] s) => (float z) { z = If(c)
       <then_branch = t () => (float u) {[inner] u = Reshape(x, s)},
        else_branch = e () => (float w) {w = Identity(x)}> }""": (
        {**SIZES, "c": np.array(True)},
        "The input tensor cannot be reshaped to the requested shape. Input shape:{6}, requested "
        "shape:{4,2} (Reshape node 'inner')",
        "a size was frozen (reshape to x.shape[0] or -1",
    ),
}


def serialized(graph: str, head: str = HEAD) -> bytes:
    content: bytes = onnx.parser.parse_model(f"{head}\n{graph}").SerializeToString()
    return content


@pytest.mark.parametrize("graph", LOADING)
def test_a_file_that_does_not_load_says_why_first(graph: str) -> None:
    reason, hint = LOADING[graph]
    with pytest.raises(StageError) as caught:
        Session(serialized(graph), optimise=False)
    assert caught.value.code is Code.SESSION
    assert caught.value.message.startswith(f"ONNX Runtime cannot load the file: {reason}")
    assert hint in caught.value.hint


@pytest.mark.parametrize("graph", RUNNING)
def test_a_file_that_does_not_run_says_why_first(graph: str) -> None:
    feeds, reason, hint = RUNNING[graph]
    session = Session(serialized(graph), optimise=False)
    with pytest.raises(RuntimeErrors) as caught:
        session.run(feeds)
    told = first_line(caught.value)
    assert told.startswith(reason)
    assert not any(noise in told for noise in ("::", ".h:", "status code", "ONNXRuntimeError"))
    assert hint in runtime_errors.hint(told)


@pytest.mark.parametrize(
    ("head", "reason", "hint"),
    [
        (HEAD.replace("17", "99"), "ONNX Runtime only *guarantees* support", "request an opset"),
        (HEAD.replace("8", "99"), "Unsupported model IR version: 99", "an older onnx"),
    ],
)
def test_a_signature_is_left_out(head: str, reason: str, hint: str) -> None:
    with pytest.raises(StageError) as caught:
        Session(serialized("g (float[2] x) => (float[2] z) { z = Relu(x) }", head))
    assert caught.value.message.startswith(f"ONNX Runtime cannot load the file: {reason}")
    assert hint in caught.value.hint


def test_other_messages_keep_their_first_line() -> None:
    assert first_line(ValueError("first : 1 : FAIL\nsecond")) == "first : 1 : FAIL"
    assert first_line(ValueError()) == "ValueError"
