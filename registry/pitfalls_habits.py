"""Pitfalls: habits of a model that a file cannot share, and ends that a batch must survive.

Each model falls into one trap; with ``fixed`` it is written so that the file follows it.
``+experiment=pitfalls`` says what becomes of each.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOURCES = {
    "pitfalls/dropout": {
        "task": "pitfall",
        "builder": "dropout",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/input_mutated": {
        "task": "pitfall",
        "builder": "input_mutated",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/input_data_mutated": {
        "task": "pitfall",
        "builder": "input_data_mutated",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/counter": {
        "task": "pitfall",
        "builder": "counter",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/running_mean": {
        "task": "pitfall",
        "builder": "running_mean",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/running_mean_as_input": {
        "task": "pitfall",
        "builder": "running_mean_as_input",
        "inputs": {"x": {"shape": [2, 3, 4]}, "mean": {"shape": []}},
        "outputs": ["y", "new_mean"],
    },
    "pitfalls/training": {
        "task": "pitfall",
        "builder": "training",
        "inputs": {"x": {"shape": [2, 3, 8, 8]}},
        "outputs": ["y"],
    },
    "pitfalls/label": {
        "task": "pitfall",
        "builder": "label",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["scores", "best"],
    },
    "pitfalls/logarithm": {
        "task": "pitfall",
        "builder": "logarithm",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/no_detection": {
        "task": "pitfall",
        "builder": "no_detection",
        "inputs": {"boxes": {"shape": [16, 4]}},
        "outputs": ["kept"],
    },
    "pitfalls/nan_weight": {
        "task": "pitfall",
        "builder": "nan_weight",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/vanishing": {
        "task": "pitfall",
        "builder": "vanishing",
        "inputs": {"x": {"shape": [2, 8]}},
        "outputs": ["y"],
    },
    "pitfalls/keyboard": {
        "task": "pitfall",
        "builder": "keyboard",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
    "pitfalls/leaves": {
        "task": "pitfall",
        "builder": "leaves",
        "inputs": {"x": {"shape": [2, 3, 4]}},
        "outputs": ["y"],
    },
}


class Dropout(nn.Module):
    """``F.dropout`` is active unless it is told that the model is not training."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, training=self.training) if self.fixed else F.dropout(x)


class InputMutated(nn.Module):
    """Changes what the caller passed in; the file does not, and computes the same."""

    def forward(self, x: Tensor) -> Tensor:
        # The row is ok with a warning: what the file computes is right, and it changes nothing.
        x.mul_(2.0)
        return x + 1


class InputDataMutated(nn.Module):
    """Changes what the caller passed in, where tracing does not see it."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed:
            return x * 2 + 1
        # `.data` goes past the tracer: the file computes x + 1. INPUT_MUTATED.
        x.data.mul_(2.0)
        return x + 1


class Counter(nn.Module):
    """A buffer changes at each call; the output does not depend on it."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        # The row is ok with a warning, since no output depends on it.
        self.calls += 1
        return x * 2


class RunningMean(nn.Module):
    """The output depends on what earlier calls left in a buffer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        # The next call begins where this one ended, and a file has no memory: STATE_MUTATED.
        self.mean.mul_(0.9).add_(0.1 * x.mean())
        return x - self.mean


class RunningMeanAsInput(nn.Module):
    """The same with the state where a file can have it: in and out."""

    def forward(self, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        mean = 0.9 * mean + 0.1 * x.mean()
        return x - mean, mean


class Label(nn.Module):
    """Returns Python values among its tensors."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: Tensor) -> dict[str, Tensor | int]:
        scores = x.sum((1, 2))
        # A number of Python's has no place in a graph: OUTPUT_STRUCTURE.
        return {"scores": scores, "best": scores.argmax() if self.fixed else 3}


class Logarithm(nn.Module):
    """Is defined above zero only."""

    def forward(self, x: Tensor) -> Tensor:
        # Half of the default inputs are negative: NaN on both sides, and NaN equal to NaN says
        # nothing.
        return torch.log(x)


class NoDetection(nn.Module):
    """Keeps the boxes whose score, a probability, exceeds ``threshold``."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, boxes: Tensor) -> Tensor:
        return boxes[boxes.mean(1).sigmoid() > self.threshold]


class NanWeight(nn.Module):
    """A weight that training blew up."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, math.nan, 1.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Keyboard(nn.Module):
    """A question, or a debugger, left in the code."""

    def __init__(self, debugger: bool) -> None:
        super().__init__()
        self.debugger = debugger

    def forward(self, x: Tensor) -> Tensor:
        if self.debugger:
            breakpoint()
        else:
            input("go on? ")
        return x * 2


class Leaves(nn.Module):
    """Ends the process that runs it."""

    def forward(self, x: Tensor) -> Tensor:
        # A shell would take this for success; here it is crashed / NO_RESULT.
        sys.exit(0)


def dropout(fixed: bool = False) -> nn.Module:
    return Dropout(fixed)


def input_mutated() -> nn.Module:
    return InputMutated()


def input_data_mutated(fixed: bool = False) -> nn.Module:
    return InputDataMutated(fixed)


def counter() -> nn.Module:
    return Counter()


def running_mean() -> nn.Module:
    return RunningMean()


def running_mean_as_input() -> nn.Module:
    return RunningMeanAsInput()


def training(captured: bool = False) -> nn.Module | torch.export.ExportedProgram:
    # Two layers that training changes. A program that was captured in eval mode has neither any
    # more: TRAINING_IGNORED.
    model = nn.Sequential(nn.Conv2d(3, 4, kernel_size=3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return torch.export.export(model.eval(), (torch.zeros(2, 3, 8, 8),)) if captured else model


def label(fixed: bool = False) -> nn.Module:
    return Label(fixed)


def logarithm() -> nn.Module:
    return Logarithm()


# No sigmoid exceeds 1: nothing is kept, and any empty output equals any other.
def no_detection(threshold: float = 1.0) -> nn.Module:
    return NoDetection(threshold)


def nan_weight() -> nn.Module:
    return NanWeight()


def vanishing() -> nn.Module:
    """Weights at random whose outputs are near zero: any graph would pass."""
    # Six layers of weights around 1e-4 leave about 1e-20. The row is ok, because random weights of
    # the registry are conditioned.
    layers = [nn.Linear(8, 8) for _ in range(6)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1e-4)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def keyboard(debugger: bool = False) -> nn.Module:
    return Keyboard(debugger)


def leaves() -> nn.Module:
    return Leaves()
