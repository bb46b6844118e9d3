"""Weights that stay in a file of their own while a model is checked, simplified and written.

What follows an export reads structure. With the weights in memory each step would copy them:
protobuf does when it parses, hands out, takes and serialises them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_tensor,
    uses_external_data,
)

from converter.model.errors import Code, StageError
from converter.worker.onnxfile import structure

_CHUNK = 1 << 24  # bytes in memory at a time, where the kernel does not copy


@dataclass(frozen=True)
class Part:
    """Where the values of a tensor lie."""

    path: Path
    offset: int
    length: int


def settle(model: ModelProto, folder: Path) -> None:
    """Leave large initializers where they are, once they proved to be there, and read all others.

    Args:
        model: read without its external data; changed in place.
        folder: that its external data lie in.

    Raises:
        StageError: CHECKER, where values are missing, or lie outside of the folder.
    """
    # They come first.
    own = len(model.graph.initializer)
    for place, tensor in enumerate(structure.tensors(model)):
        if uses_external_data(tensor):
            part(tensor, folder)
            if place >= own or structure.tensor_bytes(tensor) <= structure.SMALL:
                _read(tensor, folder)


def read(model: ModelProto, folder: Path) -> None:
    """Bring the values of all tensors into memory."""
    for tensor in structure.tensors(model):
        if uses_external_data(tensor):
            _read(tensor, folder)


def _read(tensor: TensorProto, folder: Path) -> None:
    load_external_data_for_tensor(tensor, str(folder))
    forget(tensor)


def forget(tensor: TensorProto) -> None:
    """Have a tensor say nothing of another file."""
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Have a tensor say that its values lie in another file."""
    tensor.ClearField("external_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def part(tensor: TensorProto, folder: Path) -> Part:
    """Where the values of a tensor of a model of that folder lie.

    Raises:
        StageError: CHECKER, where they do not lie in a file of the folder, whole.
    """
    info: Any = ExternalDataInfo(tensor)  # its stubs know offset and length as None only
    path = folder / info.location
    offset = int(info.offset or 0)
    wanted = structure.tensor_bytes(tensor)
    length = wanted if info.length is None else int(info.length)
    wrong = _wrong(path, folder, offset, length)
    if not wrong and length != wanted:
        wrong = f"has {length} bytes for it, its shape and type need {wanted}"
    if wrong:
        message = f"the external data of {tensor.name}: {info.location} {wrong}"
        raise StageError(Code.CHECKER, message)
    return Part(path, offset, length)


def _wrong(path: Path, folder: Path, offset: int, length: int) -> str:
    """Why values cannot be read there; empty: they can. Asked for each tensor of a model."""
    # To resolve a path takes a call of the system for each of its folders.
    inside = path.parent == folder or path.parent.resolve() == folder.resolve()
    try:
        status = path.lstat()
    except (OSError, ValueError):  # the latter: a NUL in the name
        return "does not exist" if inside else "lies outside of the model's folder"
    if not inside or stat.S_ISLNK(status.st_mode):
        return "lies outside of the model's folder"
    if not stat.S_ISREG(status.st_mode):
        return "is no file"
    if offset < 0 or status.st_size < offset + length:
        return "is shorter than the model says"
    return ""


def initializers(graph: GraphProto) -> Iterator[TensorProto]:
    """Those of a graph and of all below it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            # An attribute without a graph gives an empty one, whose loop ends at once.
            for inner in (attribute.g, *attribute.graphs):
                yield from initializers(inner)


def copy(source: Part, target: BinaryIO) -> None:
    """Append the values to a file; the kernel copies them where it can.

    Raises:
        OSError: the disk is full, or the values cannot be read.
    """
    target.flush()
    left, offset = source.length, source.offset
    with source.path.open("rb") as opened:
        while left:
            try:
                done = os.copy_file_range(
                    opened.fileno(), target.fileno(), min(left, 1 << 30), offset_src=offset
                )
            except (AttributeError, OSError):  # macOS, or a file system that does not
                done = 0
            if not done:
                opened.seek(offset)
                chunk = opened.read(min(left, _CHUNK))
                if not chunk:
                    raise OSError(0, "ended before its values did", str(source.path))
                os.lseek(target.fileno(), 0, os.SEEK_END)
                target.write(chunk)
                target.flush()
                done = len(chunk)
            left, offset = left - done, offset + done
    os.lseek(target.fileno(), 0, os.SEEK_END)
