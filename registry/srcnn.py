"""SRCNN, image super-resolution: bicubic upsampling, then three convolutions.

Chao Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", 2015. The
published checkpoint keeps its tensors under ``state_dict`` with the prefix ``generator.``;
``data/srcnn_x3.pth``, made by ``make_srcnn_checkpoint.py``, has the same form.

The inputs are images, 0…1. White noise would measure something else: PyTorch's float32
coordinates are off by up to 1e-5 of a pixel at a scale of 3, and noise has steep slopes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SOURCES = {
    "srcnn": {
        "task": "super-resolution",
        "builder": "build",
        "inputs": {
            "input": {"shape": [1, 3, 256, 256], "fill": "uniform", "low": 0.0, "high": 1.0}
        },
        "outputs": ["output"],
        "defaults": {
            "weights": {
                "checkpoint": "data/srcnn_x3.pth",
                "key": "state_dict",
                "strip_prefix": "generator.",
                "sha256": "5d9d4925ff57c15e3e8573dc98fa2e3a0c0c83948c14da3f5f0d6bd51afff075",
            }
        },
    },
    "srcnn_dynamic": {
        "task": "super-resolution",
        "builder": "build_dynamic",
        "inputs": {
            "input": {"shape": [1, 3, 256, 256], "fill": "uniform", "low": 0.0, "high": 1.0},
            # Of N, C, H and W, as Resize takes it: only the picture grows.
            "factor": {"shape": [4], "fill": "constant", "value": [1.0, 1.0, 3.0, 3.0]},
        },
        "outputs": ["output"],
        "defaults": {
            "weights": {
                "checkpoint": "data/srcnn_x3.pth",
                "key": "state_dict",
                "strip_prefix": "generator.",
                "sha256": "5d9d4925ff57c15e3e8573dc98fa2e3a0c0c83948c14da3f5f0d6bd51afff075",
            }
        },
    },
}


class SRCNN(nn.Module):
    """N×3×H×W → N×3×(scale·H)×(scale·W)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(3, 64, kernel_size=9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, kernel_size=1)
        self.conv3 = nn.Conv2d(32, 3, kernel_size=5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.refine(F.interpolate(x, scale_factor=self.scale, mode="bicubic"))

    def refine(self, x: Tensor) -> Tensor:
        """The three convolutions, which keep the size."""
        y: Tensor = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return y


class BicubicByTensor(torch.autograd.Function):
    """Bicubic upsampling by a tensor of scales.

    ``F.interpolate`` wants Python numbers, so that a traced graph would hold them as constants.
    ONNX's Resize takes its scales as a tensor, one for each axis (N, C, H, W).
    """

    @staticmethod
    def forward(ctx: object, x: Tensor, scales: Tensor) -> Tensor:
        height, width = scales.tolist()[2:]
        return F.interpolate(x, scale_factor=(height, width), mode="bicubic")

    @staticmethod
    def symbolic(g: Any, x: torch.Value, scales: torch.Value) -> Any:
        """What the TorchScript exporter puts into its graph ``g`` instead of ``forward``."""
        region = g.op("Constant", value_t=torch.tensor([], dtype=torch.float32))  # not used
        return g.op(
            "Resize",
            x,
            region,
            scales,
            mode_s="cubic",
            cubic_coeff_a_f=-0.75,  # PyTorch's; the default of ONNX agrees since opset 11
            # That of `align_corners=False`, the default in `forward`.
            coordinate_transformation_mode_s="pytorch_half_pixel",
        )


class DynamicSRCNN(SRCNN):
    """N×3×H×W and four scales → N×3×(factor[2]·H)×(factor[3]·W)."""

    def __init__(self) -> None:
        # Not used: `forward` below takes the factor as an input.
        super().__init__(scale=1)

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:  # type: ignore[override]
        return self.refine(BicubicByTensor.apply(x, factor))


def build(scale: int = 3) -> nn.Module:
    return SRCNN(scale)


def build_dynamic() -> nn.Module:
    return DynamicSRCNN()
