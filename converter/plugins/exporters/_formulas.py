"""ONNX forms that stay right where the exporters' own do not, the same for both exporters.

The exporters of torch 2.15 write textbook formulas, which overflow (log-sigmoid), divide by zero
(atan2 at the axes), lose what is small (log1p) or round twice (floor division of floats). Those
here follow PyTorch's kernels, which each function names. ``tests/integration/test_operators.py``
compares them with PyTorch over the range of the dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

# ONNX Runtime has no arithmetic for these, or less exact arithmetic than PyTorch.
_WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.int8: torch.int32,
    torch.int16: torch.int32,
    torch.uint8: torch.int32,
}


# A window that reaches beyond the padded edge has a divisor of its own.
NO_DIVISOR = "average pooling with divisor_override and ceil_mode has no ONNX form"


class Graph(Protocol):
    """How an exporter adds nodes; values are its own handles."""

    def op(self, name: str, *values: Any, **attributes: Any) -> Any:
        """Add a node of the ONNX operator ``name`` with one output."""

    def constant(self, value: float | list[int], dtype: torch.dtype) -> Any:
        """A scalar of shape ``[]``, or a list of whole numbers."""

    def cast(self, value: Any, dtype: torch.dtype) -> Any:
        """``value`` in ``dtype``; itself where it has that dtype already."""

    def reduce(self, name: str, value: Any, axes: Sequence[int], keepdims: bool) -> Any:
        """A reducing operator; its axes are an attribute or an input, as the opset wants."""


def floor_divide(g: Graph, a: Any, b: Any, dtype: torch.dtype, nonzero: bool) -> Any:
    """``a // b`` as ``c10/util/generic_math.h`` has it; ``nonzero`` says that ``b`` is.

    Args:
        g: the graph.
        a: dividend.
        b: divisor.
        dtype: that of the result, in which PyTorch computes.
        nonzero: no element of ``b`` is zero.
    """
    # Unlike `%`, this kernel of PyTorch does not round a number to float16 first.
    work = _WIDER.get(dtype, dtype)
    a, b = g.cast(a, work), g.cast(b, work)
    divide = _floor_floats if work.is_floating_point else _floor_integers
    return _narrowed(g, divide(g, a, b, work, nonzero), dtype)


def _floor_integers(g: Graph, a: Any, b: Any, dtype: torch.dtype, nonzero: bool) -> Any:
    """``Div`` truncates: one less where the signs differ and something is left over."""
    zero = g.constant(0, dtype)
    apart = g.op("Xor", g.op("Less", a, zero), g.op("Less", b, zero))
    # Only whether it is zero counts, so that the sign which Mod gives does not matter.
    exact = g.op("Equal", g.op("Mod", a, b), zero)
    down = g.op("And", apart, g.op("Not", exact))
    return g.op("Sub", g.op("Div", a, b), g.cast(down, dtype))


def _floor_floats(g: Graph, a: Any, b: Any, dtype: torch.dtype, nonzero: bool) -> Any:
    """``div_floor_floating``: floor(a / b) would round 0.7 / 0.1 up to 7 before the floor."""
    left = g.op("Mod", a, b, fmod=1)
    quotient = g.op("Div", g.op("Sub", a, left), b)
    one_less = g.op("Sub", quotient, g.constant(1, dtype))
    quotient = g.op("Where", _other_sign(g, left, b, dtype), one_less, quotient)
    floor = g.op("Floor", quotient)
    # The quotient is whole but for its rounding, which may have put it just below.
    above = g.op("Greater", g.op("Sub", quotient, floor), g.constant(0.5, dtype))
    whole = g.op("Where", above, g.op("Add", floor, g.constant(1, dtype)), floor)
    if nonzero:
        return whole
    # By zero PyTorch divides as floats do: infinity, or NaN.
    return g.op("Where", g.op("Equal", b, g.constant(0, dtype)), g.op("Div", a, b), whole)


def _other_sign(g: Graph, left: Any, b: Any, dtype: torch.dtype) -> Any:
    """Where a remainder with the dividend's sign is not zero and lacks that of ``b``."""
    zero = g.constant(0, dtype)
    apart = g.op("Xor", g.op("Less", left, zero), g.op("Less", b, zero))
    return g.op("And", apart, g.op("Not", g.op("Equal", left, zero)))


def trunc_divide(g: Graph, a: Any, b: Any, dtype: torch.dtype) -> Any:
    """``torch.div(a, b, rounding_mode="trunc")``."""
    a, b, work = _widened(g, a, b, dtype)
    quotient = g.op("Div", a, b)
    if work.is_floating_point:
        negative = g.op("Less", quotient, g.constant(0, work))
        # ONNX has no operator that truncates a float.
        up, down = g.op("Ceil", quotient), g.op("Floor", quotient)
        quotient = g.op("Where", negative, up, down)
    return _narrowed(g, quotient, dtype)


