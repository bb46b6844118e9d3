"""Models that resize by the nearest element."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ToSize(nn.Module):
    """To fixed sizes; an axis may keep its own."""

    def __init__(self, *sizes: tuple[int, ...], mode: str = "nearest") -> None:
        super().__init__()
        self.sizes, self.mode = sizes, mode

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(F.interpolate(x, size=size, mode=self.mode) for size in self.sizes)


class ByFactor(nn.Module):
    def __init__(self, *factors: float, mode: str = "nearest") -> None:
        super().__init__()
        self.factors, self.mode = factors, mode

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(F.interpolate(x, scale_factor=f, mode=self.mode) for f in self.factors)


class Pyramid(nn.Module):
    """A coarse map made as large as a fine one, as in a feature pyramid."""

    def forward(self, fine: Tensor) -> Tensor:
        coarse = fine[..., ::2, ::2]
        return fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=[64, 50], mode="nearest")


class Masked(nn.Module):
    """The length before is known at run time only."""

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, x[0, 0, :, 0] >= 0]
        return F.interpolate(kept, size=(26, 64), mode="nearest")
