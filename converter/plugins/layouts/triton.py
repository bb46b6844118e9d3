"""triton: a model repository of NVIDIA's Triton Inference Server.

Each artifact is a model of the server, with numbered versions and a ``config.pbtxt`` that says
which one is served::

    resnet18/config.pbtxt        resnet18.fp16/config.pbtxt
    resnet18/1/model.onnx        resnet18.fp16/1/model.onnx

The rules are those of Triton's documentation, "Model Repository" and "Model Configuration"; the
names of fields those of ``model_config.proto``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from converter.model.base import Frozen
from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import CaseCheck, TensorInfo
from converter.plugins.layouts import FileSet, folder_apart, renamed

NUMBERED = True
APART = True
CONFIG = "config.pbtxt"
# Written with a version, which it serves alone: a new version and what is said of it change in one
# step, that of this file. What is kept is served again by copying its own one back.
OUTSIDE = (CONFIG,)

# By the ending of the main file: the backend, and what the file has to be called.
_BACKENDS = {
    ".onnx": ("onnxruntime", "model.onnx"),
    ".xml": ("openvino", "model.xml"),
    ".engine": ("tensorrt", "model.plan"),
    ".plan": ("tensorrt", "model.plan"),
}
_ON_GPUS = ("tensorrt",)
_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float32": "FP32", "float64": "FP64", "bfloat16": "BF16", "string": "STRING",
}  # fmt: skip


class Options(Frozen):
    """What is said to the server.

    Attributes:
        instances: where it runs a model: on each GPU, on the CPU, or ``auto``: on a GPU what the
            run has converted or built on one.
        instance_count: how many of a model run there at a time. Example: ``2``.
        max_batch_size: the largest batch; by default the largest size that was verified. Models
            without a batch axis have none; 0: none has. Example: ``32``.
        dynamic_batching: the server puts requests of several clients into one batch, where there
            is a batch axis; ``false`` for models whose rows depend on each other.
        max_queue_delay_us: microseconds that a request may wait for others. Example: ``500``.
        preferred_batch_sizes: sizes of which a batch is made at once. Example: ``[4, 8]``.
        extra: further fields, as text of ``config.pbtxt``. Example:
            ``"model_warmup [ ]"``.
    """

    instances: Literal["auto", "cpu", "gpu"] = "auto"
    instance_count: Annotated[int, Field(ge=1)] = 1
    max_batch_size: Annotated[int, Field(ge=0)] | None = None
    dynamic_batching: bool = True
    max_queue_delay_us: Annotated[int, Field(ge=0)] | None = None
    preferred_batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    extra: str = ""


def left_out(row: ArtifactRow) -> str:
    """Formats without a backend, and types that the server does not have."""
    suffix = Path(row.files[0].path).suffix
    if suffix not in _BACKENDS:
        return f"Triton has no backend for {suffix or row.format}"
    values = [*row.onnx.inputs, *row.onnx.outputs] if row.onnx else []
    others = sorted({value.dtype for value in values} - _TYPES.keys())
    return f"Triton has no type {', '.join(others)}" if others else ""


def sets(rows: Sequence[ArtifactRow], options: Options) -> list[FileSet]:
    """A model of the server for each artifact."""
    return [_set(row, rows[0]) for row in rows]


def _set(row: ArtifactRow, first: ArtifactRow) -> FileSet:
    _, wanted = _BACKENDS[Path(row.files[0].path).suffix]
    (_, main), *others = renamed(row, Path(wanted).stem).items()
    files = {wanted: main, **dict(others)}
    if row.onnx is not None and others:
        # A model of several files is a folder that is called as the file.
        files = {f"{wanted}/{name}": part for name, part in files.items()}
    return FileSet(folder_apart(row.name, row.id), first, [row], files)


def identity(files: FileSet, options: Options) -> str:
    return config(files, "0", options)


def texts(files: FileSet, manifest: Manifest, version: str, options: Options) -> dict[str, str]:
    return {CONFIG: config(files, version, options)}


def config(files: FileSet, version: str, options: Options) -> str:
    """``config.pbtxt`` of one version, in the text format of Protocol Buffers."""
    (row,) = files.rows
    backend, _ = _BACKENDS[Path(row.files[0].path).suffix]
    described = row.onnx or files.first.onnx
    assert described is not None, "the first artifact of a model is an ONNX file"
    batch = _batch(row, files.first, described.inputs, described.outputs, options)
    lines = [
        f"name: {_text(files.name)}",
        f"backend: {_text(backend)}",
        f"max_batch_size: {batch}",
        *_tensors("input", described.inputs, batch > 0),
        *_tensors("output", described.outputs, batch > 0),
        f"instance_group [ {{ kind: {_kind(row, files.first, backend, options)} "
        f"count: {options.instance_count} }} ]",
        f"version_policy {{ specific {{ versions: [ {version} ] }} }}",
    ]
    if batch > 1 and options.dynamic_batching and files.first.request.training == "eval":
        lines.append(_batching(options, batch))
    return "\n".join([*lines, *([options.extra] if options.extra else [])]) + "\n"


def _batch(
    row: ArtifactRow,
    first: ArtifactRow,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    options: Options,
) -> int:
    """The largest batch; 0: the model has no batch axis."""
    symbol = _batch_symbol(row.verify.cases or first.verify.cases, inputs, outputs)
    if symbol is None:
        return 0
    if options.max_batch_size is not None:
        return options.max_batch_size
    domain = row.verify.domain or first.verify.domain
    found = [each for each in domain.symbols if each.symbol == symbol] if domain else []
    return max((size for each in found for size in (each.traced, *each.sizes)), default=1)


def _batch_symbol(
    cases: Sequence[CaseCheck], inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> str | None:
    """The symbol of the batch axis: on axis 0 of all inputs and outputs, and on no other axis.

    Axes of outputs may have names of their own: they are of the batch where they had its size in
    every case.
    """
    heads = {value.shape[0] if value.shape else None for value in inputs}
    symbol = next(iter(heads), None)
    inner = {size for value in inputs for size in value.shape[1:]}
    if len(heads) != 1 or not isinstance(symbol, str) or symbol in inner:
        return None
    for place, value in enumerate(outputs):
        follow = [_follows(cases, place, axis, symbol, value) for axis in range(len(value.shape))]
        # A second axis of the batch says something of pairs, so that rows depend on each other.
        if not follow or not follow[0] or any(follow[1:]):
            return None
    return symbol


def _follows(
    cases: Sequence[CaseCheck], place: int, axis: int, symbol: str, output: TensorInfo
) -> bool:
    """Whether an axis of an output has the size of the batch."""
    declared = output.shape[axis]
    if declared == symbol or isinstance(declared, int):
        return declared == symbol
    seen = [
        (next(iter(case.shapes.values()))[:1], case.outputs[place].shape)
        for case in cases
        if case.shapes and len(case.outputs) > place
    ]
    batches = {tuple(batch) for batch, _ in seen}
    return len(batches) > 1 and all(shape[axis : axis + 1] == batch for batch, shape in seen)


def _kind(row: ArtifactRow, first: ArtifactRow, backend: str, options: Options) -> str:
    chosen = options.instances
    if chosen == "auto":
        on_gpu = backend in _ON_GPUS or first.request.device == "cuda"
        chosen = "gpu" if on_gpu else "cpu"
    return f"KIND_{chosen.upper()}"


def _batching(options: Options, batch: int) -> str:
    said = []
    sizes = [size for size in options.preferred_batch_sizes if size <= batch]
    if sizes:
        said.append(f"preferred_batch_size: [ {', '.join(map(str, sizes))} ]")
    if options.max_queue_delay_us is not None:
        said.append(f"max_queue_delay_microseconds: {options.max_queue_delay_us}")
    return f"dynamic_batching {{ {' '.join(said)} }}".replace("{  }", "{ }")


def _tensors(field: str, values: Iterable[TensorInfo], batched: bool) -> list[str]:
    lines = []
    for value in values:
        # The batch axis is not among the dims of a model that has one.
        shape = value.shape[1:] if batched else value.shape
        # -1 is any size; a size of 0 can be said no other way.
        dims = [size if isinstance(size, int) and size > 0 else -1 for size in shape]
        # The server wants at least one axis: it gives the model the shape without it.
        reshape = "" if dims else " reshape { shape: [ ] }"
        listed = ", ".join(map(str, dims or [1]))
        lines.append(
            f"{field} [ {{ name: {_text(value.name)} data_type: TYPE_{_TYPES[value.dtype]} "
            f"dims: [ {listed} ]{reshape} }} ]"
        )
    return lines


def _text(value: str) -> str:
    # Quotes and backslashes are escaped as in JSON; other characters are UTF-8 in both.
    return json.dumps(value, ensure_ascii=False)
