"""Write a model whose weights lie in other files, without having them in memory.

One file is the same to the byte as what protobuf would write: fields in the order of their
numbers, those of a list one by one, each behind its number and its length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import uses_external_data

from converter.worker.onnxfile import outside
from converter.worker.onnxfile.outside import Part

_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_DELIMITED = 2  # the wire type of what states its length

_Piece = bytes | Part


def write(model: ModelProto, path: Path, folder: Path | None = None) -> None:
    """Write a model into one file; afterwards its initializers refer to no other.

    Args:
        folder: where those initializers lie that are not in memory.

    Raises:
        OSError: the disk is full.
    """
    apart = folder is not None and any(map(uses_external_data, model.graph.initializer))
    pieces = _model(model, folder) if folder and apart else [model.SerializeToString()]
    with path.open("wb") as target:
        for piece in pieces:
            if isinstance(piece, Part):
                outside.copy(piece, target)
            else:
                target.write(piece)
    for tensor in model.graph.initializer if apart else ():
        outside.forget(tensor)


def write_apart(model: ModelProto, path: Path, data: Path, folder: Path | None, least: int) -> None:
    """Write a model, and initializers of more than ``least`` bytes into a file beside it.

    Afterwards they refer to that file.
    """
    with data.open("wb") as target:
        for tensor in outside.initializers(model.graph):
            if folder is not None and uses_external_data(tensor):
                values: _Piece = outside.part(tensor, folder)
            else:
                values = tensor.raw_data
            size = _size(values)
            if size <= least:
                continue
            offset = target.tell()
            if isinstance(values, Part):
                outside.copy(values, target)
            else:
                target.write(values)
            outside.refer(tensor, data.name, offset, size)
        empty = not target.tell()
    if empty:
        data.unlink()
    path.write_bytes(model.SerializeToString())


def _model(model: ModelProto, folder: Path) -> list[_Piece]:
    graph = _graph(model.graph, folder)
    head = _head(_GRAPH, sum(map(_size, graph)))
    return [_before(model, _GRAPH), head, *graph, _behind(model, _GRAPH)]


def _graph(graph: GraphProto, folder: Path) -> list[_Piece]:
    pieces: list[_Piece] = [_before(graph, _INITIALIZER)]
    for tensor in graph.initializer:
        held = _tensor(tensor, folder)
        pieces += [_head(_INITIALIZER, sum(map(_size, held))), *held]
    return [*pieces, _behind(graph, _INITIALIZER)]


def _tensor(tensor: TensorProto, folder: Path) -> list[_Piece]:
    if not uses_external_data(tensor):
        return [tensor.SerializeToString()]
    values = outside.part(tensor, folder)
    inside = TensorProto()
    inside.CopyFrom(tensor)
    outside.forget(inside)
    return [_before(inside, _RAW), _head(_RAW, values.length), values, _behind(inside, _RAW)]


def _size(piece: _Piece) -> int:
    return piece.length if isinstance(piece, Part) else len(piece)


def _before(message: Any, number: int) -> bytes:
    """The fields of a message below one of them, serialised."""
    part = type(message)()
    part.CopyFrom(message)
    part.DiscardUnknownFields()  # protobuf writes them last
    for field, _ in message.ListFields():
        if field.number >= number:
            part.ClearField(field.name)
    return bytes(part.SerializeToString())


def _behind(message: Any, number: int) -> bytes:
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.number <= number:
            part.ClearField(field.name)
    return bytes(part.SerializeToString())


def _head(number: int, length: int) -> bytes:
    return _varint(number << 3 | _DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
