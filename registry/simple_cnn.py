"""The smallest image classifier: one convolution and one linear layer."""

from __future__ import annotations

from torch import nn

SOURCES = {
    "simple_cnn": {
        "task": "classification",
        "inputs": {"input_image": {"shape": [1, 3, 32, 32]}},
        "outputs": ["output_logits"],
    }
}


def build() -> nn.Module:
    """1×3×32×32 → 1×10."""
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        # 16 channels of 16×16, which is what the pool leaves of 32×32.
        nn.Linear(4096, 10),
    )
