"""Operators that the dynamo exporter translates wrongly, for its ``custom_translation_table``.

The formulas are in ``_formulas``. Annotations are read by torch: a parameter of one type variable
becomes an input of the node, and a number there takes the dtype of the others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import onnx_ir
import torch
from onnx_ir import tensor_adapters
from onnxscript import BOOL, DOUBLE, FLOAT, FLOAT16, INT8, INT16, INT32, INT64, UINT8
from onnxscript.function_libs.torch_lib.ops import core as torchcore
from onnxscript.function_libs.torch_lib.ops import nn as torchlib
from onnxscript.onnx_opset import opset18

from converter.plugins.exporters import _formulas, _resizing

aten = torch.ops.aten
Real = TypeVar("Real", FLOAT16, FLOAT, DOUBLE, INT8, INT16, INT32, INT64, UINT8)
Float = TypeVar("Float", FLOAT16, FLOAT, DOUBLE)
Mask = TypeVar("Mask", BOOL, FLOAT16, FLOAT, DOUBLE)


class _Graph:
    """``_formulas.Graph`` on top of onnxscript's recorder; torch raises the opset afterwards."""

    def op(self, name: str, *values: Any, **attributes: Any) -> Any:
        return getattr(opset18, name)(*values, **attributes)

    def constant(self, value: float | list[int], dtype: torch.dtype) -> Any:
        number: float | list[int]
        if isinstance(value, list):
            number = value
        else:
            number = float(value) if dtype.is_floating_point else int(value)
        return opset18.Constant(value=onnx_ir.tensor(number, dtype=_onnx(dtype)))

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, onnx_ir.Value):
            return self.constant(value, dtype)
        if value.dtype is _onnx(dtype):
            return value
        return opset18.Cast(value, to=_onnx(dtype))

    def reduce(self, name: str, value: Any, axes: Sequence[int], keepdims: bool) -> Any:
        return getattr(opset18, name)(value, list(axes), keepdims=int(keepdims))


def _onnx(dtype: torch.dtype) -> onnx_ir.DataType:
    return tensor_adapters.from_torch_dtype(dtype)


def _torch(dtype: int) -> torch.dtype:
    return tensor_adapters.to_torch_dtype(onnx_ir.DataType(dtype))


def _dtype(*values: Any) -> torch.dtype:
    """In which dtype PyTorch computes with tensors and numbers."""
    tensors = [value for value in values if isinstance(value, onnx_ir.Value)]
    dtypes = [tensor_adapters.to_torch_dtype(tensor.dtype) for tensor in tensors]
    promoted = functools.reduce(torch.promote_types, dtypes)
    # PyTorch's promotion: a Python float makes integers the default dtype, and leaves float16 as it
    # is.
    if any(isinstance(value, float) for value in values) and not promoted.is_floating_point:
        return torch.get_default_dtype()
    return promoted


def _floor_divide(self: Real, other: Real) -> Real:
    return _floored(self, other)


def _floored(a: Any, b: Any) -> Any:
    nonzero = not isinstance(b, onnx_ir.Value) and b != 0
    return _formulas.floor_divide(_Graph(), a, b, _dtype(a, b), nonzero)


def _divide(self: Real, other: Real, rounding_mode: str | None = None) -> Real:
    graph, dtype = _Graph(), _dtype(self, other)
    if rounding_mode == "floor":
        return _floored(self, other)
    if rounding_mode == "trunc":
        return _formulas.trunc_divide(graph, self, other, dtype)
    work = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return opset18.Div(graph.cast(self, work), graph.cast(other, work))


def _remainder(self: Real, other: Real) -> Real:
    return _formulas.remainder(_Graph(), self, other, _dtype(self, other))


def _fmod(self: Real, other: Real) -> Real:
    return _formulas.fmod(_Graph(), self, other, _dtype(self, other))


def _atan2(self: Float, other: Float) -> Float:
    return _formulas.atan2(_Graph(), self, other, _dtype(self, other))


def _log_sigmoid(self: Float) -> Float:
    return _formulas.log_sigmoid(_Graph(), self)


def _logaddexp(self: Float, other: Float) -> Float:
    return _formulas.logaddexp(_Graph(), self, other, _dtype(self, other))


def _logaddexp2(self: Float, other: Float) -> Float:
    return _formulas.logaddexp(_Graph(), self, other, _dtype(self, other), base=2)


def _log1p(self: Float) -> Float:
    return _formulas.log1p(_Graph(), self, _dtype(self))


def _expm1(self: Float) -> Float:
    return _formulas.expm1(_Graph(), self, _dtype(self))


