"""Models that name their precision, in each form that a source can have, and a list of boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class NamesFloat32(nn.Module):
    """2×8 → 2×8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 64)
        self.second = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.to(torch.float32)).tanh()
        y = y + torch.zeros(64, dtype=torch.float32) + torch.tensor([0.25])
        return self.second(y).float()


class TakesAnotherWay(NamesFloat32):
    """In any other precision than float32."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return x * 2
        return super().forward(x)


class Names(nn.Module):
    """As ``NamesFloat32``, of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.layers = NamesFloat32()

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.layers(self.table(ids))
        return y


class Recurrent(nn.Module):
    """An operator for float32 only, on this processor; (60×2×8) → (60×2×16)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LSTM(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)[0]
        return y


class Edge(nn.Module):
    """Ten boxes, of which the first and the last overlap and score the same but for rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(32, 1)
        corner = torch.arange(9.0)[:, None] * 20
        boxes = torch.cat([corner, corner, corner + 10, corner + 10], 1)
        self.register_buffer("places", torch.cat([boxes, boxes[:1] + 1]))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        from torchvision.ops import nms

        features = torch.cat([x, x[:1].flip(-1)])
        weight = self.score.weight
        scores = (features * weight).sum(-1).sigmoid()
        last = (features[-1:] * weight.flip(-1)).sum(-1).sigmoid()
        scores = torch.cat([scores[:-1], last])
        kept = nms(self.places, scores, 0.3)
        return {"boxes": self.places[kept], "scores": scores[kept]}


class Dense(nn.Module):
    """A box for each of a hundred cells; a trace freezes how far three of them are moved."""

    ranked = False

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        boxes, scores = x[:, :4] + torch.arange(len(x))[:, None], x[:, 4].sigmoid()
        boxes = torch.cat([boxes[:3] + float(10 * x.abs().max()), boxes[3:]])
        if self.ranked:
            scores, order = scores.sort(descending=True)
            boxes = boxes[order]
        return {"boxes": boxes, "scores": scores}


class Ranked(Dense):
    ranked = True


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)).half()


def scripted() -> Any:
    return torch.jit.script(NamesFloat32())


def exported() -> Any:
    return torch.export.export(NamesFloat32().eval(), (torch.ones(2, 8),))


@torch.jit.script
def function(x: Tensor) -> Tensor:
    y = x.to(torch.float32)
    for _ in range(4):
        y = torch.softmax(y @ y.t(), 1) @ y + torch.sin(3.0 * y)
    return y
