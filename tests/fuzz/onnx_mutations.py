"""ONNX files made wrong: as bytes, as messages of protobuf, and in what they mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mutations
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

_LOCATIONS = (
    "/etc/passwd", "../seeds/outside.onnx.data", "/dev/zero", "/dev/random", "/proc/self/mem",
    ".", "", "fifo", "link", "missing", "mutant.onnx", "outside.onnx.data",
    "a/../outside.onnx.data",
)  # fmt: skip
_SWAPS = {
    "Add": "Sub", "Sub": "Add", "Mul": "Add", "Relu": "Sigmoid", "Tanh": "Sin", "Identity": "Neg",
    "Conv": "ConvTranspose", "Gemm": "MatMul", "LeakyRelu": "Relu", "Reshape": "Expand",
    "Cast": "Abs", "Slice": "Gather", "Flatten": "Softmax", "Loop": "If", "If": "Loop",
    "LSTM": "GRU",
}  # fmt: skip
_DOUBLINGS = (5, 20, 26, 40)
_DEPTHS = (5, 60, 90, 200, 2000)


def mutant(seed: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """The bytes of a file that is like ``seed``, and is not."""
    if rng.random() < 0.35:
        return mutations.of_bytes(seed, rng, others)
    model = ModelProto.FromString(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_KINDS)(model, rng)
    if rng.random() < 0.01:
        _doubling(model, rng)
    data = model.SerializeToString()
    if rng.random() < 0.02:
        data += _deep(rng)
    return mutations.of_bytes(data, rng, others) if rng.random() < 0.05 else data


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if hasattr(value, "add") else (value,):
                yield from _messages(inner)


def _field(model: ModelProto, rng: random.Random) -> None:
    """Any field of any message: cleared, set, doubled, shuffled or shortened."""
    message = rng.choice(list(_messages(model)))
    stated = [field.name for field, _ in message.ListFields()]
    every = [field.name for field in message.DESCRIPTOR.fields]
    name = rng.choice(stated if stated and rng.random() < 0.75 else every)
    field = message.DESCRIPTOR.fields_by_name[name]
    kind = rng.randrange(4)
    if kind == 0:
        message.ClearField(name)
        return
    repeated = hasattr(getattr(message, name), "append")
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        _of_message(message, name, repeated, rng)
    elif repeated:
        _of_list(getattr(message, name), field, rng)
    else:
        _set(message, name, _scalar(field, rng))


def _of_message(message: Message, name: str, repeated: bool, rng: random.Random) -> None:
    value: Any = getattr(message, name)
    if not repeated:
        value.SetInParent()
    elif not value or rng.random() < 0.1:
        value.add()
    else:
        place = rng.randrange(len(value))
        kind = rng.randrange(3)
        if kind == 0:
            del value[place]
        elif kind == 1:
            value.add().CopyFrom(value[place])
        else:
            parts = [type(part).FromString(part.SerializeToString()) for part in value]
            rng.shuffle(parts)
            message.ClearField(name)
            value.extend(parts)


def _of_list(value: Any, field: FieldDescriptor, rng: random.Random) -> None:
    kind = rng.randrange(4)
    try:
        if value and kind == 0:
            del value[rng.randrange(len(value))]
        elif value and kind == 1:
            value[rng.randrange(len(value))] = _scalar(field, rng)
        elif value and kind == 2:
            value.append(rng.choice(list(value)))
        else:
            value.append(_scalar(field, rng))
    except (ValueError, TypeError, OverflowError):  # a number that the field does not hold
        return


def _set(message: Message, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError, OverflowError):
        return


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice((*mutations.TEXTS, *_LOCATIONS, *_SWAPS, "x", "y", "w"))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice((b"", b"\0", b"\xff\xfe", b"x" * 3000, rng.randbytes(16)))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice((0.0, -0.0, 1.0, -1e30, 1e38, float("inf"), float("nan")))
    if field.type == FieldDescriptor.TYPE_INT32 or field.enum_type is not None:
        return rng.choice((*range(-1, 30), 99, 2**31 - 1, -(2**31)))
    return rng.choice(mutations.NUMBERS)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _nodes(model: ModelProto) -> list[NodeProto]:
    found = [node for graph in _graphs(model.graph) for node in graph.node]
    return [*found, *(node for function in model.functions for node in function.node)]


def _tensors(model: ModelProto) -> list[TensorProto]:
    return [each for each in _messages(model) if isinstance(each, TensorProto)]


def _dims(model: ModelProto, rng: random.Random) -> None:
    found = [each for each in _messages(model) if each.DESCRIPTOR.name == "Dimension"]
    tensors = _tensors(model)
    if found and rng.random() < 0.5:
        dim: Any = rng.choice(found)
        if rng.random() < 0.7:
            dim.dim_value = rng.choice(mutations.NUMBERS)
        else:
            dim.dim_param = rng.choice((*mutations.TEXTS, "n", "batch", "9**9**9", "n + 1", "2*n"))
    elif tensors:
        tensor = rng.choice(tensors)
        if tensor.dims and rng.random() < 0.8:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(mutations.NUMBERS)
        else:
            tensor.dims.append(rng.choice(mutations.NUMBERS))


def _dtype(model: ModelProto, rng: random.Random) -> None:
    kinds = (*range(-1, 28), 99, 2**31 - 1)
    tensors = _tensors(model)
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if tensors and rng.random() < 0.5:
        _set(rng.choice(tensors), "data_type", rng.choice(kinds))
    elif values:
        _set(rng.choice(values).type.tensor_type, "elem_type", rng.choice(kinds))


def _location(model: ModelProto, rng: random.Random) -> None:
    tensors = _tensors(model)
    if not tensors:
        return
    tensor = rng.choice(tensors)
    tensor.data_location = TensorProto.EXTERNAL
    if rng.random() < 0.5:
        tensor.ClearField("raw_data")
    if rng.random() < 0.7:
        del tensor.external_data[:]
    tensor.external_data.add(key="location", value=rng.choice(_LOCATIONS))
    for key in ("offset", "length"):
        if rng.random() < 0.5:
            text = rng.choice(("0", "-1", "4096", "99999999999999999999", "x", "", "1e3", "16"))
            tensor.external_data.add(key=key, value=text)


def _raw(model: ModelProto, rng: random.Random) -> None:
    tensors = [tensor for tensor in _tensors(model) if tensor.raw_data]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    data = bytearray(tensor.raw_data)
    kind = rng.randrange(4)
    if kind == 0:
        data = data[: rng.randrange(len(data))]
    elif kind == 1:
        data += rng.randbytes(rng.choice((1, 4, 100)))
    elif kind == 2:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        place = rng.randrange(len(data))
        data[place : place + 4] = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\0\x80"))
    tensor.raw_data = bytes(data)


def _meaning(model: ModelProto, rng: random.Random) -> None:
    """Another operator, other ends: the file may be valid, and computes something else."""
    nodes = _nodes(model)
    if not nodes:
        return
    node = rng.choice(nodes)
    names = [name for each in nodes for name in (*each.input, *each.output)]
    kind = rng.randrange(4)
    if kind == 0:
        node.op_type = _SWAPS.get(node.op_type, rng.choice(list(_SWAPS)))
    elif kind == 1 and node.input and names:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 2 and node.output and names:
        node.output[rng.randrange(len(node.output))] = rng.choice(names)
    elif len(node.input) > 1:
        reversed_inputs = list(node.input)[::-1]
        del node.input[:]
        node.input.extend(reversed_inputs)


def _attribute(model: ModelProto, rng: random.Random) -> None:
    found = [attribute for node in _nodes(model) for attribute in node.attribute]
    if not found:
        return
    attribute = rng.choice(found)
    kind = rng.randrange(4)
    if kind == 0:
        _set(attribute, "type", rng.randrange(0, 16))
    elif kind == 1 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(mutations.NUMBERS)
    elif kind == 2:
        attribute.i = rng.choice(mutations.NUMBERS)
    else:
        attribute.name = rng.choice(
            ("", "axis", "to", "perm", "value", "body", "\0", "then_branch")
        )


def _opset(model: ModelProto, rng: random.Random) -> None:
    versions = (0, 1, 6, 7, 9, 13, 17, 18, 21, 23, 26, 27, 99, -1, 2**31, 2**62)
    if model.opset_import and rng.random() < 0.6:
        rng.choice(model.opset_import).version = rng.choice(versions)
    elif rng.random() < 0.5:
        domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "own", "\0"))
        model.opset_import.append(helper.make_opsetid(domain, rng.choice(versions)))
    else:
        model.ir_version = rng.choice((0, 1, 3, 7, 8, 10, 11, 13, 14, 99, 2**31, 2**62, -1))


def _deep(rng: random.Random) -> bytes:
    """A branch in a branch in a branch, to be put behind a file: protobuf merges the two graphs."""
    # By hand: protobuf itself builds and reads no more than 100 levels.
    graph = _part(1, _part(1, b"x") + _part(2, b"deep") + _part(4, b"Identity"))
    for _ in range(rng.choice(_DEPTHS)):
        branch = _part(1, b"then_branch") + _part(6, graph + _part(2, b"inner")) + b"\xa0\x01\x05"
        node = _part(1, b"which") + _part(2, b"out") + _part(4, b"If") + _part(5, branch)
        graph = _part(1, node)
    return _part(7, graph)


def _part(number: int, content: bytes) -> bytes:
    """A field of bytes, a text or a message, as protobuf writes it."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((number << 3 | 2, *length, size)) + content


