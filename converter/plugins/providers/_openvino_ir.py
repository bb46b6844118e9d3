"""Whether an OpenVINO IR is complete, of its precision, and holds the weights of its parent.

The two files are read here without OpenVINO, which wrote them: a weight is a layer of ``.xml``, of
the type ``Const``, that says where in ``.bin`` it lies.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, numpy_helper

from converter.model.errors import Code, StageError
from converter.model.records import CheckRecord

Array = NDArray[np.generic]

_DTYPES = {
    "f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16), "i8": np.dtype(np.int8), "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16), "u16": np.dtype(np.uint16), "i32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32), "i64": np.dtype(np.int64), "u64": np.dtype(np.uint64),
    "boolean": np.dtype(np.bool_),
}  # fmt: skip
_FLOATS = frozenset({"f64", "f32", "f16", "bf16"})
_HELD = {"float32": ("f32", "f64"), "float16": ("f16",), "bfloat16": ("bf16",)}
_HELD |= {"int8": ("i8", "u8"), "int4": ("i4", "u4")}
_LEAST_WEIGHTS = 0.5
# What `compress_to_fp16` appends to the name of a weight (2026.4).
_COMPRESSED = "_compressed"
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Constant:
    """A weight as the IR holds it.

    Attributes:
        kind: type of its elements, as OpenVINO calls it: ``f32``.
        values: of one axis; ``None`` where the type is none that NumPy has.
        start: where they begin in the file of the weights, in bytes.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    values: Array | None
    start: int = 0

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Matched:
    """How many float weights were found in the parent, and by what.

    Attributes:
        name: by their name, and equal.
        content: under another name; a permutation of the numbers is the same weight.
        own: single numbers that OpenVINO has added.
    """

    name: int = 0
    content: int = 0
    own: int = 0


def check(file: Path, parent: Path, precision: str) -> CheckRecord:
    """Check an IR against the ONNX file that it was made from.

    Raises:
        StageError: CHECKER, where a file is missing or cut off; PRECISION_NOT_REACHED;
            VERIFY_VALUE, where a weight is another one than the parent's.
    """
    constants = list(read(file))
    weights = dict(_weights(onnx.load(parent).graph))
    share = _share(constants, precision)
    narrowed = [c for c in constants if _is_narrowed(c, weights)] if precision == "float32" else []
    if narrowed:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"{len(narrowed)} weights of a file that is called float32 are {narrowed[0].kind}, "
            f"such as '{_plain(narrowed[0])}'; {share:.0%} of the weights' elements are float32",
            "OpenVINO's save_model compresses to float16 unless told (compress_to_fp16=False)",
        )
    if precision in ("float16", "bfloat16") and not any(c.kind in _FLOATS for c in constants):
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"the model has no weights: what is called {precision} is the float32 file",
            "leave this variant out",
        )
    if share < _LEAST_WEIGHTS:
        raise StageError(
            Code.PRECISION_NOT_REACHED,
            f"only {share:.0%} of the weights' elements are {precision}",
            f"leave this variant out, or call it what it is: not {precision}",
        )
    # A quantised weight is none of the parent's numbers: its outputs are judged, as everywhere.
    if precision in ("float32", "float16", "bfloat16"):
        compare(constants, weights)
    return CheckRecord(status="passed", precision_weights=round(share, 4))


def read(file: Path) -> Iterator[Constant]:
    """The constants of an IR, those of bodies of loops and branches too.

    Raises:
        StageError: CHECKER.
    """
    try:
        layers = [
            layer for layer in ElementTree.parse(file).iter("layer") if layer.get("type") == "Const"
        ]
        data = np.memmap(file.with_suffix(".bin"), np.uint8, "r") if layers else np.empty(0)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise _incomplete(f"{missing} is missing", file) from error
    # NumPy maps no empty file.
    except (ElementTree.ParseError, ValueError) as error:
        raise _incomplete(f"{file.name} or its .bin is damaged: {error}", file) from error
    for layer in layers:
        yield _constant(layer, data, file)


def _incomplete(what: str, file: Path) -> StageError:
    return StageError(
        Code.CHECKER,
        f"the OpenVINO IR is incomplete: {what}",
        f"make it again; {file.name} and {file.stem}.bin belong together",
    )


