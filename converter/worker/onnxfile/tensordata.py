"""The data of tensors as hashes, so that two files can be compared without holding both."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from onnx import SparseTensorProto, TensorProto, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from converter.worker.onnxfile import structure

_CHUNK = 1 << 22  # bytes in memory at a time


class TensorData:
    """What tensors of one model hold.

    Attributes:
        unread: the files of external data that were not read → why.
    """

    def __init__(self, folder: Path | None) -> None:
        """``folder``: of the model; without it no external data is opened."""
        self.unread: dict[str, str] = {}
        self._folder = folder
        self._hashes: dict[tuple[str, int, int], str | None] = {}

    def sha256(self, tensor: TensorProto) -> str | None:
        """The same for each of the ways in which a file may store the values.

        ``None``: they are external and were not read.

        Raises:
            ValueError: the tensor is damaged.
        """
        if not uses_external_data(tensor):
            return hashlib.sha256(stored(tensor)).hexdigest()
        info: Any = ExternalDataInfo(tensor)  # its stubs know offset and length as None only
        # Tensors may share a place of the file, which is read once.
        key = (info.location, info.offset or 0, size(tensor))
        if key not in self._hashes:
            self._hashes[key] = self._external(*key)
        return self._hashes[key]

    def sparse_sha256(self, sparse: SparseTensorProto) -> str | None:
        """Of the values, and of the places where they stand."""
        parts = [self.sha256(sparse.values), self.sha256(sparse.indices)]
        if None in parts:
            return None
        return hashlib.sha256(f"{parts} {list(sparse.indices.dims)}".encode()).hexdigest()

    def _external(self, location: str, offset: int, length: int) -> str | None:
        if self._folder is None:
            self.unread[location] = "was not opened"
            return None
        path = self._folder / location
        try:
            # A model from anywhere must not make us read other files, through `../` or a link.
            if not path.resolve().is_relative_to(self._folder.resolve()):
                self.unread[location] = "lies outside of the model's folder"
            elif not path.is_file():  # a pipe would wait for ever
                self.unread[location] = "is no file" if path.exists() else "does not exist"
            # Checked first: a hash of what is left of it would be one of another tensor.
            elif path.stat().st_size < offset + length:
                self.unread[location] = "is shorter than the model says"
            else:
                return _hash(path, offset, length)
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, Python 3.12
            self.unread[location] = f"cannot be read: {error}"
        return None


def _hash(path: Path, offset: int, length: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(offset)
        while length and (chunk := file.read(min(length, _CHUNK))):
            found.update(chunk)
            length -= len(chunk)
    return found.hexdigest()


def stored(tensor: TensorProto) -> bytes:
    """The bytes of values that lie in the model, as ``raw_data`` would hold them."""
    if tensor.data_type == TensorProto.STRING:  # each with its length: a text may hold anything
        return b"".join(b"%d:%b" % (len(text), text) for text in tensor.string_data)
    # Typed fields (`float_data`) are packed as they would be raw, little-endian.
    return tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data


def size(tensor: TensorProto) -> int:
    """Bytes of the data, wherever they lie."""
    if uses_external_data(tensor):
        info: Any = ExternalDataInfo(tensor)
        # A length need not be stated; the tensor's own size is meant then.
        return structure.tensor_bytes(tensor) if info.length is None else int(info.length)
    if tensor.data_type == TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return len(stored(tensor))
