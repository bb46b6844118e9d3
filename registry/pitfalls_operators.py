"""Pitfalls: operators that come out otherwise, or not at all.

Each model falls into one trap; with ``fixed`` it is written so that the file follows it.
``+experiment=pitfalls`` says what becomes of each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOURCES = {
    "pitfalls/floor_division": {
        "task": "pitfall",
        "builder": "floor_division",
        "inputs": {"x": {"shape": [16], "dtype": "int64"}},
        "outputs": ["y"],
    },
    "pitfalls/negative_indices": {
        "task": "pitfall",
        "builder": "negative_indices",
        "inputs": {
            "x": {"shape": [5, 4]},
            "index": {"shape": [3], "dtype": "int64", "low": -4, "high": 4},
        },
        "outputs": ["y"],
    },
    "pitfalls/several_indices": {
        "task": "pitfall",
        "builder": "several_indices",
        "inputs": {"x": {"shape": [5, 4, 3]}},
        "outputs": ["y"],
    },
    "pitfalls/wide_indices": {
        "task": "pitfall",
        "builder": "wide_indices",
        "inputs": {"x": {"shape": [5, 4, 3]}},
        "outputs": ["y"],
    },
    "pitfalls/negative_write": {
        "task": "pitfall",
        "builder": "negative_write",
        "inputs": {"x": {"shape": [5, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/broadcast_write": {
        "task": "pitfall",
        "builder": "broadcast_write",
        "inputs": {"x": {"shape": [5, 4, 3]}},
        "outputs": ["y"],
    },
    "pitfalls/list_of_tuples": {
        "task": "pitfall",
        "builder": "list_of_tuples",
        "inputs": {"x": {"shape": [3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/write_through_view": {
        "task": "pitfall",
        "builder": "write_through_view",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/grid_sample": {
        "task": "pitfall",
        "builder": "grid_sample",
        "inputs": {"x": {"shape": [1, 2, 4, 4]}, "grid": {"shape": [1, 3, 3, 2]}},
        "outputs": ["y"],
    },
    "pitfalls/bit_shift": {
        "task": "pitfall",
        "builder": "bit_shift",
        "inputs": {"x": {"shape": [16], "dtype": "int64"}},
        "outputs": ["y"],
    },
    "pitfalls/largest": {
        "task": "pitfall",
        "builder": "largest",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
}


class FloorDivision(nn.Module):
    """``//`` rounds down in PyTorch, and towards zero as torch's exporter has it: -7 // 2."""

    def forward(self, x: Tensor) -> Tensor:
        # ok, since the converter has a translation of its own. It stays here to see that this
        # holds.
        return x // 2


class NegativeIndices(nn.Module):
    """Two index tensors become one flat index, which counts from the wrong end below zero."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        rows, columns = index, index
        if self.fixed:
            # Counted from the front, as the flat index of the file is.
            rows, columns = index % x.shape[0], index % x.shape[1]
        return x[rows, columns]


class SeveralIndices(nn.Module):
    """Writing at two index tensors with an axis between them."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        first, last = torch.tensor([2, 3]), torch.tensor([1, 2])
        values = torch.arange(8.0).reshape(2, 4)
        if not self.fixed:
            y = x.clone()
            y[first, :, last] = values
            return y
        # With the two indexed axes side by side the exporter has a form for it.
        y = x.transpose(1, 2).clone()
        y[first, last] = values
        return y.transpose(1, 2)


class WideIndices(nn.Module):
    """Writing at two index tensors, one of which is a matrix: torch's page says that it fails."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[torch.tensor([[1, 2], [2, 3]]), torch.tensor([1, 3])] = torch.arange(12.0).reshape(
            2, 2, 3
        )
        return y


class NegativeWrite(nn.Module):
    """Writing at indices from the end: torch's page says that it fails, and only reading does."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[torch.tensor([1, -2]), torch.tensor([-1, 2])] = torch.arange(2.0)
        return y


class BroadcastWrite(nn.Module):
    """Values that must be broadcast to be written; ONNX Runtime finds too few of them."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        values = torch.arange(3.0)
        y = x.clone()
        y[torch.tensor([2, 3]), torch.tensor([1, 2])] = (
            values.expand(2, 3) if self.fixed else values
        )
        return y


class ListOfTuples(nn.Module):
    """Appends a tuple to a list; a script keeps both, and ONNX has no sequence of pairs."""

    def forward(self, x: Tensor) -> Tensor:
        pairs: list[tuple[Tensor, Tensor]] = []
        for row in range(x.shape[0]):
            pairs.append((x[row], x[row].abs()))  # noqa: PERF401 - this is the trap
        total = torch.zeros_like(x[0])
        for value, weight in pairs:
            total = total + value * weight
        return total


class TwoLists(nn.Module):
    """The same with a list for each half of the pairs."""

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = []
        weights: list[Tensor] = []
        for row in range(x.shape[0]):
            values.append(x[row])
            weights.append(x[row].abs())
        total = torch.zeros_like(x[0])
        for row in range(len(values)):
            total = total + values[row] * weights[row]
        return total


class WriteThroughView(nn.Module):
    """Tracing loses what is written to ``y`` through a view of it."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        if self.fixed:
            return y * (torch.arange(y.numel()) % 2).reshape(y.shape)
        y.view(-1)[::2] = 0
        return y


class GridSample(nn.Module):
    """ONNX has it from opset 16 on."""

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, align_corners=False)


class BitShift(nn.Module):
    """The dynamo exporter writes it at opset 18 and cannot bring it down."""

    def forward(self, x: Tensor) -> Tensor:
        return x >> 1


class Largest(nn.Module):
    """Brought down from opset 18 to 17 by the dynamo exporter, ReduceMax is not valid."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.abs().max()


def floor_division() -> nn.Module:
    return FloorDivision()


def negative_indices(fixed: bool = False) -> nn.Module:
    return NegativeIndices(fixed)


def several_indices(fixed: bool = False) -> nn.Module:
    return SeveralIndices(fixed)


def wide_indices() -> nn.Module:
    return WideIndices()


def negative_write() -> nn.Module:
    return NegativeWrite()


def broadcast_write(fixed: bool = False) -> nn.Module:
    return BroadcastWrite(fixed)


def list_of_tuples(fixed: bool = False, script: bool = True) -> nn.Module:
    module = TwoLists() if fixed else ListOfTuples()
    return torch.jit.script(module) if script else module


def write_through_view(fixed: bool = False) -> nn.Module:
    return WriteThroughView(fixed)


def grid_sample() -> nn.Module:
    return GridSample()


def bit_shift() -> nn.Module:
    return BitShift()


def largest() -> nn.Module:
    return Largest()
