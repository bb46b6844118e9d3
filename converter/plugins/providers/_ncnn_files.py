"""The files of an ncnn model, read without ncnn: ``.param``, ``.bin`` and the ``.json`` beside.

``.param`` is text: a magic number, the numbers of layers and of blobs, then one layer a line: type,
name, numbers of inputs and outputs, their blobs, ``id=value``. ``.bin`` has the weights one after
the other, with nothing that says whose they are: the layers say how many each reads, as the
functions ``load_param`` and ``load_model`` of ncnn's layers have it (ncnn 20261020, BSD-3-Clause;
facts of the format, written anew). ``.json`` is ours: ncnn knows neither the names of inputs and
outputs nor where a batch axis was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAGIC = "7767517"
DTYPES = ("float32", "int64", "int32")
"""Types of inputs that ncnn takes, as ONNX has them."""
_MOST_PARAMETER_ID = 31
# Tags before weights that may be stored in several ways; anything else is a table of 256 values.
_HALF, _BYTES, _RAW = 0x01306B47, 0x000D4B38, 0x0002C056


@dataclass(frozen=True)
class Layer:
    """One line of a ``.param``.

    Attributes:
        inputs: the blobs that it reads.
        outputs: the blobs that it writes.
        parameters: id → value, as text; of an array the values, without their number.
    """

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, str]

    def integer(self, key: int, default: int = 0) -> int:
        """A parameter that is a whole number.

        Raises:
            ValueError: it is none.
        """
        text = self.parameters.get(key, str(default))
        try:
            return int(text)
        except ValueError as error:
            raise ValueError(f"layer {self.name}: {key}={text} is no whole number") from error


@dataclass(frozen=True)
class Weight:
    """Weights that a layer reads.

    Attributes:
        layer: its name.
        role: ``weight``, ``bias``, …
        tagged: they may be stored in float16; others are float32 in every file.
        values: one-dimensional, of the type in which they are stored.
    """

    layer: str
    role: str
    tagged: bool
    values: Array


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model, and the blob that it is in ncnn.

    Attributes:
        name: in the ONNX file.
        blob: in the ``.param``.
        batch_axis: the axis that ncnn keeps apart as its batch; ``None``: the blob has none.
        dtype: in the ONNX file, such as ``int64``; ncnn takes ids as int32.
    """

    name: str
    blob: str
    batch_axis: int | None
    dtype: str


@dataclass(frozen=True)
class Binding:
    """What ``.json`` says.

    Attributes:
        sizes: shapes of the inputs, where the file is meant for these alone.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sizes: dict[str, list[int]] | None = None

    def text(self) -> str:
        """As it stands in the file."""
        told: dict[str, Any] = {
            "format": 1,
            "inputs": [vars(tensor) for tensor in self.inputs],
            "outputs": [vars(tensor) for tensor in self.outputs],
        }
        if self.sizes is not None:
            told["sizes"] = self.sizes
        return json.dumps(told, indent=1) + "\n"


def read_binding(path: Path) -> Binding:
    """What the ``.json`` of a model says.

    Raises:
        ValueError: it is none, or of another format.
        OSError: it cannot be read.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != 1:
            raise ValueError(f"{path.name} is of format {told['format']}, expected 1")
        inputs, outputs = ([_tensor(one) for one in told[key]] for key in ("inputs", "outputs"))
        return Binding(tuple(inputs), tuple(outputs), told.get("sizes"))
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} does not say which blobs are inputs and outputs") from error


def _tensor(told: dict[str, Any]) -> Tensor:
    found = Tensor(**told)
    if found.dtype not in DTYPES or not isinstance(found.batch_axis, int | None):
        raise TypeError
    return found


def read_param(path: Path) -> list[Layer]:
    """The layers of a ``.param``, in order.

    Raises:
        ValueError: it is none; a sentence with the line.
        OSError: it cannot be read.
    """
    # ncnn reads bytes, and names of pnnx are ASCII: what is not shows as a wrong name.
    return parse_param(path.read_text(encoding="utf-8", errors="replace"))


