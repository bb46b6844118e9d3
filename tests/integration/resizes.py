"""Models that resize by the nearest element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Resized(nn.Module):
    """One output for each size and each factor, in each mode."""

    def __init__(
        self,
        sizes: tuple[tuple[int, ...], ...] = (),
        factors: tuple[float, ...] = (),
        modes: tuple[str, ...] = ("nearest",),
    ) -> None:
        super().__init__()
        self.sizes, self.factors, self.modes = sizes, factors, modes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            F.interpolate(x, mode=mode, **{key: value})
            for mode in self.modes
            for key, values in (("size", self.sizes), ("scale_factor", self.factors))
            for value in values
        )


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
        kept = x.index_select(2, torch.nonzero(x[0, 0, :, 0] >= 0)[:, 0])
        return F.interpolate(kept, size=(26, 64), mode="nearest")
