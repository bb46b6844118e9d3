"""One convolution: what an exporter does to axes shows best on a graph of one node."""

from __future__ import annotations

from torch import nn

SOURCES = {
    "single_conv": {
        "task": "features",
        "inputs": {"in": {"shape": [1, 3, 10, 10]}},
        "outputs": ["out"],
    }
}


def build() -> nn.Module:
    """1×3×10×10 → 1×3×8×8."""
    return nn.Conv2d(3, 3, kernel_size=3)