def parse_param(text: str) -> list[Layer]:
    """The layers of the text of a ``.param``, in order.

    Raises:
        ValueError: it is none; a sentence with the line.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"line 1 is not {MAGIC}: this is no .param of ncnn in text form")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(count.isdecimal() for count in counts):
        raise ValueError("line 2 does not hold the number of layers and that of blobs")
    layers, blobs = [], set[str]()
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        layer = _layer(line, number)
        missing = [blob for blob in layer.inputs if blob not in blobs]
        if missing:
            raise ValueError(f"line {number}: {layer.name} reads {missing[0]}, which no layer made")
        blobs.update(layer.outputs)
        layers.append(layer)
    for said, found, what in zip(
        counts, (len(layers), len(blobs)), ("layers", "blobs"), strict=True
    ):
        if int(said) != found:
            raise ValueError(f"the file says {said} {what} and has {found}")
    return layers


def _layer(line: str, number: int) -> Layer:
    words = line.split()
    if len(words) < 4 or not (words[2].isdecimal() and words[3].isdecimal()):
        raise ValueError(f"line {number} is no layer: {line.strip()[:80]}")
    first = 4 + int(words[2])
    last = first + int(words[3])
    if len(words) < last:
        raise ValueError(f"line {number}: {words[1]} names fewer blobs than it says")
    parameters = dict(_parameter(word, number) for word in words[last:])
    return Layer(words[0], words[1], tuple(words[4:first]), tuple(words[first:last]), parameters)


def _parameter(word: str, number: int) -> tuple[int, str]:
    key, separator, value = word.partition("=")
    if not separator or not re.fullmatch(r"-?\d+", key):
        raise ValueError(f"line {number}: {word[:80]} is no parameter")
    index = int(key)
    if index <= -23300:
        # An array, which begins with the number of its values.
        index, (_, _, value) = -23300 - index, value.partition(",")
    if not 0 <= index <= _MOST_PARAMETER_ID:
        raise ValueError(f"line {number}: there is no parameter {index}")
    return index, value


# Role, number of elements, whether a tag says how they are stored.
_Read = tuple[str, int, bool]


def _convolution(layer: Layer) -> Iterator[_Read]:
    if layer.integer(28 if layer.type.startswith("Deconvolution") else 19):
        return  # its weights are an input
    yield "weight", layer.integer(6), True
    if layer.integer(5):
        yield "bias", layer.integer(0), False


def _deformable(layer: Layer) -> Iterator[_Read]:
    yield "weight", layer.integer(6), True
    if layer.integer(5):
        yield "bias", layer.integer(0), False


def _inner_product(layer: Layer) -> Iterator[_Read]:
    yield "weight", layer.integer(2), True
    if layer.integer(1):
        yield "bias", layer.integer(0), False


def _embed(layer: Layer) -> Iterator[_Read]:
    yield "weight", layer.integer(3), True
    if layer.integer(2):
        yield "bias", layer.integer(0), False


def _gemm(layer: Layer) -> Iterator[_Read]:
    rows, columns, inner = layer.integer(7), layer.integer(8), layer.integer(9)
    if layer.integer(4):
        yield "A", rows * inner, True
    if layer.integer(5):
        yield "B", columns * inner, True
    if layer.integer(6) and layer.integer(10) != -1:
        yield "C", (1, rows, rows, rows * columns, columns)[layer.integer(10)], True


def _batch_norm(layer: Layer) -> Iterator[_Read]:
    for role in ("slope", "mean", "variance", "bias"):
        yield role, layer.integer(0), False


def _group_norm(layer: Layer) -> Iterator[_Read]:
    if layer.integer(3, 1):
        yield "gamma", layer.integer(1), False
        yield "beta", layer.integer(1), False


def _norm(layer: Layer) -> Iterator[_Read]:
    if layer.integer(2, 1):
        yield "gamma", layer.integer(0), False
        if layer.type != "RMSNorm":
            yield "beta", layer.integer(0), False


def _recurrent(layer: Layer) -> Iterator[_Read]:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[layer.type]
    width, directions = layer.integer(0), 2 if layer.integer(2) == 2 else 1
    hidden = layer.integer(3, width) if layer.type == "LSTM" else width
    yield "weight of inputs", layer.integer(1), True
    # A GRU has two biases for one gate.
    yield "bias", hidden * (4 if layer.type == "GRU" else gates) * directions, True
    yield "weight of state", width * hidden * gates * directions, True
    if hidden != width:
        yield "projection", hidden * width * directions, True


def _attention(layer: Layer) -> Iterator[_Read]:
    size = layer.integer(0)
    if not size:
        raise ValueError(f"layer {layer.name} says no size of its embedding")
    queries = layer.integer(2) // size
    for role, width in (
        ("q", queries), ("k", layer.integer(3, size)), ("v", layer.integer(4, size)),
    ):  # fmt: skip
        yield f"weight of {role}", size * width, True
        yield f"bias of {role}", size, False
    yield "weight of out", queries * size, True
    yield "bias of out", queries, False


def _memory(layer: Layer) -> Iterator[_Read]:
    sizes = [layer.integer(key) for key in (0, 1, 11, 2)]
    if any(sizes):
        yield "data", prod(size for size in sizes if size), layer.integer(21, 1) == 0


def _scale(layer: Layer) -> Iterator[_Read]:
    if layer.integer(0) != -233:
        yield "scale", layer.integer(0), False
        if layer.integer(1):
            yield "bias", layer.integer(0), False


def _single(role: str, key: int) -> Callable[[Layer], Iterator[_Read]]:
    def read(layer: Layer) -> Iterator[_Read]:
        if layer.integer(key):
            yield role, layer.integer(key), False

    return read


_CONVOLUTIONS = [
    f"{kind}{depthwise}{rank}"
    for kind in ("Convolution", "Deconvolution")
    for depthwise in ("", "DepthWise")
    for rank in ("", "1D", "3D")
]
_WEIGHTS: dict[str, Callable[[Layer], Iterator[_Read]]] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(["InstanceNorm", "LayerNorm", "RMSNorm"], _norm),
    **dict.fromkeys(["RNN", "GRU", "LSTM"], _recurrent),
    "DeformableConv2D": _deformable,
    "InnerProduct": _inner_product,
    "Embed": _embed,
    "Gemm": _gemm,
    "BatchNorm": _batch_norm,
    "GroupNorm": _group_norm,
    "MultiHeadAttention": _attention,
    "MemoryData": _memory,
    "Scale": _scale,
    "Bias": _single("bias", 0),
    "PReLU": _single("slope", 0),
    "Normalize": _single("scale", 3),
    "Padding": _single("value", 6),
}
# Parameters that announce int8, whose scales follow the weights.
_INT8 = {"Gemm": 18, "MultiHeadAttention": 18, "Embed": 18}
_INT8_OF_OTHERS = {
    *_CONVOLUTIONS, "InnerProduct", "RNN", "GRU", "LSTM",
} - {"DeformableConv2D"}  # fmt: skip


def read_weights(path: Path, layers: list[Layer]) -> list[Weight]:
    """All weights of a ``.bin``, in the order of its layers.

    Raises:
        ValueError: the file is not what the layers read: too short, or not read to its end.
        OSError: it cannot be read.
    """
    held = np.fromfile(path, np.uint8)
    found, position = [], 0
    for layer in layers:
        for role, count, tagged in _reads(layer):
            values, position = _values(held, position, count, tagged, layer, role)
            found.append(Weight(layer.name, role, tagged, values))
    if position != held.size:
        raise ValueError(f"{path.name} has {held.size} bytes, and its layers read {position}")
    return found


def _reads(layer: Layer) -> list[_Read]:
    key = _INT8.get(layer.type, 8 if layer.type in _INT8_OF_OTHERS else None)
    if key is not None and layer.integer(key):
        raise ValueError(f"layer {layer.name} has int8 weights, which nothing here writes")
    read = _WEIGHTS.get(layer.type)
    reads = list(read(layer)) if read is not None else []
    for role, count, _ in reads:
        if count < 0:
            raise ValueError(f"layer {layer.name}: {role} has {count} elements")
    return reads


def _values(
    held: Array, position: int, count: int, tagged: bool, layer: Layer, role: str
) -> tuple[Array, int]:
    """The values at a position of the file, and the position behind them."""
    kind: type[Any] = np.float32
    if tagged:
        tag = int.from_bytes(held[position : position + 4].tobytes(), "little")
        if tag not in (0, _RAW, _HALF, _BYTES):
            raise ValueError(f"layer {layer.name}: {role} begins with the unknown tag {tag:#x}")
        kind = {_HALF: np.float16, _BYTES: np.int8}.get(tag, np.float32)
        position += 4
    size = count * np.dtype(kind).itemsize
    end = position + size + -size % 4
    if end > held.size:
        raise ValueError(
            f"the weights end in layer {layer.name}: {role} needs {end - held.size} bytes more"
        )
    return held[position : position + size].view(kind), end
