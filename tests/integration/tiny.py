"""Models of a few parameters, each with one property that a conversion must get right."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """2×3 → 2×4; two dense layers, so that there is something to fold and to fuse."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Any:
        return self.second(torch.relu(self.first(x)))


class Conv(nn.Module):
    """2×3×8×8 → 2×6×4×4: convolution, batch normalisation, weights over 1 KiB."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 6, 3, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


class Two(nn.Module):
    """Two inputs, a nested result with a ``None`` in it."""

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        return {"sum": x + y, "rest": (None, [x - 2 * y])}


# What goes wrong in forward


class Raises(Net):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such head")


class Text(Net):
    def forward(self, x: Tensor) -> str:
        return "a cat"


class Nothing(Net):
    def forward(self, x: Tensor) -> None:
        return None


class NotANumber(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.log(-super().forward(x).abs() - 1)
        return y


class Constant(Net):
    """Deaf to its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0 + 3


class Deaf(Net):
    """Values vary over the output, but not with the input."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(torch.ones_like(x)) + 1e-9 * x.sum()
        return y


class Faint(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x) * 1e-12
        return y


class Empty(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)[:0]
        return y


class Random(Net):
    """Dropout that forgot ``training=self.training``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x))


# What exporters do in silence


class NoOnnxForm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Newer(nn.Module):
    """``grid_sample`` needs opset 16."""

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.stack([x[..., 0], x[..., 1]], -1)[:, None]
        return F.grid_sample(x[:, None], grid, align_corners=False)


class Item(nn.Module):
    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor.item()


class Branch(nn.Module):
    """Tracing keeps the side that the example takes."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Loop(nn.Module):
    """Tracing unrolls the batch."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x[0])
        for row in range(x.shape[0]):
            total = total + x[row] * (row + 1)
        return total


class FixedShape(nn.Module):
    """Tracing bakes the batch into an expand."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(int(x.shape[0]), 1)


class Summary(nn.Module):
    """One row, whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x).mean(0, keepdim=True)
        return y


class Pairs(nn.Module):
    """Takes even batches only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2, x.shape[1]).sum(1)


class OnlyTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != 2:
            raise ValueError("a batch of two is needed")
        return x * 2


class Unused(nn.Module):
    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * 2


class Mutating(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x.mul_(2))
        return y


class Tallying(Net):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = super().forward(x)
        return y


class Counting(Tallying):
    """And computes with the count."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.calls


