"""An operator of another domain: ONNX Runtime's own ``com.microsoft.Gelu``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOURCES = {
    "contrib_gelu": {
        "task": "feature extraction",
        "builder": "build",
        "inputs": {"x": {"shape": [2, 8]}},
        "outputs": ["y"],
    },
}


class ContribGelu(torch.autograd.Function):
    """GELU, which is an operator of its own in ONNX Runtime at any opset."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return F.gelu(x)

    @staticmethod
    def symbolic(g: Any, x: torch.Value) -> Any:
        """What the TorchScript exporter puts into its graph ``g`` instead of ``forward``."""
        return g.op("com.microsoft::Gelu", x).setType(x.type())


class Gated(nn.Module):
    """N×8 → N×4."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = ContribGelu.apply(self.line(x))
        return y


def build() -> nn.Module:
    return Gated()
