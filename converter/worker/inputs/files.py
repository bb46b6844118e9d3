"""Tensors and pictures out of files; nothing in a file is executed.

Which files an input names is found by ``converter.plan.samples``, and what shows of one without
opening its tensors by ``converter.plan.foresight``.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from converter.model import urls
from converter.model.errors import Code, StageError
from converter.model.inputs import ImageSpec, InputSpec, holds_fractions
from converter.model.job import Job
from converter.plan import foresight, samples
from converter.storage import downloads
from converter.worker.inputs import dtypes
from converter.worker.inputs.dtypes import Array

# What NumPy, torch and Pillow raise on damaged files.
_UNREADABLE = (
    OSError, ValueError, EOFError, RuntimeError, LookupError, TypeError, AttributeError,
    AssertionError, OverflowError, SyntaxError, NotImplementedError, struct.error,
    zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
# What safetensors calls the types that NumPy has.
_SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "BOOL": "bool", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_AGAIN = "Get the file again, or save it anew."


def read(name: str, spec: InputSpec, number: int) -> tuple[Array, str]:
    """The tensor of one sample.

    Args:
        name: of the input.
        number: of the sample; behind the last file the first comes again.

    Returns:
        The tensor as the file has it, and the key and the file for a message.

    Raises:
        StageError: FORWARD, where the file cannot be read as one tensor.
    """
    key = f"inputs.{name}.path"
    if spec.sha256 is not None:
        files = [str(_downloaded(key, str(spec.path), spec.sha256))]
    else:
        files = samples.of(spec)
    if not files:  # in words of its own
        samples.sets({name: spec})
    path = Path(files[number % len(files)])
    kind = foresight.check_array(key, path, name, spec)
    if kind != "image":
        return _tensor(key, path, kind, name, spec), f"{key} {path}"
    image = _image(key, spec)
    rows = spec.shape[0] if str(image.layout).startswith("n") else 1
    # The rows of a batch are one picture each, or a file that mixes them up would look right.
    paths = [
        Path(files[(number + row) % len(files)]) for row in range(max(min(rows, len(files)), 1))
    ]
    pictures = [_picture(key, one, spec.dtype, image) for one in paths]
    if not str(image.layout).startswith("n"):
        return pictures[0], f"{key} {path}"
    batch = np.stack([pictures[row % len(pictures)] for row in range(max(rows, 1))])
    return batch[:rows], f"{key} {path}"


def downloaded(job: Job) -> Iterator[Path]:
    """The files of a job that lie at URLs, on this machine and hashed.

    Raises:
        StageError: FORWARD, where one does not come, or another.
    """
    for key, tensor in samples.named(job):
        if tensor.path is not None and urls.is_url(tensor.path):
            yield _downloaded(key, tensor.path, str(tensor.sha256))


@cache  # a job draws its inputs many times: once is enough to hash them
def _downloaded(key: str, url: str, sha256: str) -> Path:
    return downloads.local("file", key, url, sha256, unreachable=Code.FORWARD, other=Code.FORWARD)


def _tensor(key: str, path: Path, kind: str, name: str, spec: InputSpec) -> Array:
    hint = f"expected a {kind} file"
    try:
        if kind == ".safetensors":
            return _of_safetensors(key, path, spec.key, name)
        if kind == ".pt":
            return _of_torch(key, path, spec.key, name)
        # Unpickling would run code out of a file of data.
        found = np.load(path, allow_pickle=False)
        if kind == ".npz":
            with found:
                array: Array = found[foresight.chosen(key, found.files, spec.key, name)]
                return array
    except _UNREADABLE as error:
        raise foresight.unreadable(key, path, _brief(error), hint) from error
    return np.asarray(found)


def _of_safetensors(key: str, path: Path, stated: str | None, own: str) -> Array:
    header, start = foresight.safetensors_header(key, path)
    about = header[foresight.chosen(f"{key} {path}", list(header), stated, own)]
    if about["dtype"] not in _SAFETENSORS:
        raise ValueError(f"NumPy has no type {about['dtype']}; save it as float32")
    dtype = dtypes.named(_SAFETENSORS[about["dtype"]])
    # Types of ml_dtypes have the machine's byte order alone.
    dtype = dtype if dtype.name in dtypes.NARROW else dtype.newbyteorder("<")
    first, past = about["data_offsets"]
    with path.open("rb") as file:
        file.seek(start + first)
        data = file.read(past - first)
    # A buffer cannot be written to; the caller copies.
    array = np.frombuffer(data, dtype).reshape(about["shape"])
    return array if dtypes.is_narrow(array) else array.astype(dtype.newbyteorder("="))


def _of_torch(key: str, path: Path, stated: str | None, own: str) -> Array:
    import torch

    from converter.worker.inputs import tensors

    try:
        # Literal: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD would let the file run code otherwise.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StageError(
            Code.FORWARD,
            f"{key} {path} holds more than tensors, or no tensors, and was not loaded: "
            f"{_brief(error)}",
            "Save the tensor alone: torch.save(tensor, path), or a mapping of tensors.",
        ) from error
    if isinstance(found, Mapping):
        held = {str(name): value for name, value in found.items() if torch.is_tensor(value)}
        found = held[foresight.chosen(f"{key} {path}", list(held), stated, own)]
    elif stated is not None:
        raise ValueError(f"it holds a {type(found).__name__}, which has no key '{stated}'")
    if not torch.is_tensor(found):
        raise ValueError(f"it holds a {type(found).__name__}; expected a tensor")
    return tensors.array(found)


def _image(key: str, spec: InputSpec) -> ImageSpec:
    try:
        return (spec.image or ImageSpec()).on(spec.shape)
    except ValueError as error:
        raise StageError(
            Code.FORWARD, f"{key}: {error}", "State image: {…} or another shape."
        ) from None


def _picture(key: str, path: Path, dtype: str, image: ImageSpec) -> Array:
    """A picture as a tensor without a batch, in the layout that is asked for."""
    from PIL import Image, ImageOps

    assert isinstance(image.size, list), "`on` has stated it"
    height, width = image.size
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a picture that would unpack to over 89 million pixels.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                picture: Any = opened.convert(image.mode)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise StageError(
            Code.FORWARD,
            f"{key} {path} would unpack to too many pixels: {_brief(error)}",
            "Give a smaller picture.",
        ) from error
    except _UNREADABLE as error:
        hint = "expected a picture that Pillow reads: the file may be truncated"
        raise foresight.unreadable(key, path, _brief(error), hint) from error
    if image.resize == "stretch":
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    elif image.resize == "cover":
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    elif picture.size != (width, height):
        found = f"{picture.size[1]}×{picture.size[0]}"
        raise StageError(
            Code.FORWARD,
            f"{key} {path} is {found} (height × width), expected {height}×{width}",
            "image.resize: stretch or cover resizes it.",
        )
    values: Any = np.asarray(picture).reshape(height, width, -1)
    if holds_fractions(dtype):
        values = values.astype(np.float64) / 255
        values = (values - np.asarray(image.mean or 0.0)) / np.asarray(image.std or 1.0)
    if str(image.layout).endswith("chw"):
        values = np.moveaxis(values, -1, 0)
    return dtypes.cast(values, dtypes.named(dtype))


def _brief(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0][:160]
    return text or type(error).__name__
