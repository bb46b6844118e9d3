"""Models that take some sizes only, each for another reason."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)


class UNet(Net):
    """Three downsamplings and skip connections: multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(c, 4, 3, 2, 1) for c in (3, 4, 4))
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, 4, 2, 2) for c in (4, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = []
        for down in self.down:
            skipped.append(x)
            x = down(x).relu()
        for up, skip in zip(self.up, reversed(skipped), strict=True):
            x = torch.cat([up(x), skip], 1)
        return x


class Blocks(Net):
    """Blocks of so many steps behind some that stand alone: ``t = size * k + rest``."""

    def __init__(self, size: int = 4, rest: int = 0) -> None:
        super().__init__()
        self.size, self.rest, self.linear = size, rest, nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        blocks = x[:, self.rest :].reshape(x.shape[0], -1, self.size, 6).mean(2)
        return self.linear(torch.cat([x[:, : self.rest], blocks], 1)).cumsum(1)


class Branching(Blocks):
    """Beyond 40 steps it does something else, which a trace does not follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * 3 if x.shape[1] > 40 else y


class Kernel(Net):
    """At least 7 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()


class Table(Net):
    """At most 48 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(48, 6))
        self.linear = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x + self.table[: x.shape[1]])


class Square(Net):
    """``w = h``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x + x.transpose(1, 2)


class Past(Net):
    """A decoder with a cache: ``total = past + length``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.qkv = nn.Embedding(50, 8), nn.Linear(8, 24)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, past: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        q, k, v = self.qkv(self.embedding(ids)).chunk(3, -1)
        k = torch.cat([past, k], 1)
        scores = q @ k.transpose(1, 2) + (1.0 - mask[:, None].float()) * -1e4
        return (scores.softmax(-1) @ k).cumsum(1)[:, -1:] + v.sum(1, keepdim=True), k


class Twice(Net):
    """``b = 2 * a``."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack([x, x * 2], 1).flatten(0, 1).tanh() + y


class Four(Net):
    """Four times the size comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.conv(x), 4)


class UpDown(Net):
    """PyTorch takes every size, and a trace is right at even ones only."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.one(x)
        h = self.two(s)
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            return torch.cat([F.interpolate(h, size=s.shape[-2:]), s], 1)
        return torch.cat([F.interpolate(h, scale_factor=2.0), s], 1)


class Scaled(UpDown):
    """At odd sizes a trace runs, and is wrong."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        return y * 2 if x.shape[-2] % 2 or x.shape[-1] % 2 else y


class Identity(Net):
    """Right at every size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1


class Ninety(Net):
    """At multiples of 97 it does something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 3 if x.shape[1] % 97 == 0 else x


class Squared(Net):
    """The square of a length is compared, between two numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if 40000 <= x.shape[1] * x.shape[1] < 50000 else x


class Pair(Net):
    """Two inputs of one batch and length, with weights that fix their features."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.cat([x, y], 2)).relu()


class PaddedMask(Net):
    """As decoders of transformers do: a mask that is too short is padded, one too long is cut."""

    def forward(self, x: torch.Tensor, past: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        keys = torch.cat([past, x], 1)
        if mask.shape[1] < keys.shape[1]:
            mask = F.pad(mask, (0, keys.shape[1] - mask.shape[1]))
        return (keys * mask[:, : keys.shape[1], None]).sum(1)
