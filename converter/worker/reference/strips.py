"""Convolutions of float64 in strips, so that they fit into the cache instead of filling memory.

PyTorch has no direct convolution for float64 on the CPU: it copies the input once for each element
of the kernel (im2col) and multiplies. For an image of 768 x 768 with 32 channels and a kernel of
5 x 5 that copy is 3.8 GB, and finding that memory takes several times as long as the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional

from converter.worker.reference.dispatching import Mode

_MOST_BYTES = 128 << 20  # of one strip's copy; much less makes the products too small to be fast
_ELEMENT_BYTES = 8


class Strips(Mode):
    """Within it each large float64 convolution is done some samples, or output rows, at a time.

    Every output element is the same sum of the same products as without it.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default and (count := _strips(*args)) > 1:
            x, *others = args
            # Samples first: strips of rows make the products small, and small ones are slow.
            if count <= len(x):
                return torch.cat([func(part, *others) for part in x.tensor_split(count)])
            rows = math.ceil(count / len(x))
            return torch.cat([_by_rows(rows, part, *others) for part in x.split(1)])
        return func(*args, **(kwargs or {}))


def _strips(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> int:
    """How many; 1 for what stays as it is."""
    # A kernel of one element copies nothing, and other devices have kernels of their own.
    kernel = weight.shape[2:]
    if transposed or x.dtype != torch.float64 or x.device.type != "cpu" or math.prod(kernel) == 1:
        return 1
    sizes = [
        _length(*axis) for axis in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]
    # Bytes of the im2col copy: [samples, channels × kernel elements, output elements].
    copied = x.shape[0] * x.shape[1] * math.prod(kernel) * math.prod(sizes) * _ELEMENT_BYTES
    # No more strips than there are output rows in all samples.
    return min(x.shape[0] * sizes[0], math.ceil(copied / _MOST_BYTES))


def _length(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Of an output axis, as in the documentation of ``torch.nn.Conv2d``."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _by_rows(
    count: int,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *others: Any,
) -> torch.Tensor:
    size, reach = x.shape[2], dilation[0] * (weight.shape[2] - 1) + 1
    rows = _length(size, weight.shape[2], stride[0], padding[0], dilation[0])
    # Rows are padded by hand, since only the outer strips touch the border.
    inner = [0, *padding[1:]]
    parts = []
    for number in range(count):
        # Equal shares: the last strip is not a thin one.
        first, end = rows * number // count, rows * (number + 1) // count
        # Input rows that these output rows read, from `top` to before `bottom`; outside of the
        # image they are padding.
        top = first * stride[0] - padding[0]
        bottom = (end - 1) * stride[0] - padding[0] + reach
        strip = x[:, :, max(top, 0) : min(bottom, size)]
        outside = [max(-top, 0), max(bottom - size, 0)]
        if any(outside):
            strip = functional.pad(strip, [0, 0] * (len(inner) - 1) + outside)
        parts.append(
            torch.ops.aten.convolution(strip, weight, bias, stride, inner, dilation, *others)
        )
    return torch.cat(parts, 2)