def _cumsum(self: Real, dim: int, dtype: int = -1) -> Real:
    graph = _Graph()
    result = _dtype(self) if dtype == -1 else _torch(dtype)
    # PyTorch adds whole numbers up in int64.
    if dtype == -1 and not result.is_floating_point:
        result = torch.int64
    # ONNX has no cumulative sum of a tensor without axes.
    if not self.shape:
        return graph.cast(self, result)
    position = graph.constant(dim, torch.int64)
    return _formulas.cumsum(graph, graph.cast(self, result), position, result)


def _average_pool2d(
    self: Float,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Float:
    own = torchlib.aten_avg_pool2d
    window = (kernel_size, stride, padding, ceil_mode)
    return _pooled(own, 2, self, window, count_include_pad, divisor_override)


def _average_pool3d(
    self: Float,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Float:
    own = torchlib.aten_avg_pool3d
    window = (kernel_size, stride, padding, ceil_mode)
    return _pooled(own, 3, self, window, count_include_pad, divisor_override)


def _pooled(
    own: Callable[..., Any],
    rank: int,
    x: Any,
    window: tuple[Any, ...],
    include: bool,
    divisor: int | None,
) -> Any:
    """Average pooling; torch's own ignores ``divisor_override``."""
    if divisor is None:
        return own(x, *window, include)
    kernel, *_, ceil_mode = window
    if ceil_mode:
        raise NotImplementedError(_formulas.NO_DIVISOR)
    sizes = list(kernel) * rank if len(kernel) == 1 else kernel
    graph = _Graph()
    # With the padding counted, each mean is the sum of a window by the area of all of it.
    factor = graph.constant(math.prod(sizes) / divisor, _dtype(x))
    return graph.op("Mul", own(x, *window, True), factor)


def _attention(
    query: Float,
    key: Float,
    value: Float,
    attn_mask: Mask | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float:
    def own(mask: Any) -> Any:
        if attn_mask is not None:
            mask.dtype = attn_mask.dtype  # torchlib asks for it
        arguments = (mask, dropout_p, is_causal, scale, enable_gqa)
        return torchlib.aten_scaled_dot_product_attention(query, key, value, *arguments)

    if attn_mask is None:
        return own(None)
    return _formulas.attention(_Graph(), own, attn_mask, _dtype(attn_mask), _dtype(query))


def _upsample(
    input: Float,  # noqa: A002 - as ATen calls it: torch gives it by name
    output_size: INT64 | None = None,
    scale_factors: Sequence[float] | None = None,
) -> Float:
    axes = _axes(input, output_size, scale_factors)
    # Resize is one node that every runtime knows: it stays wherever it is right.
    if all(axis.agrees for axis in axes):
        return torchlib.aten_upsample_nearestnd_vec(input, output_size, scale_factors)
    return _resizing.nearest(_Graph(), input, axes, _dtype(input) is torch.float64)


def _upsample_exact(
    input: Float,  # noqa: A002 - as ATen calls it: torch gives it by name
    output_size: INT64 | None = None,
    scale_factors: Sequence[float] | None = None,
) -> Float:
    axes = _axes(input, output_size, scale_factors)
    return _resizing.nearest(_Graph(), input, axes, _dtype(input) is torch.float64, exact=True)


def _upsample_linear(
    input: Float,  # noqa: A002  # torch's name
    output_size: INT64 | None,
    align_corners: bool,
    scale_factors: Sequence[float] | None = None,
) -> Float:
    axes = _axes(input, output_size, scale_factors)
    if not align_corners and any(axis.kept for axis in axes):
        return _resizing.linear(_Graph(), input, axes, _dtype(input))
    own = torchlib.aten_upsample_bilinear2d_vec
    if len(axes) == 3:
        own = torchlib.aten_upsample_trilinear3d_vec
    return own(input, output_size, align_corners, scale_factors)


def _axes(x: Any, sizes: Any, factors: Sequence[float] | None) -> list[_resizing.Axis]:
    """The spatial axes; torch hands over a list of numbers and values as the sizes."""
    graph = _Graph()
    axes = []
    for index, length in enumerate(x.shape[2:]):
        before = length if isinstance(length, int) else None
        if factors is not None:
            axes.append(_resizing.Axis(index + 2, before, None, factor=factors[index]))
            continue
        after = sizes[index] if isinstance(sizes[index], int) else None
        size = graph.cast(sizes[index], torch.int64)
        size = graph.op("Reshape", size, graph.constant([1], torch.int64))
        axes.append(_resizing.Axis(index + 2, before, after, size))
    return axes


def _batch_norm(
    input: Float,  # noqa: A002 - as ATen calls it: torch gives it by name
    weight: Float | None,
    bias: Float | None,
    running_mean: Float,
    running_var: Float,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    own: Callable[..., Any] = torchcore.aten__native_batch_norm_legit_functional
    stats: Any = (running_mean, running_var)
    others: Any = own(input, weight, bias, *stats, training, momentum, eps)
    if not training:
        return others
    made: Any = _of_batch(input, (weight, bias, *stats), momentum, eps)
    # The statistics of the batch, which only gradients need, as torchlib has them.
    return made[0], *others[1:3], *made[1:]


def _batch_norm_no_stats(
    input: Float,  # noqa: A002 - as ATen calls it: torch gives it by name
    weight: Float | None,
    bias: Float | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    own: Callable[..., Any] = torchcore.aten__native_batch_norm_no_stats
    others: Any = own(input, weight, bias, training, momentum, eps)
    made: Any = _of_batch(input, (weight, bias, None, None), momentum, eps)
    return made[0], *others[1:]


def _of_batch(x: Any, tensors: tuple[Any, ...], momentum: float, eps: float) -> Any:
    """Normalised by the statistics of the batch, as the TorchScript exporter writes it.

    Args:
        tensors: weight, bias, running mean and variance.
    """
    graph, dtype = _Graph(), _dtype(x)

    def filled(value: Any, number: int) -> Any:
        if value is not None:
            return value
        return opset18.Expand(graph.constant(number, dtype), opset18.Shape(x, start=1, end=2))

    given = [filled(value, number) for value, number in zip(tensors, (1, 0, 0, 1), strict=True)]
    # ONNX counts what is kept of the running statistics, PyTorch what is new.
    return opset18.BatchNormalization(
        x, *given, epsilon=eps, momentum=1 - momentum, training_mode=1
    )


def training() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What matters in training mode only, in the form of ``table``."""
    # torchlib takes every batch normalisation for one in eval mode.
    return {
        aten._native_batch_norm_legit_functional.default: _batch_norm,
        aten._native_batch_norm_legit.no_stats: _batch_norm_no_stats,
    }


def table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operator → the function that adds its nodes."""
    # What stands above an entry is what onnxscript's own form of it does (0.7.2).
    return {
        # Floor(a / b) of floats: the quotient is rounded before it is floored.
        aten.floor_divide.default: _floor_divide,
        aten.floor_divide.Scalar: _floor_divide,
        # Whole numbers are divided as float32, which holds them up to 2**24 only.
        aten.div.Tensor_mode: _divide,
        aten.div.Scalar_mode: _divide,
        # Made of the floored quotient.
        aten.remainder.Tensor: _remainder,
        aten.remainder.Scalar: _remainder,
        aten.remainder.Scalar_Tensor: _remainder,
        # Right but for int64, which ONNX Runtime computes in doubles.
        aten.fmod.Tensor: _fmod,
        aten.fmod.Scalar: _fmod,
        # Atan(y / x): -pi for pi where y is 0 and x negative.
        aten.atan2.default: _atan2,
        # Log(Sigmoid(x)): minus infinity where the sigmoid underflows.
        aten.log_sigmoid.default: _log_sigmoid,
        # Log(Exp(a) + Exp(b)): infinite for large numbers.
        aten.logaddexp.default: _logaddexp,
        aten.logaddexp2.default: _logaddexp2,
        # Log(1 + x) and Exp(x) - 1: what is small is lost beside the one.
        aten.log1p.default: _log1p,
        aten.expm1.default: _expm1,
        # Added up in the tensor's own dtype, where PyTorch takes float64, and int64 for whole
        # numbers.
        aten.cumsum.default: _cumsum,
        # `divisor_override` is ignored.
        aten.avg_pool2d.default: _average_pool2d,
        aten.avg_pool3d.default: _average_pool3d,
        # Rows that a mask closes do not always become zeros, as they do in PyTorch.
        aten.scaled_dot_product_attention.default: _attention,
        # Resize takes other elements than PyTorch at some sizes and factors (`_resizing`).
        aten.upsample_nearest1d.vec: _upsample,
        aten.upsample_nearest2d.vec: _upsample,
        aten.upsample_nearest3d.vec: _upsample,
        # No upsample_linear1d: torch 2.15 decomposes it before it looks into this table.
        aten.upsample_bilinear2d.vec: _upsample_linear,
        aten.upsample_trilinear3d.vec: _upsample_linear,
        aten._upsample_nearest_exact1d.vec: _upsample_exact,
        aten._upsample_nearest_exact2d.vec: _upsample_exact,
        aten._upsample_nearest_exact3d.vec: _upsample_exact,
    }