def _doubling(model: ModelProto, rng: random.Random) -> None:
    """A tensor that doubles with each node: a small file, and memory without an end."""
    if not model.graph.output:
        return
    last = model.graph.output[0].name
    for level in range(rng.choice(_DOUBLINGS)):
        name = f"double{level}"
        model.graph.node.append(helper.make_node("Concat", [last, last], [name], axis=0))
        last = name
    model.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))


def _function(model: ModelProto, rng: random.Random) -> None:
    """A function that calls itself, or is called as an operator is."""
    if model.functions and rng.random() < 0.7:
        function = rng.choice(model.functions)
        node = helper.make_node(function.name, ["x", "w"], ["again"], domain=function.domain)
        function.node.append(node)
    else:
        function = model.functions.add(name=rng.choice(("Add", "Relu", "Mul")), domain="")
        function.input.extend(["a", "b"])
        function.output.append("c")
        function.node.append(helper.make_node(function.name, ["a", "b"], ["c"]))
        function.opset_import.append(helper.make_opsetid("", 17))


_KINDS: tuple[Callable[[ModelProto, random.Random], None], ...] = (
    _field, _field, _field, _field, _dims, _dims, _dtype, _location, _raw, _raw, _meaning, _meaning,
    _meaning, _attribute, _attribute, _opset, _function,
)  # fmt: skip
