"""The source ``{onnx: PATH}``: a model that already is an ONNX file.

A file from a stranger can name any file of this machine as its external data. onnx refuses
the escapes that are known; ONNX Runtime follows some. So onnx reads the data here, before
anything else opens the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.checker import ValidationError
from onnx.external_data_helper import load_external_data_for_tensor

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.worker.onnxfile import structure

# How a clone of onnx/models without Git LFS begins in place of each model.
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file and its content, external data included."""

    path: Path
    proto: onnx.ModelProto


def load(path: Path) -> OnnxFile:
    """Read an ONNX file with its external data.

    Raises:
        StageError: LOAD when there is no ONNX model, EXTERNAL_DATA when a tensor's data lies
            outside the file's folder, behind a link, or is missing.
    """
    files.require(Code.LOAD, "source.onnx:", path)
    try:
        # With the format stated, or onnx reads a file called `.json` or `.pbtxt` as text.
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError:
        proto = onnx.ModelProto()
    # Protobuf may take a file that is no model for a message of unknown fields.
    if not proto.HasField("graph"):
        raise StageError(Code.LOAD, f"source.onnx: {path} is not an ONNX model", _advice(path))
    for value in (*proto.graph.input, *proto.graph.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if min(sizes, default=0) < -1:  # which some exporters write for a size that may vary
            said = f"source.onnx: {path}: '{value.name}' is declared {sizes}: no size is below 0"
            raise StageError(Code.LOAD, said, "Export it again: a size that may vary has a name.")
    # One by one, so that the error names the tensor.
    for tensor in structure.tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, path)
    return OnnxFile(path, proto)


def _advice(path: Path) -> str:
    with path.open("rb") as file:
        pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    if pointer:
        return "It is a pointer of Git LFS: run git lfs pull in its repository."
    return "Get the file again."


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    try:
        load_external_data_for_tensor(tensor, str(path.parent))
        return
    except (ValidationError, ValueError) as error:  # a ValueError: offset or length
        reason = _reason(path.parent, location) or str(error).splitlines()[0]
    except OSError as error:
        reason = error.strerror or str(error)
    raise StageError(
        Code.EXTERNAL_DATA,
        f"source.onnx: {path}: tensor '{tensor.name}' has its data in '{location}': {reason}",
        "External data must be an independent file in the folder of the model; copy it there.",
    )


def _reason(folder: Path, location: str) -> str:
    place = folder / location
    if Path(location).is_absolute():
        return "an absolute path"
    if not place.resolve().is_relative_to(folder.resolve()):
        return "outside the model's folder"
    if place.is_symlink():
        return "a symbolic link"
    if not place.exists():
        return "no such file"
    if not place.is_file():
        return "a folder" if place.is_dir() else "no regular file"
    return "a hard link" if place.stat().st_nlink > 1 else ""
