"""Nearest-neighbour resize as PyTorch computes it, the same for both exporters.

PyTorch takes element ``floor(i * (in / out))``, ONNX Runtime's Resize ``floor(i / (out / in))``,
both in float32: of 26 elements made 64, some are others. Where the two agree for every length that
an axis can have, Resize stays; else the elements are gathered by PyTorch's own formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from converter.plugins.exporters._formulas import Graph
from converter.worker.onnxfile import kernels

# Lengths, before and after, for which a factor must agree on an axis of open length.
_LONGEST = 1 << 14
# PyTorch's UpSampleKernel.cpp: up to this height + width it takes the kernel for channels last.
_SMALL = 128


@dataclass(frozen=True)
class Axis:
    """One spatial axis.

    Attributes:
        position: its number in the tensor.
        before: its length, where the graph fixes it.
        after: the length asked for, where the graph fixes it.
        size: the length asked for as an int64 of the graph, shape [1]; ``None`` beside a factor.
        factor: the scale factor, where one was given.
    """

    position: int
    before: int | None
    after: int | None
    size: Any = None
    factor: float | None = None

    @property
    def agrees(self) -> bool:
        """Resize of ONNX Runtime takes PyTorch's elements (of mode ``nearest``)."""
        if self.factor is not None:
            return _factor_agrees(self.before, self.factor)
        if self.before is None or self.after is None:
            return False
        return not kernels.other_pixels(self.before, self.after)

    @property
    def kept(self) -> bool:
        """The factor may leave its length as it was: PyTorch copies such an axis (if linear)."""
        if self.factor is None or not 1 < self.factor < 1.5:
            return False
        return self.before is None or (
            self.before > 1 and int(self.before * self.factor) == self.before
        )


def _factor_agrees(before: int | None, factor: float) -> bool:
    """The same length and the same elements, for one length or all that are usual."""
    lengths = np.arange(1, _LONGEST) if before is None else np.array([before])
    # PyTorch computes the length in float64, ONNX Runtime in float32.
    wanted = np.floor(lengths * factor)
    got = np.floor(lengths.astype(np.float32) * np.float32(factor))
    # Some of PyTorch's kernels ignore the factor of an axis that keeps its length or doubles.
    special = ((wanted == lengths) | (wanted == 2 * lengths)) & (lengths > 1)
    if factor != int(factor) and special.any():
        return False
    # The element that a place takes does not depend on the length: the longest shows all of them.
    index = np.arange(min(wanted.max(), _LONGEST), dtype=np.float32)
    ours = np.floor(index * np.float32(1 / factor))
    theirs = np.floor(index / np.float32(factor))
    return bool((wanted == got).all() and (ours == theirs).all())


def nearest(g: Graph, x: Any, axes: Sequence[Axis], wide: bool, exact: bool = False) -> Any:
    """Gather along each axis that changes.

    Args:
        g: the graph.
        x: tensor of shape (batch, channels, one to three spatial axes).
        axes: the spatial ones.
        wide: ``x`` is float64.
        exact: mode ``nearest-exact``: from the middle of each element.
    """
    shape = g.op("Shape", x)
    lengths = [_lengths(g, shape, axis) for axis in axes]
    small = None
    if len(axes) == 2:
        total = g.op("Add", lengths[0][1], lengths[1][1])
        small = g.op("Less", total, g.constant(_SMALL + 1, torch.int64))
    for axis, (before, after) in zip(axes, lengths, strict=True):
        if axis.factor == 1:
            continue

        def indices(
            work: torch.dtype, axis: Axis = axis, before: Any = before, after: Any = after
        ) -> Any:
            ratio = _ratio(g, axis, before, after, None if exact else small, work)
            return _indices(g, before, after, ratio, work, exact)

        # The kernel for channels last computes in float32, the other one in float64.
        found = indices(torch.float64 if wide else torch.float32)
        if wide and small is not None:
            found = g.op("Where", small, indices(torch.float32), found)
        x = g.op("Gather", x, found, axis=axis.position)
    return x