def remainder(g: Graph, a: Any, b: Any, dtype: torch.dtype) -> Any:
    """``a % b`` with the sign of ``b`` (``remainder_kernel``); ``fmod`` is exact."""
    if not dtype.is_floating_point:
        # Of integers ONNX's own Mod has the sign of the divisor.
        return g.op("Mod", g.cast(a, dtype), g.cast(b, dtype), fmod=0)
    a, b, work = _widened(g, a, b, dtype)
    left = g.op("Mod", a, b, fmod=1)
    moved = g.op("Where", _other_sign(g, left, b, work), g.op("Add", left, b), left)
    return _narrowed(g, moved, dtype)


def fmod(g: Graph, a: Any, b: Any, dtype: torch.dtype) -> Any:
    """The remainder with the sign of ``a``.

    ONNX Runtime 1.31 computes ``Mod`` with ``fmod=1`` in doubles, also for int64.
    """
    a, b = g.cast(a, dtype), g.cast(b, dtype)
    if dtype not in (torch.int32, torch.int64):
        return g.op("Mod", a, b, fmod=1)
    return g.op("Sub", a, g.op("Mul", g.op("Div", a, b), b))


def log_sigmoid(g: Graph, x: Any) -> Any:
    """``-softplus(-x)``: the logarithm of a sigmoid that underflows would be infinite."""
    return g.op("Neg", g.op("Softplus", g.op("Neg", x)))


def logaddexp(g: Graph, a: Any, b: Any, dtype: torch.dtype, base: float = math.e) -> Any:
    """``log(base**a + base**b)`` as ``max(a, b) + log(1 + base**-|a - b|)``."""
    a, b = g.cast(a, dtype), g.cast(b, dtype)
    # Two equal infinities have no difference.
    equal = g.op("Equal", a, b)
    apart = g.op("Where", equal, g.constant(0, dtype), g.op("Abs", g.op("Sub", a, b)))
    scale = g.constant(math.log(base), dtype)
    # log_base(1 + base**-d) is softplus(-d * ln base) / ln base. The argument is never positive, so
    # that nothing overflows.
    above = g.op("Div", g.op("Softplus", g.op("Neg", g.op("Mul", apart, scale))), scale)
    return g.op("Add", g.op("Max", a, b), above)


def log1p(g: Graph, x: Any, dtype: torch.dtype) -> Any:
    """``log(u) * x / (u - 1)`` with ``u = 1 + x`` near zero: what rounding took from u cancels.

    W. Kahan's form, as in Goldberg, "What every computer scientist should know about
    floating-point arithmetic", theorem 4.
    """
    one = g.constant(1, dtype)
    shifted = g.op("Add", x, one)
    logarithm = g.op("Log", shifted)
    kept = g.op("Sub", shifted, one)
    lost = g.op("Equal", kept, g.constant(0, dtype))
    # Where x is lost beside one, the logarithm is x; 0 / 0 must not be computed for it.
    kept = g.op("Where", lost, one, kept)
    near = g.op("Where", lost, x, g.op("Mul", logarithm, g.op("Div", x, kept)))
    small = g.op("Less", g.op("Abs", x), g.constant(0.5, dtype))
    return g.op("Where", small, near, logarithm)


def expm1(g: Graph, x: Any, dtype: torch.dtype) -> Any:
    """``(u - 1) * x / log(u)`` with ``u = exp(x)`` near zero, as in ``log1p``."""
    one = g.constant(1, dtype)
    power = g.op("Exp", x)
    kept = g.op("Sub", power, one)
    lost = g.op("Equal", kept, g.constant(0, dtype))
    logarithm = g.op("Where", lost, one, g.op("Log", power))
    near = g.op("Where", lost, x, g.op("Mul", kept, g.op("Div", x, logarithm)))
    small = g.op("Less", g.op("Abs", x), g.constant(0.5, dtype))
    return g.op("Where", small, near, kept)


def softplus(g: Graph, x: Any, beta: float, threshold: float, dtype: torch.dtype) -> Any:
    """``log(1 + exp(beta * x)) / beta``, and ``x`` above the threshold."""
    scale = g.constant(beta, dtype)
    scaled = g.op("Mul", x, scale)
    above = g.op("Greater", scaled, g.constant(threshold, dtype))
    return g.op("Where", above, x, g.op("Div", g.op("Softplus", scaled), scale))


