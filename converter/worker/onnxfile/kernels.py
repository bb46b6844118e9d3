"""Kernels of ONNX Runtime's CPU provider that are known to be wrong.

Each entry was reproduced with the version that it names. A warning is no verdict: the comparison
decides. It tells where to look when a file is used on values or sizes that were not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper
from onnx.external_data_helper import uses_external_data
from packaging.version import Version

from converter.worker.onnxfile import structure

# From so many steps on, a sum in float32 has lost a digit more than rounding explains.
_LONG = 10_000


def known(model: ModelProto) -> list[str]:
    """One sentence for each entry of the table that a graph matches."""
    graph = _Graph(model)
    installed = Version(onnxruntime.__version__)
    found: list[str] = []
    for kernel in TABLE:
        # Once it is fixed the sentence would be wrong; the entry stays for older versions.
        if kernel.fixed is not None and installed >= Version(kernel.fixed):
            continue
        matched = [
            n for n in graph.nodes if n.op_type in kernel.operators and kernel.when(graph, n)
        ]
        if matched:
            report = f" ({kernel.report})" if kernel.report else ""
            found.append(f"{_named(matched)}: {kernel.what}{report}")
    return found


def _named(nodes: list[NodeProto]) -> str:
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return f"{nodes[0].op_type} {nodes[0].name or nodes[0].output[0]}{more}"


class _Graph:
    """What a file states of its values: dtypes, sizes, constants."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = [n for n in structure.nodes(model.graph) if n.domain in ("", "ai.onnx")]
        # Also declared inner values: most of these conditions ask for a size.
        values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
        self._types = {value.name: value.type.tensor_type for value in values}
        self.inputs = {value.name for value in structure.fed_inputs(model)}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t

    def dtype(self, name: str) -> int:
        """UNDEFINED where the file does not say."""
        if name in self._tensors:
            return int(self._tensors[name].data_type)
        kind = self._types.get(name)
        return int(TensorProto.UNDEFINED if kind is None else kind.elem_type)

    def sizes(self, name: str) -> list[int | None]:
        """A size for each axis, ``None`` for an open one; empty where nothing is stated."""
        kind: TypeProto.Tensor | None = self._types.get(name)
        # protobuf gives 0 where no size is stated.
        return [] if kind is None else [dim.dim_value or None for dim in kind.shape.dim]

    def constant(self, node: NodeProto, index: int) -> np.ndarray | None:
        """An input of a node whose value is in the file itself."""
        name = node.input[index] if index < len(node.input) else ""
        tensor = self._tensors.get(name)
        # Large ones may be out of memory, and are none of the constants that are meant.
        if tensor is None or uses_external_data(tensor) or structure.heavy(tensor):
            return None
        return numpy_helper.to_array(tensor)


def _attribute(node: NodeProto, name: str, default: str | int) -> str | int:
    for attribute in node.attribute:
        if attribute.name == name:
            value = onnx.helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else int(value)
    return default


def _nearest(graph: _Graph, node: NodeProto) -> bool:
    """Nearest by ``floor(i / (out / in))`` in float32, PyTorch by ``floor(i * (in / out))``."""
    if _attribute(node, "mode", "nearest") != "nearest":
        return False
    if _attribute(node, "coordinate_transformation_mode", "half_pixel") != "asymmetric":
        return False
    # Inputs of Resize: X, roi, scales, sizes.
    wanted = graph.constant(node, 3)
    if _attribute(node, "nearest_mode", "round_prefer_floor") != "floor" or wanted is None:
        return False
    sizes = graph.sizes(node.input[0])
    pairs = zip(sizes, wanted.tolist(), strict=False)
    return any(before is not None and other_pixels(before, after) for before, after in pairs)


def other_pixels(before: int, after: int) -> bool:
    """Resize of so many elements to so many takes others than PyTorch does."""
    index = np.arange(after, dtype=np.float32)
    one = np.float32(before) / np.float32(after)
    other = np.float32(after) / np.float32(before)
    ours, theirs = np.floor(index * one), np.floor(index / other)
    # The last index may be rounded past the end, and both clamp it.
    return bool((np.minimum(ours, before - 1) != np.minimum(theirs, before - 1)).any())


def _kept_size(graph: _Graph, node: NodeProto) -> bool:
    """A scale above 1 that leaves an axis of at least two elements as long as it was."""
    mode = _attribute(node, "mode", "nearest")
    # Sizes would give a scale of one where a length is kept.
    scales = graph.constant(node, 2)
    if mode not in ("linear", "nearest") or scales is None:
        return False
    if _attribute(node, "coordinate_transformation_mode", "half_pixel") == "align_corners":
        return False
    sizes = graph.sizes(node.input[0])
    return any(
        # From 1.5 on, two elements or more always become more.
        1 < scale < 1.5 and (size is None or (size > 1 and int(size * scale) == size))
        for size, scale in zip(sizes, scales.tolist(), strict=False)
    )


def _wide_input(graph: _Graph, node: NodeProto) -> bool:
    """An int64 tensor as the caller feeds it; sizes, which are small, are not meant."""
    fed: Iterable[str] = (name for name in node.input if name in graph.inputs)
    return any(graph.dtype(name) == TensorProto.INT64 for name in fed)


def _wide_fmod(graph: _Graph, node: NodeProto) -> bool:
    return _attribute(node, "fmod", 0) == 1 and graph.dtype(node.input[0]) == TensorProto.INT64


def _long_sum(graph: _Graph, node: NodeProto) -> bool:
    axis, sizes = graph.constant(node, 1), graph.sizes(node.input[0])
    if axis is None or not sizes or graph.dtype(node.input[0]) != TensorProto.FLOAT:
        return False
    # An open size says nothing, and is not called long.
    return (sizes[int(axis.item())] or 0) >= _LONG


@dataclass(frozen=True)
class Kernel:
    """A kernel that is wrong under a condition.

    Attributes:
        operators: their names in the default domain.
        when: the condition, on a graph and one of its nodes.
        what: what happens, one sentence.
        seen: the version of ONNX Runtime it was last reproduced with.
        fixed: the first version without it.
        report: a public one.
    """

    operators: frozenset[str]
    when: Callable[[_Graph, NodeProto], bool]
    what: str
    seen: str
    fixed: str | None = None
    report: str | None = None


TABLE = (
    Kernel(
        frozenset({"Resize"}),
        _nearest,
        "at these sizes ONNX Runtime takes some pixels from the neighbour of PyTorch's",
        seen="1.31.1",
        report="microsoft/onnxruntime#12098",
    ),
    Kernel(
        frozenset({"Resize"}),
        _kept_size,
        "PyTorch copies an axis that its scale leaves as long as it was; ONNX Runtime resizes it",
        seen="1.31.1",
    ),
    Kernel(
        frozenset({"Max", "Min", "Clip", "Sign"}),
        _wide_input,
        "ONNX Runtime is wrong for some int64 values beyond the range of int32",
        seen="1.31.1",
        report="microsoft/onnxruntime#25280",
    ),
    Kernel(
        frozenset({"Mod"}),
        _wide_fmod,
        "ONNX Runtime computes fmod of int64 in float64, which is wrong beyond 2**53",
        seen="1.31.1",
    ),
    Kernel(
        frozenset({"CumSum"}),
        _long_sum,
        "ONNX Runtime adds up in float32, PyTorch in float64: long sums drift apart",
        seen="1.31.1",
    ),
)
