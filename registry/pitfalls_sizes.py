"""Pitfalls: sizes that tracing freezes, under a label that says dynamic.

Each model falls into one trap; with ``fixed`` it is written so that the file follows it.
``+experiment=pitfalls`` says what becomes of each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SOURCES = {
    "pitfalls/shape_in_place": {
        "task": "pitfall",
        "builder": "shape_in_place",
        "inputs": {"x": {"shape": [2, 5, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/batch_loop": {
        "task": "pitfall",
        "builder": "batch_loop",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/python_length": {
        "task": "pitfall",
        "builder": "python_length",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/int_of_shape": {
        "task": "pitfall",
        "builder": "int_of_shape",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/axis_of_weights": {
        "task": "pitfall",
        "builder": "axis_of_weights",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/attention": {
        "task": "pitfall",
        "builder": "attention",
        "inputs": {"x": {"shape": [2, 5, 8]}},
        "outputs": ["y"],
    },
    "pitfalls/lazy_cache": {
        "task": "pitfall",
        "builder": "lazy_cache",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
}


class ShapeInPlace(nn.Module):
    """Sizes are tensors while tracing: ``+=`` on one changes the other name for it too."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        padded = length
        if self.fixed:
            padded = padded + 2
        else:
            # In place: `length` is the same tensor, so that `padded - length` below is 0 in the
            # trace. In eager mode both are numbers, and it is 2.
            padded += 2
        ones = x.new_ones(x.shape[0], padded - length, x.shape[2])
        return torch.cat([x, ones], 1)


class BatchLoop(nn.Module):
    """A Python loop over the batch has as many turns as the example had rows."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            return x / (1 + torch.arange(x.shape[0])[:, None, None])
        # Unrolled: the file runs at the batch size of the example only, whatever its axis is
        # called.
        return torch.stack([x[row] / (1 + row) for row in range(x.shape[0])])


class PythonLength(nn.Module):
    """``len(x)`` is a number of the traced example; ``x.shape[0]`` is traced."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0] if self.fixed else len(x)
        return x - x.sum(0, keepdim=True) / rows


class IntOfShape(nn.Module):
    """``int()`` makes a number of a size that would have been traced."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0] if self.fixed else int(x.shape[0])
        return x.reshape(rows, -1)


class Attention(nn.Module):
    """Traced, torch's own attention holds the length of the example."""

    def __init__(self) -> None:
        super().__init__()
        # dynamo at opset 18 keeps the length open.
        self.layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class LazyCache(nn.Module):
    """Positions made at the first call and kept: a cache must not be part of the trace."""

    def __init__(self) -> None:
        super().__init__()
        self.positions: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        # ok, but only as long as an exporter meets a model that nothing has run before.
        if self.positions is None or self.positions.shape[0] < x.shape[1]:
            self.positions = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        return x + self.positions[: x.shape[1]]


def shape_in_place(fixed: bool = False) -> nn.Module:
    return ShapeInPlace(fixed)


def batch_loop(fixed: bool = False) -> nn.Module:
    return BatchLoop(fixed)


def python_length(fixed: bool = False) -> nn.Module:
    return PythonLength(fixed)


def int_of_shape(fixed: bool = False) -> nn.Module:
    return IntOfShape(fixed)


def axis_of_weights() -> nn.Module:
    """The last axis is that of the weights: no other size runs."""
    return nn.Linear(4, 2)


def attention() -> nn.Module:
    return Attention()


def lazy_cache() -> nn.Module:
    return LazyCache()
