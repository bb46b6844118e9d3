"""Operators of torch's TorchScript exporter that it lacks or translates wrongly.

The formulas are in ``_formulas``; here is how arguments are read and nodes are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import onnx as torch_onnx
from torch.onnx import errors
from torch.onnx._internal.torchscript_exporter import (
    symbolic_helper,
    symbolic_opset9,
    symbolic_opset10,
    symbolic_opset11,
    symbolic_opset14,
)
from torch.onnx._internal.torchscript_exporter._globals import GLOBALS
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

from converter.plugins.exporters import _formulas, _resizing

_OLDEST_OPSET = 7
_NEWEST_OPSET = 23  # torch looks for the nearest lower one, so each has its own entry
_MOD = 10  # the first opset with Mod
_RESIZE = 11  # the first opset whose Resize takes sizes
# How torch.nn.functional numbers `reduction`.
_REDUCTIONS = {1: "ReduceMean", 2: "ReduceSum"}


_scaled: Callable[..., Any] = symbolic_opset14.scaled_dot_product_attention


def register() -> None:
    """Make them known to ``torch.onnx.export(dynamo=False)``; once more does no harm."""
    for name, (function, first) in _table().items():
        for opset in range(first, _NEWEST_OPSET + 1):
            torch_onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]  # exported, not listed
                f"aten::{name}", function, opset
            )


# The first opset is that of the youngest operator in a formula (Where came with 9, Mod with 10,
# CumSum and Range with 11), or of torch's own form where ours is made of it. What stands above an
# entry is what torch's own form does (2.15).
def _table() -> dict[str, tuple[Callable[..., Any], int]]:
    """Name in ``aten`` → function, first opset."""
    return {
        # torch has none.
        "rms_norm": (_rms_norm, _OLDEST_OPSET),
        # torch truncates negative integers (-7 // 2 gives -3), and rounds a quotient of floats
        # before it takes the floor; its remainder is made of that quotient.
        "floor_divide": (_floor_divide, _MOD),
        "floordiv": (_floordiv, _MOD),
        "div": (_div, _MOD),
        "remainder": (_remainder, _MOD),
        # Right but for int64, which ONNX Runtime computes in doubles.
        "fmod": (_fmod, _MOD),
        # Atan(y / x): NaN at the origin, and -pi for pi where y is 0 and x negative.
        "atan2": (_atan2, 9),
        # Log(Sigmoid(x)): minus infinity where the sigmoid underflows.
        "log_sigmoid": (_log_sigmoid, _OLDEST_OPSET),
        # torch has neither of these two, nor expm1.
        "logaddexp": (_logaddexp, 9),
        "logaddexp2": (_logaddexp2, 9),
        # Log(1 + x): all that is small is lost beside the one.
        "log1p": (_log1p, 9),
        "expm1": (_expm1, 9),
        # Without the threshold.
        "softplus": (_softplus, 9),
        # Divided by the root of a product of squares, which underflows for short vectors.
        "cosine_similarity": (_cosine_similarity, _OLDEST_OPSET),
        # torch adds `eps` to the order p, and not to the difference.
        "pairwise_distance": (_pairwise_distance, _OLDEST_OPSET),
        "cdist": (_cdist, 9),
        # Added up in float32, where PyTorch takes float64: long sums drift.
        "cumsum": (_cumsum, 11),
        # `divisor_override` is ignored.
        "avg_pool1d": (_average(1), _MOD),
        "avg_pool2d": (_average(2), _MOD),
        "avg_pool3d": (_average(3), _MOD),
        # Log(Sigmoid(x)) and Log(1 - Sigmoid(x)): infinite for large logits.
        "binary_cross_entropy_with_logits": (_cross_entropy, 9),
        # Rows that a mask closes do not always become zeros, as they do in PyTorch.
        "scaled_dot_product_attention": (_attention, 14),
        # Resize takes other elements than PyTorch at some sizes and factors (`_resizing`).
        "upsample_linear1d": (_linear("upsample_linear1d", 1), _RESIZE),
        "upsample_bilinear2d": (_linear("upsample_bilinear2d", 2), _RESIZE),
        "upsample_trilinear3d": (_linear("upsample_trilinear3d", 3), _RESIZE),
        "__interpolate": (_interpolate, _RESIZE),
        **{f"upsample_nearest{n}d": (_upsample(n), _RESIZE) for n in (1, 2, 3)},
        # torch has none.
        **{f"_upsample_nearest_exact{n}d": (_upsample(n, exact=True), _RESIZE) for n in (1, 2, 3)},
    }


class _Graph:
    """``_formulas.Graph`` on top of torch's graph."""

    def __init__(self, g: Any) -> None:
        self.g = g

    def op(self, name: str, *values: Any, **attributes: Any) -> Any:
        # torch reads the type of an attribute from the end of its name: `_i` has whole numbers.
        typed = {f"{key}_i": value for key, value in attributes.items()}
        return self.g.op(name, *values, **typed)

    def constant(self, value: float | list[int], dtype: torch.dtype) -> Any:
        return self.g.op("Constant", value_t=torch.tensor(value, dtype=dtype))

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        stated = _tensor(value)
        if stated is not None:
            if stated.dtype is dtype:
                return value
            return self.g.op("Constant", value_t=stated.to(dtype))
        if _dtype(value) is dtype:
            return value
        return self.g.op("Cast", value, to_i=JitScalarType.from_dtype(dtype).onnx_type())

    def reduce(self, name: str, value: Any, axes: Sequence[int], keepdims: bool) -> Any:
        """ReduceSum takes its axes as an input from opset 13 on, the others from 18 on."""
        if GLOBALS.export_onnx_opset_version < (13 if name == "ReduceSum" else 18):
            return self.g.op(name, value, axes_i=list(axes), keepdims_i=int(keepdims))
        positions = self.g.op("Constant", value_t=torch.tensor(list(axes)))
        return self.g.op(name, value, positions, keepdims_i=int(keepdims))


