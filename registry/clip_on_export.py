"""A model that computes something else while it is exported, on purpose."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SOURCES = {
    "clip_on_export": {
        "task": "features",
        "inputs": {"input": {"shape": [1, 3, 32, 32]}},
        "outputs": ["output"],
    }
}


class ClipOnExport(nn.Module):
    """1×3×32×32 → 1×3×32×32; in the ONNX file, and only there, clipped to ±0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        # True while either exporter runs. The row is VERIFY_VALUE, unless `verify.reference:
        # export` computes the reference on this side too.
        return torch.clip(y, -0.5, 0.5) if torch.onnx.is_in_onnx_export() else y


def build() -> nn.Module:
    return ClipOnExport()
