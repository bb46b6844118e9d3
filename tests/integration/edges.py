"""Models of operators whose textbook formula fails at the edges of a dtype."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Logarithms(nn.Module):
    """One output for each operator; ``x`` and ``y`` are broadcast against each other."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            F.logsigmoid(x),
            torch.logaddexp(x, y),
            torch.logaddexp2(x, y),
            torch.log1p(x.abs()),
            torch.log1p(-x.abs().clamp(max=0.9)),
            F.softplus(x, beta=2.0, threshold=5.0),
            torch.expm1(x),
        )


class Angles(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return torch.atan2(x, y), torch.atan2(y, x)


class Floats(nn.Module):
    """Division of floats; ``y`` holds no zero."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            x // y,
            x // 0.1,
            x // 2,
            1.0 // y,
            torch.div(x, y, rounding_mode="floor"),
            torch.div(x, y, rounding_mode="trunc"),
            x % y,
            x % 0.1,
            torch.fmod(x, y),
        )


class Integers(nn.Module):
    """Division of integers; ``y`` holds no zero."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            x // y,
            x // 2,
            x // -3,
            7 // y,
            torch.div(x, y, rounding_mode="floor"),
            torch.div(x, y, rounding_mode="trunc"),
            x % y,
            x % -3,
            torch.fmod(x, y),
        )


class Distances(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            F.cosine_similarity(x, y, dim=-1),
            F.cosine_similarity(x, y, dim=0, eps=1e-3),
            F.cosine_similarity(x[None], y[:, None], dim=2),
            F.pairwise_distance(x, y),
            F.pairwise_distance(x, y, p=1.0, keepdim=True),
            F.pairwise_distance(x, y, p=3.0),
        )


class Sums(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(0)


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class Pool(nn.Module):
    def __init__(self, ceil_mode: bool = False) -> None:
        super().__init__()
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 2, 1, ceil_mode=self.ceil_mode, divisor_override=2)


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positive = nn.Buffer(torch.tensor(3.0))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weight = torch.full_like(x, 0.7)
        return F.binary_cross_entropy_with_logits(
            x, y, weight, reduction="none", pos_weight=self.positive
        )


class Voxels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x // 0.1


class Grid(nn.Module):
    """Cells before the image have negative numbers."""

    def forward(self, x: Tensor) -> Tensor:
        cell = (torch.arange(x.shape[0]) - 4) // 3
        return x + cell[:, None].float()


class Halves(nn.Module):
    """A size is halved, once rounded up."""

    def forward(self, x: Tensor) -> Any:
        return x[: x.shape[0] // 2], x[: -(-x.shape[0] // 2)]


class Scaled(nn.Module):
    """Resized by a scale at which few rows stay as many."""

    def __init__(self, mode: str = "bilinear", scale: float = 1.3) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"scale_factor": scale, "mode": mode}
        if mode == "bilinear":
            self.options["align_corners"] = False

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, **self.options)


class Highest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, torch.full_like(x, 4))


class Attention(nn.Module):
    """Attention with a mask of truths and one of numbers; some rows see nothing."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        seen = y > 0
        added = torch.zeros_like(y).masked_fill(~seen, -torch.inf)
        return (
            F.scaled_dot_product_attention(x, x, x, seen),
            F.scaled_dot_product_attention(x, x, x, added, scale=0.3),
        )
