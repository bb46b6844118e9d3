"""Damaged attributes: padding, strides, dilations, epsilon, axes, permutations, modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from onnx import ModelProto, NodeProto

from damage.editing import (
    Damage,
    attribute,
    constants,
    nodes,
    replace_constant,
    set_attribute,
)

SLIDING = ("Conv", "MaxPool", "AveragePool", "ConvTranspose")
NORMS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization")


def of(model: ModelProto) -> Iterator[Damage]:
    for kind, types, change in (
        ("pads", SLIDING, _pads),
        ("strides", SLIDING, _strides),
        ("dilations", ("Conv",), _dilations),
        ("epsilon", NORMS, _epsilon),
        ("axis", ("Softmax", "LogSoftmax", "Concat", "Gather", "Flatten"), _axis),
        ("perm", ("Transpose",), _perm),
        ("mode", ("Resize", "Pad", "AveragePool"), _mode),
        ("coordinates", ("Resize",), _coordinates),
        ("direction", ("LSTM", "GRU"), _direction),
        ("alpha", ("LeakyRelu", "Elu", "Gemm"), _alpha),
    ):
        for number, node in nodes(model, *types):
            for name, value in change(node):
                yield Damage(kind, f"{node.op_type} {number}", partial(_set, number, name, value))
    yield from _transposed(model)


def _set(number: int, name: str, value: Any, model: ModelProto) -> None:
    names = [name] if isinstance(name, str) else name
    for one, new in zip(names, value if len(names) > 1 else [value], strict=True):
        set_attribute(model.graph.node[number], one, new)


Change = Iterator[tuple[Any, Any]]


def _pads(node: NodeProto) -> Change:
    """All at the other end: the size stays."""
    pads = attribute(node, "pads")
    if pads and any(pads):
        half = len(pads) // 2
        sums = [pads[i] + pads[i + half] for i in range(half)]
        yield "pads", [*([0] * half), *sums]


def _strides(node: NodeProto) -> Change:
    strides = attribute(node, "strides")
    if strides and any(size > 1 for size in strides):
        yield "strides", [1 for _ in strides]


def _dilations(node: NodeProto) -> Change:
    """Wider, with the padding that keeps the size."""
    kernel, pads = attribute(node, "kernel_shape"), attribute(node, "pads")
    if kernel and pads and set(kernel) == {3} and set(pads) == {1}:
        yield ("dilations", "pads"), ([2] * len(kernel), [2] * len(pads))


def _epsilon(node: NodeProto) -> Change:
    yield "epsilon", 100 * (attribute(node, "epsilon") or 1e-5)


def _axis(node: NodeProto) -> Change:
    axis = attribute(node, "axis")
    axis = {"Gather": 0, "Flatten": 1}.get(node.op_type, -1) if axis is None else axis
    yield "axis", axis - 1 if axis not in (0, -2) else axis + 1


def _perm(node: NodeProto) -> Change:
    perm = attribute(node, "perm")
    if perm and len(perm) > 2:
        changed = list(perm)
        changed[-1], changed[-2] = changed[-2], changed[-1]
        yield "perm", changed
        changed = list(perm)
        changed[0], changed[1] = changed[1], changed[0]
        yield "perm", changed


def _mode(node: NodeProto) -> Change:
    if node.op_type == "Resize":
        yield "mode", "nearest" if attribute(node, "mode") != "nearest" else "linear"
    elif node.op_type == "Pad":
        yield "mode", "edge" if attribute(node, "mode") in (None, "constant") else "constant"
    else:
        yield "count_include_pad", 1 - (attribute(node, "count_include_pad") or 0)
        yield "ceil_mode", 1 - (attribute(node, "ceil_mode") or 0)


def _coordinates(node: NodeProto) -> Change:
    mode = attribute(node, "coordinate_transformation_mode") or "half_pixel"
    for other in ("asymmetric", "align_corners", "pytorch_half_pixel"):
        if other != mode:
            yield "coordinate_transformation_mode", other
    if attribute(node, "mode") == "nearest":
        rounding = attribute(node, "nearest_mode")
        yield "nearest_mode", "ceil" if rounding != "ceil" else "floor"


def _direction(node: NodeProto) -> Change:
    if (attribute(node, "direction") or "forward") == "forward":
        yield "direction", "reverse"


def _alpha(node: NodeProto) -> Change:
    yield "alpha", 1.1 * (attribute(node, "alpha") or {"LeakyRelu": 0.01}.get(node.op_type, 1.0))


def _transposed(model: ModelProto) -> Iterator[Damage]:
    """The weights of a square matrix, the other way round."""
    held = constants(model.graph)
    for number, node in nodes(model, "Gemm", "MatMul"):
        weights = held.get(node.input[1])
        if weights is None or weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
            continue
        place = f"{node.op_type} {number}"
        if node.op_type == "Gemm":
            turned = 1 - (attribute(node, "transB") or 0)
            yield Damage("transpose", place, partial(_set, number, "transB", turned))
        else:
            yield Damage("transpose", place, _turned(number, weights.T.copy()))


def _turned(number: int, values: Any) -> Callable[[ModelProto], None]:
    return lambda model: replace_constant(model, number, 1, values)
