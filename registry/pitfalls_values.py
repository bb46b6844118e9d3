"""Pitfalls: values that tracing turns into constants.

Each model falls into one trap; with ``fixed`` it is written so that the file follows it.
``+experiment=pitfalls`` says what becomes of each.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

SOURCES = {
    "pitfalls/numpy_in_graph": {
        "task": "pitfall",
        "builder": "numpy_in_graph",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/python_number": {
        "task": "pitfall",
        "builder": "python_number",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/item": {
        "task": "pitfall",
        "builder": "item",
        "inputs": {"x": {"shape": [2, 3, 4]}, "factor": {"shape": []}},
        "outputs": ["y"],
    },
    "pitfalls/tensor_from_list": {
        "task": "pitfall",
        "builder": "tensor_from_list",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/data_edited": {
        "task": "pitfall",
        "builder": "data_edited",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/data_branch": {
        "task": "pitfall",
        "builder": "data_branch",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/data_loop": {
        "task": "pitfall",
        "builder": "data_loop",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/default_number": {
        "task": "pitfall",
        "builder": "default_number",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/unused_input": {
        "task": "pitfall",
        "builder": "unused_input",
        "inputs": {"x": {"shape": [2, 3, 4]}, "mask": {"shape": [2, 3]}},
        "outputs": ["y"],
    },
}


class NumpyInGraph(nn.Module):
    """NumPy computes outside the graph: its result is a constant."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            return x + torch.sin(x)
        return x + torch.from_numpy(np.sin(x.numpy()))


class PythonNumber(nn.Module):
    """``float(tensor)`` is a number of the traced example."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        largest = x.abs().max()
        return x / largest if self.fixed else x / float(largest)


class Item(nn.Module):
    """``.item()`` cuts an input off: the file does not have it."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor if self.fixed else x * factor.item()


class TensorFromList(nn.Module):
    """``torch.tensor`` of a list copies values, not the way they were computed."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        # The loop is unrolled either way, and that is right here: no axis of this model is dynamic.
        limits = [row.max() for row in x]
        scale = torch.stack(limits) if self.fixed else torch.tensor(limits)
        return x * scale[:, None, None]


class DataEdited(nn.Module):
    """What happens to ``.data`` is not traced."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        if self.fixed:
            return y + 1
        # Not in the trace. torch.export (2.15) ends with a segmentation fault here: crashed /
        # SIGNAL.
        y.data.add_(1.0)
        return y


class DataBranch(nn.Module):
    """A Python ``if`` on data: the trace holds the side that the example took."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            return torch.where(x.sum() > 0, x * 2, x - 1)
        # The second input of a verification has a sum of the other sign: it takes the other side.
        # torch.export refuses the branch.
        return x * 2 if x.sum() > 0 else x - 1


class DataLoop(nn.Module):
    """A Python ``while`` on data: the trace holds as many turns as the example took."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.abs().max() > 0.5):
            x = x * 0.7
        return x


class DefaultNumber(nn.Module):
    """A default that the TorchScript exporter, left alone, passes as a tensor."""

    def forward(self, x: Tensor, keepdim: bool = False, times: int = 2) -> Tensor:
        return x.sum(1, keepdim=keepdim).repeat(1, times)


class UnusedInput(nn.Module):
    """An argument that nothing uses; the file does not have it."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x * 2


def numpy_in_graph(fixed: bool = False) -> nn.Module:
    return NumpyInGraph(fixed)


def python_number(fixed: bool = False) -> nn.Module:
    return PythonNumber(fixed)


def item(fixed: bool = False) -> nn.Module:
    return Item(fixed)


def tensor_from_list(fixed: bool = False) -> nn.Module:
    return TensorFromList(fixed)


def data_edited(fixed: bool = False) -> nn.Module:
    return DataEdited(fixed)


def data_branch(fixed: bool = False) -> nn.Module:
    return DataBranch(fixed)


def data_loop(fixed: bool = False) -> nn.Module | torch.jit.ScriptModule:
    """``fixed``: scripted, which keeps the loop."""
    # Scripted code becomes a Loop in the file, with as many turns as its input needs.
    return torch.jit.script(DataLoop()) if fixed else DataLoop()


def default_number() -> nn.Module:
    return DefaultNumber()


def unused_input() -> nn.Module:
    return UnusedInput()
