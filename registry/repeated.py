"""A Python number among the arguments of forward: ``torch.onnx.export(model, (x, 3))``.

The number is no input of the file: the graph has as many convolutions as it says.
"""

from __future__ import annotations

from torch import Tensor, nn

SOURCES = {
    "repeated": {
        "task": "feature extraction",
        "builder": "build",
        "inputs": {"x": {"shape": [1, 3, 16, 16]}},
        "outputs": ["y"],
        "defaults": {"constants": {"times": 3}},
    },
}


class Repeated(nn.Module):
    """One convolution, ``times`` times in a row. 1×3×16×16 → 1×3×16×16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, kernel_size=3, padding=1)

    def forward(self, x: Tensor, times: int) -> Tensor:
        for _ in range(times):
            x = self.conv(x).relu()
        return x


def build() -> nn.Module:
    return Repeated()
