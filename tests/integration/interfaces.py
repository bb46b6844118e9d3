"""Models whose interface is easy to declare wrongly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Grown(nn.Module):
    """1×2×6×6 → 1×2×12×12, whatever the height and width."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=float(self.factor))


class Halved(nn.Module):
    """Behind a stride of 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Joined(nn.Module):
    """Two inputs of a batch, laid side by side; then the first with one column more."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([x, y], 1), F.pad(x, (0, 1)) + 1


class Chosen(nn.Module):
    """A row of ``x``, by a number without axes."""

    def forward(self, x: Tensor, i: Tensor) -> Tensor:
        return torch.index_select(x, 0, i) if i.dim() else x[i]


class _Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(x.unbind())


def rows() -> torch.jit.ScriptModule:
    """For the two axes of its output the exporter declares three."""
    scripted: torch.jit.ScriptModule = torch.jit.script(_Rows())
    return scripted


class Squeezed(nn.Module):
    """A number for each row, or what ``squeeze`` makes of it along some axis or all."""

    def __init__(self, axis: int | None = None, width: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.linear = nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y.squeeze() if self.axis is None else y.squeeze(self.axis)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        y: Tensor = self.linear(x) * scale
        return y


class Negative(nn.Module):
    """Real numbers with PyTorch's lazy negative bit, or the same without it."""

    def __init__(self, resolved: bool = False) -> None:
        super().__init__()
        self.resolved = resolved

    def forward(self, x: Tensor) -> Tensor:
        y = torch.view_as_complex(x).conj().imag
        return y.resolve_neg() if self.resolved else y


class FreezesFlags(Scaled):
    """Does what ``torch.testing._internal`` does to whoever imports it."""

    def __init__(self) -> None:
        super().__init__()
        torch.backends.disable_global_flags()