def _lengths(g: Graph, shape: Any, axis: Axis) -> tuple[Any, Any]:
    """Before and after, of shape [1]: torch's TorchScript exporter makes scalars float32."""
    before = g.op("Gather", shape, g.constant([axis.position], torch.int64), axis=0)
    if axis.factor is None:
        return before, axis.size
    factor = g.constant(axis.factor, torch.float64)
    after = g.op("Floor", g.op("Mul", g.cast(before, torch.float64), factor))
    return before, g.cast(after, torch.int64)


def _ratio(
    g: Graph, axis: Axis, before: Any, after: Any, small: Any | None, work: torch.dtype
) -> Any:
    """``compute_scales_value`` of ``UpSample.h``: in / out, or 1 / factor where one was given.

    For small images ``nearest_idx`` ignores the factor where the length is kept or doubled.
    """
    if axis.factor is not None and (small is None or axis.factor == int(axis.factor)):
        return g.constant(1 / axis.factor, work)
    ratio = g.op("Div", g.cast(before, work), g.cast(after, work))
    if axis.factor is None:
        return ratio
    double = g.op("Mul", before, g.constant(2, torch.int64))
    special = g.op("Or", g.op("Equal", after, before), g.op("Equal", after, double))
    stated = g.constant(1 / axis.factor, work)
    return g.op("Where", g.op("And", small, special), ratio, stated)


def _indices(g: Graph, before: Any, after: Any, ratio: Any, work: torch.dtype, exact: bool) -> Any:
    """``min(floor(i * ratio), before - 1)``, floored in float32."""
    one = g.constant(1, torch.int64)
    index = g.op("Range", g.constant(0, torch.int64), g.op("Squeeze", after), one)
    index = g.cast(index, work)
    if exact:
        index = g.op("Add", index, g.constant(0.5, work))
    place = g.op("Floor", g.cast(g.op("Mul", index, ratio), torch.float32))
    last = g.cast(g.op("Sub", before, one), torch.float32)
    return g.cast(g.op("Min", place, last), torch.int64)


def linear(g: Graph, x: Any, axes: Sequence[Axis], dtype: torch.dtype) -> Any:
    """Linear resize by factors without aligned corners, one axis after the other.

    As ``compute_source_index_and_lambda`` of ``UpSample.h``: ``max((i + 0.5) / factor - 0.5, 0)``,
    and a copy where the length stays as it was.
    """
    work = torch.float64 if dtype is torch.float64 else torch.float32
    shape = g.op("Shape", x)
    for axis in axes:
        if axis.factor is None or axis.factor == 1:
            continue
        before, after = _lengths(g, shape, axis)
        half, one = g.constant(0.5, work), g.constant(1, torch.int64)
        index = g.op("Range", g.constant(0, torch.int64), g.op("Squeeze", after), one)
        index = g.cast(index, work)
        middle = g.op("Add", index, half)
        place = g.op("Sub", g.op("Mul", middle, g.constant(1 / axis.factor, work)), half)
        place = g.op("Max", place, g.constant(0, work))
        place = g.op("Where", g.op("Equal", after, before), index, place)
        last = g.cast(g.op("Sub", before, one), work)
        # Behind the last element there is none to mix with: both neighbours are that one.
        low = g.op("Min", g.op("Floor", place), last)
        high = g.op("Min", g.op("Add", low, g.constant(1, work)), last)
        share = g.cast(g.op("Sub", place, low), dtype)
        # One number for each place along this axis, broadcast over the axes behind it.
        share = g.op(
            "Reshape", share, g.constant([-1] + [1] * (len(axes) + 1 - axis.position), torch.int64)
        )
        left = g.op("Gather", x, g.cast(low, torch.int64), axis=axis.position)
        right = g.op("Gather", x, g.cast(high, torch.int64), axis=axis.position)
        x = g.op("Add", left, g.op("Mul", g.op("Sub", right, left), share))
    return x
