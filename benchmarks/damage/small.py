"""Small modules of the operators that damages need: one of each shape that models have."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """[b, t, 16] with a causal mask, layer norms and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[0], x.shape[1]
        q, k, v = (
            part.reshape(b, t, 4, 4).transpose(1, 2)
            for part in self.qkv(self.first(x)).chunk(3, -1)
        )
        s = q @ k.transpose(-1, -2) / 2
        s = s.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -1e9)
        x = x + self.out((s.softmax(-1) @ v).transpose(1, 2).reshape(b, t, 16))
        y: Tensor = x + self.mlp(self.second(x))
        return y


class DetectorHead(nn.Module):
    """Boxes clamped to the image, scores, and classes by their best logit."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 16, 3, 2, 1)
        self.box, self.cls = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu6(self.body(x))
        d = self.box(h).flatten(2).transpose(1, 2)
        wh = d[..., 2:].clamp(max=1.5).exp() * 4
        xy = d[..., :2] * 8 + 8
        boxes = torch.cat([xy - 0.5 * wh, xy + 0.5 * wh], -1).clamp(0, 16)
        best = self.cls(h).flatten(2).transpose(1, 2)
        return boxes, best.sigmoid(), best.amax(-1)


class Pooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.leaky_relu(self.c(x), 0.1), 3, 2, 1)
        h = F.avg_pool2d(h, 3, 1, 1)
        h = F.pad(h, (1, 1, 1, 1), mode="reflect")
        return torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)


class GatherSlice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb, self.lin = nn.Embedding(30, 12), nn.Linear(12, 12)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        h = self.emb(ids)
        first, rest = h[:, 0], h[:, 1:-1]
        odd = self.lin(h[:, ::2])[:, :, 2:8]
        return first + rest.mean(1), odd.cumsum(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.gru = nn.GRU(8, 5, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, (_, c) = self.lstm(x)
        y, _ = self.gru(h)
        return y, c[0]


class WhereMask(nn.Module):
    """A masked mean, and a rule by value."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.lin(x)
        m = mask.to(h.dtype)[..., None]
        h = torch.where(h > 0.5, h**2, h * 0.3)
        h = torch.where((h.abs() <= 4) | (h < -6), h, h.sign() * 4)
        return (h * m).sum(1) / (m.sum(1) + 1)


class Upscaler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(6, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        h = F.interpolate(F.elu(self.norm(self.c(x))), scale_factor=2.0, mode="nearest")
        y: Tensor = self.d(h) + F.interpolate(x, scale_factor=2.0, mode="bilinear")
        return y


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lin(x)
        if bool(x.sum() > 0):
            h = h * 2
        else:
            h = h - 1
        return h


def scripted() -> Any:
    return torch.jit.script(Branching())


class Geometry(nn.Module):
    """Norms, ratios, powers: constants in the middle of a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Linear(8, 8)

    def forward(self, p: Tensor) -> tuple[Tensor, Tensor]:
        h = self.square(p)
        norm = (h**2).sum(-1, keepdim=True).sqrt()
        unit = h / (norm + 1e-3)
        return unit * 1.5 + 0.25, torch.minimum(norm, torch.full_like(norm, 2.5))


MODELS: dict[str, dict[str, Any]] = {
    "transformer_block": {
        "name": "TransformerBlock", "inputs": {"x": {"shape": [2, 6, 16]}},
        "axes": {"x": {0: "b", 1: "t"}, "out0": {0: "b", 1: "t"}}, "outputs": 1,
    },
    "detector_head": {
        "name": "DetectorHead", "inputs": {"x": {"shape": [1, 3, 16, 16]}}, "axes": {},
        "outputs": 3,
    },
    "pooling": {
        "name": "Pooling", "inputs": {"x": {"shape": [2, 3, 13, 16]}},
        "axes": {"x": {2: "h", 3: "w"}}, "outputs": 1,
    },
    "gather_slice": {
        "name": "GatherSlice",
        "inputs": {"ids": {"shape": [2, 9], "dtype": "int64", "low": 0, "high": 30}},
        "axes": {"ids": {1: "t"}, "out1": {1: "u"}}, "outputs": 2,
    },
    "recurrent": {
        "name": "Recurrent", "inputs": {"x": {"shape": [2, 7, 6]}}, "axes": {}, "outputs": 2,
    },
    "where_mask": {
        "name": "WhereMask",
        "inputs": {"x": {"shape": [2, 8, 6]}, "mask": {"shape": [2, 8], "dtype": "bool"}},
        "axes": {"x": {0: "b"}, "mask": {0: "b"}, "out0": {0: "b"}}, "outputs": 1,
    },
    "upscaler": {
        "name": "Upscaler", "inputs": {"x": {"shape": [1, 3, 9, 12]}},
        "axes": {"x": {2: "h", 3: "w"}, "out0": {2: "oh", 3: "ow"}}, "outputs": 1,
    },
    "branching": {
        "name": "scripted", "inputs": {"x": {"shape": [3, 4]}}, "axes": {}, "outputs": 1,
    },
    "geometry": {
        "name": "Geometry", "inputs": {"p": {"shape": [5, 8]}},
        "axes": {"p": {0: "n"}, "out0": {0: "n"}, "out1": {0: "n"}}, "outputs": 2,
    },
}  # fmt: skip


def entries(file: str) -> dict[str, Any]:
    """Their entries of ``models:``, from a copy of this file."""
    return {
        key: {
            "source": {"file": file, "name": model["name"]},
            "inputs": model["inputs"],
            "outputs": [f"out{n}" for n in range(model["outputs"])],
            "dynamic_axes": model["axes"],
        }
        for key, model in MODELS.items()
    }
