"""Models whose trace freezes a value that shows only in a small part of what they give."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Frozen(nn.Module):
    """Two layers, and the largest input as a number of Python, which a trace keeps."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.a = nn.Linear(16, width)
        self.b = nn.Linear(16, width)

    def largest(self, x: Tensor) -> float:
        return float(x.abs().max())


class Masked(Frozen):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (self.a(x) * self.largest(x)).masked_fill(~mask, -1e9)


class TwoColumns(Frozen):
    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([1e5 * self.a(x), (self.b(x) * self.largest(x)).sigmoid()], 1)


class Stacked(Frozen):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([1e5 * self.a(x), (self.b(x) * self.largest(x)).sigmoid()])


class InFloat32(Frozen):
    """Boxes in pixels beside scores; names its precision."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        scores = 0.05 * (self.b(x) + 2 * float(x.mean())).sigmoid()
        return torch.cat([640 * self.a(x).sigmoid(), scores], -1)


class Offset(Frozen):
    def forward(self, x: Tensor) -> Tensor:
        return 1000 + 0.3 * self.a(x.float()).tanh() * self.largest(x)


class Faint(Frozen):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * self.largest(x) * 5e-6


class Flagged(Frozen):
    def forward(self, x: Tensor, flag: Tensor) -> Tensor:
        y = self.a(x)
        if flag:
            y = y * 2
        return y + 0.1 * flag.float()


class RandomColumn(Frozen):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([1e6 * self.a(x), functional.dropout(self.b(x))], 1)


class MonteCarlo(Frozen):
    """Drops in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> MonteCarlo:
        super().train(mode)
        self.drop.train()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.drop(x))


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x).clamp(0, 1) * 255).round().to(torch.uint8)


class Residual(nn.Module):
    """2×3 → 2×3; what its layers compute is a thousandth of what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.second = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-3 * self.second(self.first(x).relu())


class Steady(nn.Module):
    """Damage to what it adds is lost in what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * 1e6 + 1e-9 * self.a(x).sum()