def atan2(g: Graph, y: Any, x: Any, dtype: torch.dtype) -> Any:
    """The angle of (x, y), from that of the octant, so that nothing is divided by zero."""
    y, x, work = _widened(g, y, x, dtype)
    wide, high = g.op("Abs", x), g.op("Abs", y)
    longer, shorter = g.op("Max", wide, high), g.op("Min", wide, high)
    # At the origin the angle is that of 0 / 1, and the signs decide the rest.
    origin = g.op("Equal", longer, g.constant(0, work))
    longer = g.op("Where", origin, g.constant(1, work), longer)
    angle = g.op("Atan", g.op("Div", shorter, longer))
    # Above the diagonal the angle was taken from the other axis.
    beyond = g.op("Sub", g.constant(math.pi / 2, work), angle)
    angle = g.op("Where", g.op("Greater", high, wide), beyond, angle)
    # Left of the origin the angle is mirrored.
    behind = g.op("Sub", g.constant(math.pi, work), angle)
    angle = g.op("Where", _negative(g, x, work), behind, angle)
    angle = g.op("Where", _negative(g, y, work), g.op("Neg", angle), angle)
    return _narrowed(g, angle, dtype)


def _negative(g: Graph, value: Any, dtype: torch.dtype) -> Any:
    """The sign bit: the reciprocal of -0.0 is -inf."""
    zero = g.constant(0, dtype)
    signed = g.op("Where", g.op("Equal", value, zero), g.op("Reciprocal", value), value)
    return g.op("Less", signed, zero)


def cosine_similarity(g: Graph, a: Any, b: Any, axis: int, eps: float, dtype: torch.dtype) -> Any:
    """Each vector is divided by its own norm, at least ``eps`` (``Distance.cpp``)."""
    least = g.constant(eps, dtype)

    def unit(value: Any) -> Any:
        norm = g.reduce("ReduceL2", value, [axis], True)
        return g.op("Div", value, g.op("Max", norm, least))

    return g.reduce("ReduceSum", g.op("Mul", unit(a), unit(b)), [axis], False)


def norm(g: Graph, value: Any, p: float, keepdims: bool, dtype: torch.dtype) -> Any:
    """The p-norm over the last axis."""
    simple = {1: "ReduceL1", 2: "ReduceL2"}.get(p)  # type: ignore[call-overload]  # a float finds an int
    if simple is not None:
        return g.reduce(simple, value, [-1], keepdims)
    size = g.op("Abs", value)
    if math.isinf(p):
        return g.reduce("ReduceMax" if p > 0 else "ReduceMin", size, [-1], keepdims)
    if p == 0:
        # The norm of order 0 counts what is not zero.
        some = g.cast(g.op("Greater", size, g.constant(0, dtype)), dtype)
        return g.reduce("ReduceSum", some, [-1], keepdims)
    total = g.reduce("ReduceSum", g.op("Pow", size, g.constant(p, dtype)), [-1], keepdims)
    return g.op("Pow", total, g.constant(1 / p, dtype))


def cumsum(g: Graph, value: Any, axis: Any, dtype: torch.dtype) -> Any:
    """PyTorch's CPU kernel adds up in the wider type, ONNX Runtime's in that of the tensor.

    After 100,000 steps float32 has drifted by 1e-5 of the sum.
    """
    work = {torch.float32: torch.float64}.get(dtype, _WIDER.get(dtype, dtype))
    return g.cast(g.op("CumSum", g.cast(value, work), axis), dtype)


def _widened(g: Graph, a: Any, b: Any, dtype: torch.dtype) -> tuple[Any, Any, torch.dtype]:
    """Two operands of ``dtype``, a number rounded to it first, in the dtype that computes."""
    work = _WIDER.get(dtype, dtype)
    return g.cast(g.cast(a, dtype), work), g.cast(g.cast(b, dtype), work), work


def _narrowed(g: Graph, value: Any, dtype: torch.dtype) -> Any:
    return g.cast(value, dtype) if dtype in _WIDER else value


def attention(
    g: Graph, own: Callable[[Any], Any], mask: Any, mask_dtype: torch.dtype, dtype: torch.dtype
) -> Any:
    """Scaled dot-product attention whose mask may close whole rows, as padding of a full row does.

    PyTorch gives zeros there (``_safe_softmax``), ``Softmax`` NaN, and the mean where the exporter
    has put the least number for minus infinity. So these rows are opened, and cleared afterwards.

    Args:
        g: the graph.
        own: the exporter's attention for a mask.
        mask: true or 0 where a position is seen, false or minus infinity where it is not.
        mask_dtype: bool, or that of the numbers which are added to the scores.
        dtype: that of the result.
    """
    if mask_dtype is torch.bool:
        # ReduceMax takes no booleans before opset 20.
        seen = g.reduce("ReduceMax", g.cast(mask, torch.float32), [-1], True)
        closed = g.op("Equal", seen, g.constant(0, torch.float32))
        opened = g.op("Or", mask, closed)
    else:
        greatest = g.reduce("ReduceMax", mask, [-1], True)
        closed = g.op("Equal", greatest, g.constant(-math.inf, mask_dtype))
        opened = g.op("Where", closed, g.constant(0, mask_dtype), mask)
    return g.op("Where", closed, g.constant(0, dtype), own(opened))