def _dtype(value: Any) -> torch.dtype | None:
    """Of a value of the graph, where torch knows it."""
    kind = JitScalarType.from_value(value, JitScalarType.UNDEFINED)
    return None if kind is JitScalarType.UNDEFINED else kind.dtype()


def _result(g: Any, *values: Any) -> torch.dtype | None:
    """In which dtype PyTorch computes: that of the node's output, else that of its inputs."""
    found = _dtype(g.original_node.output())
    return found or next(filter(None, map(_dtype, values)), None)


def _tensor(value: Any) -> torch.Tensor | None:
    """A constant of the graph."""
    if value.node().kind() not in ("onnx::Constant", "prim::Constant"):
        return None
    stated = symbolic_helper._maybe_get_const(value, "t")
    return stated if isinstance(stated, torch.Tensor) else None


def _floor_divide(g: Any, a: Any, b: Any) -> Any:
    dtype = _result(g, a, b)
    # Truncation is right for sizes, and torch's shape inference follows it.
    if dtype is None or (_counts(a) and _counts(b)):
        return symbolic_opset9.floor_divide(g, a, b)
    return _formulas.floor_divide(_Graph(g), a, b, dtype, _nonzero(b))


def _floordiv(g: Any, a: Any, b: Any) -> Any:
    """``//`` of two numbers of Python, such as sizes."""
    if _counts(a) and _counts(b):
        return symbolic_opset9.floordiv(g, a, b)
    dtype = _result(g, a, b) or torch.int64
    return _formulas.floor_divide(_Graph(g), a, b, dtype, _nonzero(b))


def _nonzero(value: Any) -> bool:
    stated = _tensor(value)
    return stated is not None and bool((stated != 0).all())


# What only moves elements, or makes a size of sizes.
_OF_SIZES = {
    f"onnx::{name}"
    for name in ("Gather", "Squeeze", "Unsqueeze", "Cast", "Identity", "Mul", "Add", "Div")
}


def _counts(value: Any) -> bool:
    """A size of a tensor, a constant that is not negative, or what is made of such."""
    node = value.node()
    if node.kind() in ("onnx::Shape", "onnx::Size"):
        return True
    stated = _tensor(value)
    if stated is not None:
        return not stated.is_floating_point() and bool((stated >= 0).all())
    return node.kind() in _OF_SIZES and all(_counts(source) for source in node.inputs())


def _div(g: Any, a: Any, b: Any, *mode: Any) -> Any:
    rounding = symbolic_helper._maybe_get_const(mode[0], "s") if mode else None
    dtype = _result(g, a, b)
    if dtype is None or not dtype.is_floating_point:  # what torch does with integers is right
        return symbolic_opset10.div(g, a, b, *mode)
    if rounding == "floor":
        return _formulas.floor_divide(_Graph(g), a, b, dtype, _nonzero(b))
    if rounding == "trunc":
        return _formulas.trunc_divide(_Graph(g), a, b, dtype)
    return symbolic_opset10.div(g, a, b, *mode)


