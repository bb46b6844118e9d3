"""A classifier whose spatial axes are flattened in one of three ways before pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SOURCES = {
    "flatten_pool": {
        "task": "classification",
        "inputs": {"input0": {"shape": [1, 3, 64, 64]}},
        "outputs": ["output0"],
    }
}


def _flatten(x: Tensor) -> Tensor:
    return torch.flatten(x, 2, 3)


def _view(x: Tensor) -> Tensor:
    return x.view(x.size(0), x.size(1), x.size(2) * x.size(3))


def _reshape(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], -1)


WAYS = {"flatten": _flatten, "view": _view, "reshape": _reshape}


class FlattenPool(nn.Module):
    """1×3×64×64 → 1×10."""

    def __init__(self, way: str) -> None:
        super().__init__()
        if way not in WAYS:
            raise ValueError(f"kwargs.way: expected one of {', '.join(WAYS)}; found {way!r}")
        self.to_rows = WAYS[way]
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 64, kernel_size=5, padding=2),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.pool(self.to_rows(self.features(x)))
        logits: Tensor = self.classifier(torch.flatten(rows, 1))
        return logits


def build(way: str = "flatten") -> nn.Module:
    """``way``: how H and W become one axis: flatten, view or reshape."""
    return FlattenPool(way)