def _constant(layer: ElementTree.Element, data: Array, file: Path) -> Constant:
    name, told = layer.get("name", ""), layer.find("data")
    if told is None:
        raise _incomplete(f"weight '{name}' has no data", file)
    start, length = int(told.get("offset", "0")), int(told.get("size", "0"))
    if start + length > data.size:
        raise _incomplete(
            f"{file.stem}.bin has {data.size} bytes, and weight '{name}' ends at {start + length}",
            file,
        )
    kind = told.get("element_type", "")
    shape = tuple(int(size) for size in told.get("shape", "").split(",") if size.strip())
    dtype = _DTYPES.get(kind)
    # A copy: an offset need not be a multiple of the size of an element.
    held = data[start : start + length].tobytes()
    return Constant(name, kind, shape, None if dtype is None else np.frombuffer(held, dtype), start)


def _weights(graph: GraphProto) -> Iterator[tuple[str, Array]]:
    """Initializers and constants by name, those of subgraphs too."""
    for tensor in graph.initializer:
        yield tensor.name, _array(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], _array(attribute.t)
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from _weights(inner)


def _array(tensor: TensorProto) -> Array:
    return np.asarray(numpy_helper.to_array(tensor))


def _plain(constant: Constant) -> str:
    return constant.name.removesuffix(_COMPRESSED)


def _is_narrowed(constant: Constant, weights: Mapping[str, Array]) -> bool:
    """Whether it is held in less than the parent has."""
    if constant.kind not in ("f16", "bf16"):
        return False
    parent = weights.get(_plain(constant))
    if parent is None:
        # Compressed weights are named; the parent's own halves keep their name.
        return constant.name.endswith(_COMPRESSED)
    return parent.dtype in (np.dtype(np.float32), np.dtype(np.float64))


def _share(constants: Sequence[Constant], precision: str) -> float:
    """Of the elements of all weights those that are held in the precision; 1 where none are."""
    kinds = _HELD[precision]
    weights = [item for item in constants if item.kind in {*_FLOATS, *kinds}]
    total = sum(item.size for item in weights)
    return sum(item.size for item in weights if item.kind in kinds) / total if total else 1.0


def compare(constants: Sequence[Constant], weights: Mapping[str, Array]) -> Matched:
    """Hold the float weights of an IR against those of the ONNX file.

    Raises:
        StageError: VERIFY_VALUE, with the first that is none of them.
    """
    found = Matched()
    by_size: dict[int, list[Array]] = {}
    for array in weights.values():
        if array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16:
            by_size.setdefault(array.size, []).append(array.ravel())
    for item in constants:
        if item.kind not in _FLOATS or item.values is None:
            continue
        parent = weights.get(_plain(item))
        if parent is not None and parent.size == item.size:
            _same(item, item.values, parent)
            found = Matched(found.name + 1, found.content, found.own)
        elif _is_among(item.values, by_size.get(item.size, [])):
            found = Matched(found.name, found.content + 1, found.own)
        elif item.size <= 1:
            found = Matched(found.name, found.content, found.own + 1)
        else:
            raise StageError(
                Code.VERIFY_VALUE,
                f"weight '{_plain(item)}' {list(item.shape)} of the IR is none of the ONNX file's",
                "it was changed, or folded from several: verify the file without this plugin",
            )
    return found


def _same(item: Constant, got: Array, parent: Array) -> None:
    """Raise unless a weight holds the numbers of its namesake in the parent."""
    wanted = _rounded(parent.ravel(), got.dtype)
    same = (got == wanted) | ((got != got) & (wanted != wanted))
    # A weight that OpenVINO has reordered has another shape.
    if bool(same.all()) or (item.shape != parent.shape and _is_among(got, [parent.ravel()])):
        return
    place = int(np.argmin(same))
    raise StageError(
        Code.VERIFY_VALUE,
        f"weight '{_plain(item)}' holds {float(got[place]):.6g} at {place}, the ONNX file "
        f"{float(parent.ravel()[place]):.6g}",
        "the IR was damaged, or its weights were changed: make it again",
    )


def _rounded(array: Array, dtype: np.dtype[np.generic]) -> Array:
    """As OpenVINO rounds: to the nearest, and what lies beyond float16 to its end."""
    if array.dtype == dtype:
        return array
    wide = array.astype(np.float64)
    if dtype == np.float16:
        finite = np.isfinite(wide)
        wide = np.where(finite, np.clip(wide, -_LARGEST, _LARGEST), wide)
    # From float32, as OpenVINO does it: twice rounded float64 may differ.
    return wide.astype(np.float32).astype(dtype)


def _is_among(values: Array, candidates: Sequence[Array]) -> bool:
    rounded = [_rounded(array, values.dtype) for array in candidates]
    if any(np.array_equal(values, array, equal_nan=True) for array in rounded):
        return True
    # Transposed, or its gates reordered (LSTM).
    ordered = np.sort(values)
    return any(np.array_equal(ordered, np.sort(array), equal_nan=True) for array in rounded)
