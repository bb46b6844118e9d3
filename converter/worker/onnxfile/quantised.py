"""The weights that a quantised file holds in integers, and the floats that they stand for.

In three forms: behind a ``DequantizeLinear`` (QDQ), as an operand of an integer operator, and in
blocks of four bits for ``MatMulNBits``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

Floats = NDArray[np.float64]

EIGHT = frozenset({TensorProto.INT8, TensorProto.UINT8})
FOUR = frozenset({TensorProto.INT4, TensorProto.UINT4})
_INTEGERS = EIGHT | FOUR | {TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32}
# What ONNX Runtime's quantizers append to the name of a weight.
_SUFFIXES = ("_quantized", "_DQ_Q4", "_DQ_Q8", "_Q4", "_Q8")
TRANSPOSED = "_Transposed"
"""What they append where its axes have changed places."""
# Input of the weight, of its scale and of its zero point; -1: the node has none.
_OPERANDS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((3, 4, 5),),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    # Their scale is multiplied in by a node behind them: it is found by its name.
    "ConvInteger": ((1, -1, 3),),
    "MatMulInteger": ((0, -1, 2), (1, -1, 3)),
    "MatMulNBits": ((1, 2, 3),),
    "DynamicQuantizeLSTM": ((1, 8, 9), (2, 10, 11)),
}
SCALES: Mapping[str, tuple[int, ...]] = {
    "QuantizeLinear": (1,),
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "MatMulNBits": (2,),
    "DynamicQuantizeLSTM": (8, 10),
}
"""Inputs that are scales: floats that are no weights."""


@dataclass(frozen=True)
class Weight:
    """One weight.

    Attributes:
        name: of its initializer.
        source: what the float32 file calls it, as far as a name tells.
        transposed: its axes have changed places since.
        scale: name of what holds its scale.
        kind: its element type; blocks of bytes count as what is in them.
        elements: of the float32 weight.
        floats: gives the numbers that it stands for and the step between two of them, in the shape
            of the float32 weight; ``None`` where the file does not tell.
    """

    name: str
    source: str
    transposed: bool
    scale: str
    kind: int
    elements: int
    floats: Callable[[], tuple[Floats, Floats] | None]


def limits(node: NodeProto, held: Mapping[str, TensorProto]) -> tuple[float, float]:
    """Between which numbers an activation that cuts off leaves its input.

    Args:
        node: ``Relu`` or ``Clip``.
        held: constants by name.
    """
    if node.op_type == "Relu":
        return 0.0, math.inf
    attributes = {item.name: float(item.f) for item in node.attribute}  # up to opset 10
    least, most = attributes.get("min", -math.inf), attributes.get("max", math.inf)
    given = [held.get(name) for name in node.input[1:3]]
    values = [None if one is None else float(numpy_helper.to_array(one)) for one in given]
    for place, value in enumerate(values):
        if value is not None:
            least, most = (value, most) if place == 0 else (least, value)
    return least, most


def weights(model: ModelProto) -> list[Weight]:
    """The weights that are integers, each once; biases, which have 32 bits, too.

    Args:
        model: with its weights in memory where ``Weight.floats`` is asked for.
    """
    found: dict[str, Weight] = {}
    for weight in _of_graph(model.graph, {}):
        found.setdefault(weight.name, weight)
    return list(found.values())


def scales(model: ModelProto) -> set[str]:
    """Names of what scales are held in."""
    found = set()
    for node in model.graph.node:
        for place in SCALES.get(node.op_type, ()):
            if place < len(node.input):
                found.add(node.input[place])
    # Products of two scales follow integer operators.
    held = {tensor.name for tensor in model.graph.initializer}
    return found | {weight.scale for weight in weights(model)} & held


def _of_graph(graph: GraphProto, outer: Mapping[str, TensorProto]) -> Iterator[Weight]:
    held = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    gathered = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Gather" and node.input[0] in held
    }
    for node in graph.node:
        for operand, scale, zero in _OPERANDS.get(node.op_type, ()):
            name = _input(node, operand)
            # Rows are taken out of a table before they become floats.
            tensor = held.get(gathered.get(name, name))
            if tensor is not None and tensor.data_type in _INTEGERS:
                parts = (_input(node, scale), _input(node, zero))
                yield _weight(node, tensor, *parts, held)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _of_graph(inner, held)


def _input(node: NodeProto, place: int) -> str:
    return node.input[place] if 0 <= place < len(node.input) else ""


def _weight(
    node: NodeProto, tensor: TensorProto, scale: str, zero: str, held: Mapping[str, TensorProto]
) -> Weight:
    source = tensor.name
    for suffix in _SUFFIXES:
        source = source.removesuffix(suffix)
    scale = scale or f"{source}_scale"
    transposed = source.endswith(TRANSPOSED)
    attributes = {item.name: item.i for item in node.attribute}
    four = node.op_type == "MatMulNBits" and attributes.get("bits", 4) == 4
    kind = int(TensorProto.UINT4) if four else tensor.data_type
    elements = prod(tensor.dims)
    if node.op_type == "MatMulNBits":
        elements = attributes["K"] * attributes["N"]

    def floats() -> tuple[Floats, Floats] | None:
        if scale not in held:
            return None
        values = numpy_helper.to_array(tensor)
        steps = numpy_helper.to_array(held[scale]).astype(np.float64)
        zeros = numpy_helper.to_array(held[zero]) if zero in held else None
        if node.op_type == "MatMulNBits":
            return _blocks(values, steps, zeros, attributes)
        if node.op_type == "DynamicQuantizeLSTM":
            return _recurrent(values, steps, zeros)
        axis = attributes.get("axis", 1) if node.op_type == "DequantizeLinear" else None
        return _dequantised(values, steps, zeros, axis, attributes.get("block_size", 0))

    return Weight(
        name=tensor.name,
        source=source.removesuffix(TRANSPOSED),
        transposed=transposed,
        scale=scale,
        kind=kind,
        elements=elements,
        floats=floats,
    )


def _dequantised(
    values: NDArray[Any],
    steps: Floats,
    zeros: NDArray[Any] | None,
    axis: int | None,
    block: int,
) -> tuple[Floats, Floats] | None:
    """``(values - zeros) * steps``, the latter along an axis, in blocks of it, or one for all."""
    offset = np.zeros_like(steps) if zeros is None else zeros.astype(np.float64)
    if steps.size > 1 and block:
        along = axis if axis is not None else 0
        length = values.shape[along]
        steps = np.repeat(steps, block, axis=along).take(range(length), axis=along)
        offset = np.repeat(offset, block, axis=along).take(range(length), axis=along)
    elif steps.size > 1:
        # Operators without an axis have one scale for each output: of a matrix its last axis, of
        # a convolution its first.
        if axis is None:
            axis = 0 if values.ndim > 2 else values.ndim - 1
        if values.shape[axis] != steps.size:
            return None
        shape = [1] * values.ndim
        shape[axis] = -1
        steps, offset = steps.reshape(shape), offset.reshape(shape) if offset.size > 1 else offset
    whole = np.broadcast_to(np.abs(steps), values.shape)
    return (values.astype(np.float64) - offset) * steps, whole


def _blocks(
    packed: NDArray[Any],
    steps: Floats,
    zeros: NDArray[Any] | None,
    attributes: Mapping[str, int],
) -> tuple[Floats, Floats] | None:
    """A matrix of ``MatMulNBits``: N rows of blocks along K, two elements in a byte."""
    rows, length = attributes["N"], attributes["K"]
    block, bits = attributes["block_size"], attributes.get("bits", 4)
    if bits not in (4, 8):
        return None
    count = -(-length // block)
    middle = float(1 << (bits - 1))
    values = _unpacked(packed.reshape(rows, count, -1), bits)[..., :block].astype(np.float64)
    offset = np.full((rows, count), middle)
    if zeros is not None and zeros.dtype == np.uint8:
        offset = _unpacked(zeros.reshape(rows, -1), bits)[:, :count].astype(np.float64)
    elif zeros is not None:
        offset = zeros.astype(np.float64).reshape(rows, count)
    steps = steps.reshape(rows, count)
    found = (values - offset[..., None]) * steps[..., None]
    whole = np.broadcast_to(np.abs(steps)[..., None], found.shape)
    return tuple(part.reshape(rows, -1)[:, :length].T for part in (found, whole))  # type: ignore[return-value]


def _unpacked(packed: NDArray[Any], bits: int) -> NDArray[Any]:
    if bits == 8:
        return packed
    pairs = np.stack([packed & 0xF, packed >> 4], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)


def _recurrent(
    values: NDArray[Any], steps: Floats, zeros: NDArray[Any] | None
) -> tuple[Floats, Floats]:
    """Of an LSTM: (directions, inputs, gates) in place of (directions, gates, inputs)."""
    values = values.transpose(0, 2, 1).astype(np.float64)
    directions, gates, _ = values.shape

    def shaped(part: Floats) -> Floats:
        return part.reshape((directions, gates, 1) if part.size == directions * gates else -1)

    if steps.size == directions:
        steps = steps.reshape(directions, 1, 1)
    offset = np.zeros(1) if zeros is None else zeros.astype(np.float64)
    offset = offset.reshape(directions, 1, 1) if offset.size == directions else shaped(offset)
    steps = shaped(steps) if steps.ndim != 3 else steps
    whole = np.broadcast_to(np.abs(steps), values.shape)
    return (values - offset) * steps, whole
