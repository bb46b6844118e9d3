"""Two convolutions with batch normalisation and a max-pool between them."""

from __future__ import annotations

from torch import nn

SOURCES = {
    "conv_bn_relu": {
        "task": "features",
        "inputs": {"input": {"shape": [2, 3, 255, 255]}},
        "outputs": ["output"],
    }
}


def build() -> nn.Module:
    """2×3×255×255 → 2×32×249×249."""
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=1),
        nn.Conv2d(64, 32, kernel_size=3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    )