class Clipped(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y.clip(-0.05, 0.05) if torch.onnx.is_in_onnx_export() else y


class Dropping(nn.Module):
    """Batch normalisation and two dropouts of different ratios."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        first = [nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.25)]
        self.body = nn.Sequential(*first, nn.Linear(width, 4), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


class NormalisedOtherwise(nn.Module):
    """Batch normalisation without weights, and without statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, 12),
            nn.BatchNorm1d(12, affine=False),
            nn.Linear(12, 12),
            nn.BatchNorm1d(12, track_running_stats=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


class DroppingWide(Dropping):
    """More channels than the eight up to which ONNX Runtime merges equal initializers.

    It writes the statistics of a batch over what it has merged (1.31).
    """

    def __init__(self) -> None:
        super().__init__(12)


class PartlyFrozen(DroppingWide):
    """Another batch normalisation that stays in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm1d(4)

    def train(self, mode: bool = True) -> PartlyFrozen:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen(self.body(x))
        return y


class WideTwice(DroppingWide):
    """One dropout that is called at two places."""

    def forward(self, x: Tensor) -> Tensor:
        drop = self.body[2]
        y: Tensor = drop(self.body[3](drop(self.body[:2](x))))
        return y


class DroppingTwice(Dropping):
    """One dropout that is called at two places."""

    def forward(self, x: Tensor) -> Tensor:
        drop = self.body[2]
        y: Tensor = drop(self.body[3](drop(self.body[:2](x))))
        return y


class DroppingByFunction(Dropping):
    """Passes a module's ratio to the function."""

    def forward(self, x: Tensor) -> Tensor:
        drop = self.body[2]
        y = drop(self.body[:2](x))
        return nn.functional.dropout(self.body[3](y), drop.p, self.training)


class Vanishing(nn.Module):
    """As EfficientNet's: each layer takes most of the signal, and a zero scale hides a branch."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(8):
            conv = nn.Conv2d(6, 6, 3, padding=1)
            nn.init.normal_(conv.weight, std=1e-3)
            nn.init.zeros_(conv.bias)
            layers += [conv, nn.BatchNorm2d(6), nn.SiLU()]
        self.stem = nn.Conv2d(3, 6, 1)
        self.body = nn.Sequential(*layers)
        self.scale = nn.Parameter(torch.full((6, 1, 1), 1e-6))
        self.head = nn.Linear(6, 5)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y: Tensor = self.head((x + self.scale * self.body(x)).mean((2, 3)))
        return y


class Folding(Net):
    """Adds a constant that can be computed beforehand."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x) + torch.transpose(self.first.weight, 0, 1)[0, :4] * 2
        return y


class DroppingClipped(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.clip(-0.5, 0.5) if torch.onnx.is_in_onnx_export() else y


# Rounding


class Cancelling(Net):
    """Loses four digits."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return (y + 3000) - 3000


class OnlyFloat32(Net):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(3, 4, dtype=torch.float32)


class Ranks(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x).argsort(-1)
        return y


class RootMeanSquare(Net):
    """An operator that torch's TorchScript exporter lacks."""

    def __init__(self, eps: float | None = None) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(4, eps=eps)
        self.plain = nn.RMSNorm(4, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.plain(torch.tanh(self.norm(super().forward(x))))
        return y


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class NeverAbove(Net):
    """A threshold that no input reaches, beside an output that lives."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = super().forward(x)
        return y > 1e9, y


class Head(nn.Module):
    """Boxes in pixels and scores far below one, in one output."""

    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Conv1d(8, 4, 1)
        self.score = nn.Conv1d(8, 1, 1)
        nn.init.normal_(self.score.weight, std=0.3)
        nn.init.constant_(self.score.bias, -7.6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([640 * self.box(x).sigmoid(), self.score(x).sigmoid()], 1)


class HeatMap(nn.Module):
    """Classes by place, of which one hardly ever shows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 1)
        nn.init.normal_(self.conv.weight, std=0.3)
        nn.init.constant_(self.conv.bias, -4.6)
        with torch.no_grad():
            self.conv.bias[3] = -15.5

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).sigmoid()


class RandomBoxes(nn.Module):
    """Detections, some of which are lost at random."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.Linear(8, 4)
        self.scores = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Any:
        y = x[torch.rand(x.shape[0]) > 0.03]
        scores = self.scores(y).sigmoid()[:, 0]
        return self.boxes(y), scores, (scores > 0.5).long()


class Strided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 16, stride=16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class Named(nn.Module):
    """A result with keys."""

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"sum": x + y, "difference": x - 2 * y}


class Sparse(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to_sparse()


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 4)

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.table(ids)
        return y


class TwoOrFour(Net):
    """Takes two batch sizes."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] not in (2, 4):
            raise ValueError("a batch of two or four")
        y: Tensor = super().forward(x)
        return y


class Masked(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).masked_fill(x[:, :1] > 0, float("-inf"))


class Anchors(Net):
    """An output that is the same for each input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), self.first.weight * 2


class Found(nn.Module):
    """As many rows as are above zero, and those by their places."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x[x[:, 0] > 0] * 2, torch.nonzero(x > 0), x.exp()


# Dtypes that a file, or ONNX Runtime, has no arithmetic for


class Spectrum(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(super().forward(x))


class SpectrumPairs(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.fft(super().forward(x)))


class BrainInside(Net):
    """Weights of bfloat16, inputs and outputs of float32."""

    def __init__(self) -> None:
        super().__init__()
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(torch.bfloat16)).float()


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


class Picking(nn.Module):
    """Whole numbers in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order] * 2


class MovedFactor(nn.Module):
    """ONNX Runtime moves the factor of 1e-20 behind the product, which is infinite without it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.linspace(1e15, 2e15, 12).reshape(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        large = torch.relu(torch.relu(x) * 1e25)
        return torch.tanh((large * 1e-20) @ self.weight * 1e-21) + 1


class FoldedFactor(nn.Module):
    """OpenVINO folds the last factor into the weights, which are infinite then."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.linspace(3e30, 6e30, 12).reshape(3, 4))
        self.register_buffer("factor", torch.tensor([1.2e8, 1.3e8, 1.1e8, 1e8]))

    def forward(self, x: Tensor) -> Tensor:
        small = torch.relu(torch.relu(x) * 2e-38 - 1e-39)
        return (small @ self.weight) * self.factor - 14


class Squared(nn.Module):
    """A square that float16 cannot hold."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x) + 300
        return torch.sqrt((y * y).mean(-1, keepdim=True)) * 0.01 + x


class Variance(nn.Module):
    """A variance as the difference of two large numbers."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x) + 20
        return ((y * y).mean(-1, keepdim=True) - y.mean(-1, keepdim=True) ** 2) + x * 0.1


class Vanished(nn.Module):
    """A square that float16 makes 0."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(x) * 1e-4
        return y / (y * y + 1e-8).sqrt() + x


class Scaled(nn.Module):
    """Smaller by a factor that float32 rounds to another size now and then."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=0.7, mode="bilinear")


class ScaledByModule(nn.Module):
    """Its size is computed in Python, so that no operator shows the factor."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=0.7, mode="bilinear", recompute_scale_factor=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class Tail(nn.Module):
    """The last part of a sequence, by a literal."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, -math.ceil(x.shape[2] * 0.55) :]