def _remainder(g: Any, a: Any, b: Any) -> Any:
    return _formulas.remainder(_Graph(g), a, b, _result(g, a, b) or torch.float32)


def _fmod(g: Any, a: Any, b: Any) -> Any:
    return _formulas.fmod(_Graph(g), a, b, _result(g, a, b) or torch.float32)


def _atan2(g: Any, y: Any, x: Any) -> Any:
    return _formulas.atan2(_Graph(g), y, x, _result(g, y, x) or torch.float32)


def _log_sigmoid(g: Any, x: Any) -> Any:
    return _formulas.log_sigmoid(_Graph(g), x)


def _logaddexp(g: Any, a: Any, b: Any) -> Any:
    return _formulas.logaddexp(_Graph(g), a, b, _result(g, a, b) or torch.float32)


def _logaddexp2(g: Any, a: Any, b: Any) -> Any:
    return _formulas.logaddexp(_Graph(g), a, b, _result(g, a, b) or torch.float32, base=2)


def _log1p(g: Any, x: Any) -> Any:
    dtype = _result(g, x) or torch.float32
    graph = _Graph(g)
    return _formulas.log1p(graph, graph.cast(x, dtype), dtype)


def _expm1(g: Any, x: Any) -> Any:
    dtype = _result(g, x) or torch.float32
    graph = _Graph(g)
    return _formulas.expm1(graph, graph.cast(x, dtype), dtype)


@symbolic_helper.parse_args("v", "f", "f")
def _softplus(g: Any, x: Any, beta: float, threshold: float) -> Any:
    if beta == 1 and threshold >= 20:  # softplus(20) is 20 + 2e-9
        return g.op("Softplus", x)
    return _formulas.softplus(_Graph(g), x, beta, threshold, _dtype(x) or torch.float32)


@symbolic_helper.parse_args("v", "v", "i", "f")
def _cosine_similarity(g: Any, a: Any, b: Any, axis: int, eps: float) -> Any:
    dtype = _result(g, a, b) or torch.float32
    graph = _Graph(g)
    a, b = graph.cast(a, dtype), graph.cast(b, dtype)
    if _rank(a) != _rank(b):  # the axis is counted after broadcasting
        axis = axis if axis < 0 else axis - max(_rank(a), _rank(b))
    return _formulas.cosine_similarity(graph, a, b, axis, eps, dtype)


def _rank(value: Any) -> int:
    return symbolic_helper._get_tensor_rank(value) or 0


@symbolic_helper.parse_args("v", "v", "f", "f", "b")
def _pairwise_distance(g: Any, a: Any, b: Any, p: float, eps: float, keepdims: bool) -> Any:
    dtype = _result(g, a, b) or torch.float32
    graph = _Graph(g)
    apart = g.op("Sub", graph.cast(a, dtype), graph.cast(b, dtype))
    apart = g.op("Add", apart, graph.constant(eps, dtype))
    return _formulas.norm(graph, apart, p, keepdims, dtype)


def _cdist(g: Any, a: Any, b: Any, p: Any, mode: Any = None) -> Any:
    """Torch's own form is for the Euclidean distance of many points by a matrix product."""
    order = symbolic_helper._parse_arg(p, "f")
    # PyTorch multiplies matrices from 26 points on, unless mode 2 forbids it.
    direct = symbolic_helper._parse_arg(mode, "i") == 2 if mode is not None else False
    few = [symbolic_helper._get_tensor_dim_size(value, -2) for value in (a, b)]
    small = all(size is not None and size <= 25 for size in few)
    # As PyTorch computes it then: the distance by differences would be another number.
    if order == 2 and not direct and not small:
        return symbolic_opset9.cdist(g, a, b, p, mode)
    dtype = _result(g, a, b) or torch.float32
    graph = _Graph(g)
    left = symbolic_helper._unsqueeze_helper(g, a, [_rank(a) - 1])
    right = symbolic_helper._unsqueeze_helper(g, b, [_rank(b) - 2])
    return _formulas.norm(graph, g.op("Sub", left, right), order, False, dtype)


def _cumsum(g: Any, x: Any, axis: Any, dtype: Any = None) -> Any:
    kind = _result(g, x) or torch.float32
    graph = _Graph(g)
    along = symbolic_helper._get_const(axis, "i", "dim")  # type: ignore[no-untyped-call]
    position = graph.constant(along, torch.int32)
    return _formulas.cumsum(graph, graph.cast(x, kind), position, kind)


