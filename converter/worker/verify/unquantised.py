"""Whether the graph of a quantised file is that of its float32 file, but for its quantisers.

The noise of 8 bits hides an operator that is gone, or one too many: where no threshold applies up
to half of the signal may be noise. So the file is computed once in floats throughout: with the
weights of the float32 file in place of its integers (``quantised_weights`` compares those one by
one), and without whatever rounds to integers. Then it has to give what the float32 file gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from converter.model.errors import StageError
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, overflow, quantised, structure
from converter.worker.onnxfile.quantised import Weight
from converter.worker.runtime.starting import RuntimeErrors
from converter.worker.verify import counterparts

# Integer operators → those in floats, with as many of their inputs.
_IN_FLOATS = {"MatMulInteger": ("MatMul", 2), "ConvInteger": ("Conv", 2)}
# Its scales and zero points are behind the inputs that it shares with LSTM.
_RECURRENT = ("DynamicQuantizeLSTM", "LSTM", 8)
_INTEGERS = ("QAttention", "QEmbed", "QGemm", "QLinear", "DynamicQuantize", "MatMulInteger")
_ROUNDS = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Into the model's log, which is where one looks for why there is no verdict.
_UNTOLD = "the graph was not compared with that of the float32 file"
# What quantisers write in another way, or add.
_REWRITTEN = frozenset({"Add", "Cast", "Constant", "Gemm", "Identity", "MatMul", "Mul", "Reshape"})
# Both compute in float32 with the same weights; what a graph of its own may multiply of their
# rounding is far below the noise of 8 bits, and what an operator does is above it.
_LEAST = 1e-3


def difference(file: Path, parent: Path, cases: Sequence[Mapping[str, Array]]) -> str | None:
    """What the graphs of the two files do not agree on, in a sentence; empty: nothing.

    Args:
        file: in integers, of a form that ONNX Runtime's quantizers write.
        parent: the float32 file that it was made from.
        cases: inputs, as the parent takes them.

    Returns:
        ``None`` where it cannot be told: the file has integers that stand for no weight of the
        parent by name, or operators in integers of another form.

    Raises:
        StageError: SESSION, when ONNX Runtime refuses the parent.
    """
    model, wide = checking.load(file), checking.load(parent)
    if not _in_floats(model, wide):
        return None
    lacking = _lacking(model, wide)
    with overflow.session_of(wide) as before, ExitStack() as stack:
        try:
            after = stack.enter_context(overflow.session_of(model))
        except StageError as error:
            print(f"{_UNTOLD}: {error}")
            return None
        names = before.outputs
        del wide, model  # the sessions hold copies of the weights
        for feeds in cases:
            wanted = before.run(feeds)
            try:
                found = after.run(feeds)
            except RuntimeErrors as error:
                print(f"{_UNTOLD}: {error}")
                return None
            said = _apart(names, wanted, found)
            if said:
                return f"{said}{lacking}"
    return ""


def _lacking(model: ModelProto, parent: ModelProto) -> str:
    """Operators of which a file has fewer than the float32 file, as the end of a sentence."""
    now, before = (
        Counter(node.op_type for node in structure.nodes(each.graph)) for each in (model, parent)
    )
    told = [
        f"{count} {name} there, {now[name]} here"
        for name, count in before.items()
        if name not in _REWRITTEN and now[name] < count
    ]
    return f": {', '.join(told)}" if told else ""


def _apart(names: Sequence[str], want: Sequence[Array], got: Sequence[Array]) -> str:
    for name, left, right in zip(names, want, got, strict=True):
        if left.shape != right.shape:
            return (
                f"without its integers output {name} of the file is {list(right.shape)}, that of "
                f"the float32 file {list(left.shape)}"
            )
        if not dtypes.is_float(left):
            continue  # a tie of two numbers may fall to either side
        exact, given = (each.astype(np.float64).ravel() for each in (left, right))
        both = np.isfinite(exact) & np.isfinite(given)
        norm = float(np.linalg.norm(exact[both]))
        apart = float(np.linalg.norm(given[both] - exact[both]))
        finite = np.array_equal(np.isfinite(exact), np.isfinite(given))
        if not finite or apart > _LEAST * norm:
            return (
                f"without its integers the file gives another output {name} than the float32 file "
                f"(relative L2 {apart / norm if norm else float('inf'):.2g})"
            )
    return ""


def _in_floats(model: ModelProto, parent: ModelProto) -> bool:
    """Compute in floats throughout, with the weights of the parent; false: it cannot be done."""
    wide = {
        name: tensor
        for name, tensor in structure.constants(parent.graph)
        if tensor.data_type in counterparts.FLOATS
    }
    weights = {weight.name: weight for weight in quantised.weights(model)}
    if not all(_fits(weight, wide) for weight in weights.values()):
        return False
    if any(_unknown(node) for node in structure.nodes(model.graph)):
        return False
    # Before IR version 4 weights are inputs too, with a type of their own.
    model.ir_version = max(model.ir_version, 4)
    activations = _dropped_activations(model.graph, parent.graph)
    _rewrite(model.graph, weights, wide, activations)
    return True


def _dropped_activations(graph: GraphProto, parent: GraphProto) -> dict[str, list[NodeProto]]:
    """What the rounding of a tensor does beside: ONNX Runtime's quantizer drops Relu and Clip.

    It does so where the range of the integers ends where they end. The tensor keeps the name of
    what they gave. One whose range does not do the same is none of these: it is missing.
    """
    held = dict(structure.constants(parent))
    scales = dict(structure.constants(graph))
    before = {name: node for node in parent.node for name in node.output}
    now = {name: node.op_type for node in graph.node for name in node.output}
    # An output of the graph is what is in floats again, and has the name.
    again = {node.input[0]: node.output[0] for node in graph.node if node.op_type in _ROUNDS}
    found = {}
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        own = before.get(node.input[0]) or before.get(again.get(node.output[0], ""))
        if own is None or own.op_type not in ("Relu", "Clip"):
            continue
        if now.get(own.output[0]) != own.op_type and _within(node, own, scales, held):
            found[node.output[0]] = _activation(node, own, held)
    return found


def _within(
    node: NodeProto,
    activation: NodeProto,
    scales: Mapping[str, TensorProto],
    held: Mapping[str, TensorProto],
) -> bool:
    """Whether integers end where an activation does, or earlier."""
    if node.input[1] not in scales or len(node.input) < 3 or node.input[2] not in scales:
        return False
    step = float(numpy_helper.to_array(scales[node.input[1]]).ravel()[0])
    zero = numpy_helper.to_array(scales[node.input[2]])
    limits = np.iinfo(zero.dtype)
    low, high = ((int(end) - int(zero.ravel()[0])) * step for end in (limits.min, limits.max))
    least, most = quantised.limits(activation, held)
    # Zero is a whole number of steps, so that other ends are off by less than one.
    return low > least - step and high < most + step


def _activation(
    node: NodeProto, own: NodeProto, held: Mapping[str, TensorProto]
) -> list[NodeProto]:
    """The activation, in place of the node that rounds."""
    names = {name: f"{node.output[0]}/{name}" for name in own.input[1:] if name}
    made = [
        helper.make_node("Constant", [], [name], value=held[old]) for old, name in names.items()
    ]
    copy = NodeProto()
    copy.CopyFrom(own)
    copy.ClearField("name")  # the node itself may be there too
    copy.ClearField("input")
    copy.input.extend([node.input[0], *(names.get(name, "") for name in own.input[1:])])
    copy.ClearField("output")
    copy.output.append(node.output[0])
    return [*made, copy]


def _unknown(node: NodeProto) -> bool:
    """Whether a node computes in integers in a way that has no twin here."""
    known = (_RECURRENT[0], "DynamicQuantizeLinear", "MatMulNBits", *_ROUNDS, *_IN_FLOATS)
    return node.op_type not in known and node.op_type.startswith(_INTEGERS)


def _fits(weight: Weight, wide: Mapping[str, TensorProto]) -> bool:
    tensor = wide.get(weight.source)
    if tensor is None and weight.kind == TensorProto.INT32:
        return weight.floats() is not None  # a bias, to so many digits
    return tensor is not None and int(np.prod(tensor.dims, dtype=np.int64)) == weight.elements


def _rewrite(
    graph: GraphProto,
    weights: Mapping[str, Weight],
    wide: Mapping[str, TensorProto],
    activations: Mapping[str, list[NodeProto]],
) -> None:
    # Scales that nodes of their own multiply by.
    scales = {weight.scale for weight in weights.values()}
    graph.ClearField("value_info")
    fed = [value for value in graph.input if value.name not in weights]
    graph.ClearField("input")
    graph.input.extend(fed)
    for tensor in graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(_widened(tensor, weights[tensor.name], wide))
        elif tensor.name in scales:
            ones = np.ones_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(ones, tensor.name))
    nodes = list(graph.node)
    graph.ClearField("node")
    for node in nodes:
        for inner in _subgraphs(node):
            _rewrite(inner, weights, wide, activations)
        graph.node.extend(activations.get(node.output[0]) or _replaced(node))


def _widened(tensor: TensorProto, weight: Weight, wide: Mapping[str, TensorProto]) -> TensorProto:
    own = wide.get(weight.source)
    if own is None:
        values, _ = weight.floats() or (np.zeros(0), None)
        return numpy_helper.from_array(values.astype(np.float32), tensor.name)
    values = numpy_helper.to_array(own)
    if weight.transposed:
        values = values.T
    return numpy_helper.from_array(np.ascontiguousarray(values), tensor.name)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _replaced(node: NodeProto) -> list[NodeProto]:
    """What computes in floats what a node computes in integers."""
    if node.op_type in _ROUNDS:
        return [helper.make_node("Identity", node.input[:1], node.output)]
    if node.op_type == "DynamicQuantizeLinear":
        values, scale, zero = node.output
        return [
            helper.make_node("Identity", node.input[:1], [values]),
            _constant(scale, np.float32(1)),
            _constant(zero, np.uint8(0)),
        ]
    if node.op_type == "MatMulNBits":
        return _product(node)
    old, new, count = _RECURRENT
    if node.op_type == old:
        node.op_type, node.domain = new, ""
    elif node.op_type in _IN_FLOATS:
        node.op_type, count = _IN_FLOATS[node.op_type]
    else:
        return [node]
    del node.input[count:]
    return [node]


def _constant(name: str, value: np.generic) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value)))


def _product(node: NodeProto) -> list[NodeProto]:
    bias = node.input[5] if len(node.input) > 5 else ""
    product = f"{node.output[0]}/unquantised" if bias else node.output[0]
    found = [helper.make_node("MatMul", node.input[:2], [product])]
    if bias:
        found.append(helper.make_node("Add", [product, bias], node.output))
    return found
