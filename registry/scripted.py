"""Control flow that depends on the data: tracing would bake it, ``torch.jit.script`` keeps it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SOURCES = {
    "scripted": {
        "task": "control flow",
        "builder": "build",
        "inputs": {"input": {"shape": [1, 3, 16, 16]}},
        "outputs": ["output"],
    },
    "script_function": {
        "task": "control flow",
        "builder": "build_function",
        "inputs": {"x": {"shape": [4, 8]}, "y": {"shape": [4, 8]}},
        "outputs": ["z"],
    },
}


class Halving(nn.Module):
    """Halve until no value exceeds 1 (a loop), then convolve or negate (a branch).

    1×3×16×16 → 1×3×16×16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.abs().max() > 1.0):
            x = x * 0.5
        if bool(x.sum() > 0.0):
            y: Tensor = self.conv(x)
        else:
            y = -x
        return y


def larger_first(x: Tensor, y: Tensor) -> Tensor:
    """``x - 2 y`` or ``y - 2 x``, the input with the larger sum first."""
    if bool(x.sum() > y.sum()):
        z = x - 2.0 * y
    else:
        z = y - 2.0 * x
    return z


def build() -> torch.jit.ScriptModule:
    """A scripted module."""
    return torch.jit.script(Halving())


def build_function() -> torch.jit.ScriptFunction:  # type: ignore[type-arg]
    """A scripted function: no module, no parameters."""
    return torch.jit.script(larger_first)