def _average(rank: int) -> Callable[..., Any]:
    """Average pooling over ``rank`` axes; torch's own ignores ``divisor_override``."""
    own = symbolic_opset10._avg_pool(f"avg_pool{rank}d", rank)

    def pool(g: Any, x: Any, kernel: Any, *rest: Any) -> Any:
        # In the order of aten: stride, padding, ceil_mode, count_include_pad, divisor_override.
        # avg_pool1d has no divisor.
        divisor = rest[4] if len(rest) > 4 else None
        if divisor is None or symbolic_helper._is_none(divisor):
            return own(g, x, kernel, *rest)
        stride, padding, ceil_mode = rest[:3]
        if symbolic_helper._parse_arg(ceil_mode, "b"):
            raise errors.SymbolicValueError(_formulas.NO_DIVISOR, x)
        sizes = symbolic_helper._parse_arg(kernel, "is")
        area = math.prod(sizes * rank if len(sizes) == 1 else sizes)
        graph = _Graph(g)
        # With the padding counted, each mean is the sum of a window by the area of all of it.
        include = graph.constant(1, torch.int64)
        mean = own(g, x, kernel, stride, padding, ceil_mode, include)
        factor = area / symbolic_helper._parse_arg(divisor, "i")
        return g.op("Mul", mean, graph.constant(factor, _dtype(x) or torch.float32))

    return pool


def _attention(g: Any, query: Any, key: Any, value: Any, mask: Any = None, *others: Any) -> Any:
    def own(opened: Any) -> Any:
        # torch's function asks for the mask's dtype, which a node of ours does not have.
        opened.setType(mask.type())
        return _scaled(g, query, key, value, opened, *others)

    dtype = None if symbolic_helper._is_none(mask) else _dtype(mask)
    if dtype is None:
        return _scaled(g, query, key, value, mask, *others)
    return _formulas.attention(_Graph(g), own, mask, dtype, _dtype(query) or torch.float32)


def _upsample(rank: int, exact: bool = False) -> Callable[..., Any]:
    """Nearest resize of ``rank`` axes, by sizes or by factors."""
    own = symbolic_opset11._interpolate(f"upsample_nearest{rank}d", rank + 2, "nearest")

    def resize(g: Any, x: Any, sizes: Any, *factors: Any) -> Any:
        resized = own(g, x, sizes, *factors)
        if len(factors) != 1:  # one for each axis, from code that calls aten itself
            return resized
        return _nearest(g, x, resized, sizes, exact)

    return resize


def _linear(name: str, rank: int) -> Callable[..., Any]:
    """Linear resize of ``rank`` axes; torch's own, but for factors that may keep a length."""
    own = symbolic_opset11._interpolate(name, rank + 2, "linear")

    def resize(g: Any, x: Any, sizes: Any, corners: Any, *rest: Any) -> Any:
        resized = own(g, x, sizes, corners, *rest)
        # From the original node: the constant of the graph holds them in float32.
        factors = list(g.original_node.inputs())[3].toIValue()
        dtype = _dtype(x)
        if dtype is None or not isinstance(factors, list) or len(factors) != rank:
            return resized
        axes = [
            _resizing.Axis(
                place, symbolic_helper._get_tensor_dim_size(x, place), None, factor=factor
            )
            for place, factor in enumerate(factors, 2)
        ]
        aligned = symbolic_helper._maybe_get_const(corners, "b")
        # What is known at run time only is neither of the two: torch's own form stays.
        if (aligned is not False and aligned != 0) or not any(axis.kept for axis in axes):
            return resized
        return _resizing.linear(_Graph(g), x, axes, dtype)

    return resize


def _interpolate(g: Any, x: Any, size: Any, factors: Any, mode: Any, *rest: Any) -> Any:
    """What a script calls for ``torch.nn.functional.interpolate``."""
    resized = symbolic_opset11.__interpolate(g, x, size, factors, mode, *rest)
    if symbolic_helper._maybe_get_const(mode, "s") != "nearest":
        return resized
    return _nearest(g, x, resized, size)


def _nearest(g: Any, x: Any, resized: Any, sizes: Any, exact: bool = False) -> Any:
    """The Resize that torch has made, or what takes PyTorch's elements where that one does not."""
    if resized.node().kind() != "onnx::Resize":  # of a quantised tensor
        return resized
    graph, inputs, spatial = _Graph(g), list(resized.node().inputs()), range(2, _rank(x))
    before = [symbolic_helper._get_tensor_dim_size(x, position) for position in spatial]
    # A Resize by factors has the inputs X, roi and scales; one by sizes has a fourth.
    if len(inputs) == 3:
        # The constant of the graph holds them in float32.
        factors = list(g.original_node.inputs())[2].toIValue()
        if factors is None:  # known at run time only
            return resized
        factors = factors if isinstance(factors, list) else [factors] * len(spatial)
        axes = [
            _resizing.Axis(position, length, None, factor=factor)
            for position, length, factor in zip(spatial, before, factors, strict=True)
        ]
    else:
        after = _lengths(sizes, len(spatial))
        places = [graph.constant([position], torch.int64) for position in spatial]
        wanted = [g.op("Gather", inputs[3], place, axis_i=0) for place in places]
        axes = [
            _resizing.Axis(*stated) for stated in zip(spatial, before, after, wanted, strict=True)
        ]
    if not exact and all(axis.agrees for axis in axes):
        return resized
    return _resizing.nearest(graph, x, axes, _dtype(x) is torch.float64, exact)


def _lengths(sizes: Any, count: int) -> list[int | None]:
    """What the graph fixes of a list of sizes."""
    if symbolic_helper._is_packed_list(sizes):
        return [_length(value) for value in symbolic_helper._unpack_list(sizes)]
    stated = symbolic_helper._maybe_get_const(sizes, "is")
    return stated if isinstance(stated, list) else [None] * count


def _length(value: Any) -> int | None:
    """A size that is a constant, or that of a tensor whose shape is fixed."""
    stated, node = _tensor(value), value.node()
    if stated is not None:
        return int(stated)
    if node.kind() != "onnx::Gather":
        return None
    shape, index = node.inputs()
    place = _tensor(index)
    if shape.node().kind() != "onnx::Shape" or place is None:
        return None
    return symbolic_helper._get_tensor_dim_size(shape.node().input(), int(place))


def _cross_entropy(g: Any, x: Any, target: Any, weight: Any, positive: Any, reduction: Any) -> Any:
    """``(1 - y) x - ((w - 1) y + 1) log_sigmoid(x)`` (``Loss.cpp``); a log of 0 has no place."""
    graph = _Graph(g)
    one = graph.constant(1, _dtype(x) or torch.float32)
    loss = g.op("Mul", g.op("Sub", one, target), x)
    scaled = _formulas.log_sigmoid(graph, x)
    if not symbolic_helper._is_none(positive):
        share = g.op("Mul", g.op("Sub", positive, one), target)
        scaled = g.op("Mul", g.op("Add", share, one), scaled)
    loss = g.op("Sub", loss, scaled)
    if not symbolic_helper._is_none(weight):
        loss = g.op("Mul", loss, weight)
    name = _REDUCTIONS.get(symbolic_helper._maybe_get_const(reduction, "i"))
    return loss if name is None else g.op(name, loss, keepdims_i=0)


@symbolic_helper.parse_args("v", "is", "v", "v")
def _rms_norm(g: Any, value: Any, normalized_shape: list[int], weight: Any, eps: Any) -> Any:
    """``x / sqrt(mean(x²) + eps) * weight`` over the last axes, as torch.nn.RMSNorm states it."""
    dtype = JitScalarType.from_value(value).dtype()
    # What torch.nn.RMSNorm takes where none is stated.
    epsilon = torch.finfo(dtype).eps
    if not symbolic_helper._is_none(eps):
        epsilon = symbolic_helper._get_const(eps, "f", "eps")  # type: ignore[no-untyped-call]
    axes = list(range(-len(normalized_shape), 0))
    squares = g.op("Mul", value, value)
    if GLOBALS.export_onnx_opset_version < 18:
        mean = g.op("ReduceMean", squares, axes_i=axes, keepdims_i=1)
    else:  # the axes became an input
        mean = g.op(
            "ReduceMean", squares, g.op("Constant", value_t=torch.tensor(axes)), keepdims_i=1
        )
    tiny = g.op("Constant", value_t=torch.tensor(epsilon, dtype=dtype))
    scaled = g.op("Div", value, g.op("Sqrt", g.op("Add", mean, tiny)))
    return scaled if symbolic_helper._is_none(weight) else g.op("Mul", scaled, weight)
