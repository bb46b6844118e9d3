"""Models whose files were wrong and `ok`, each with a sound twin beside it.

Written after public bug reports. Tests search the lines marked ``# here`` in messages.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Kind 1: slack for detections is not slack for damage.


class DetGrid(nn.Module):
    """100×5 → boxes 100×4, scores 100; cells before the image have negative numbers."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        cell = (torch.arange(x.shape[0]) - 4) // 3
        return {"boxes": x[:, :4] + cell[:, None].float(), "scores": x[:, 4].sigmoid()}


class DetGridSound(nn.Module):
    """The cells begin at zero: no exporter has a way of its own to divide these."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        cell = torch.arange(x.shape[0]) // 3
        return {"boxes": x[:, :4] + cell[:, None].float(), "scores": x[:, 4].sigmoid()}


class Pyramid(nn.Module):
    """1×3×32×32 → boxes 84×4, scores 84: a dense head on levels of 8, 4 and 2 cells a side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.heads = nn.ModuleList(nn.Conv2d(8, 5, 1) for _ in range(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, found = torch.relu(self.stem(x)), []
        for level, head in enumerate(self.heads):
            found.append(head(h).flatten(2)[0].t() * 2.0**level)
            h = F.avg_pool2d(h, 2)
        levels = torch.cat(found)
        return {"boxes": levels[:, :4], "scores": levels[:, 4].sigmoid()}


# Kind 2: values like those of users.


class EncoderPool(nn.Module):
    """Mean over all positions; the fast path of eager PyTorch zeroes those that are padded."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(x, src_key_padding_mask=pad).mean(1))
        return y


class EncoderPoolSound(EncoderPool):
    """Zeroes them itself, before and after the layers."""

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        keep = (~pad)[..., None].to(x.dtype)
        y: Tensor = self.head((self.encoder(x, src_key_padding_mask=pad) * keep).mean(1))
        return y


class Lengths(nn.Module):
    """Masked mean, with a short cut for full batches that skips the last frame."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if bool((lengths == x.shape[1]).all()):  # here
            return x[:, :-1].mean(1)
        m = (torch.arange(x.shape[1])[None] < lengths[:, None]).float()[..., None]
        return (x * m).sum(1) / m.sum(1)


class LengthsSound(nn.Module):
    """The short cut computes the same."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if bool((lengths == x.shape[1]).all()):
            return x.mean(1)
        m = (torch.arange(x.shape[1])[None] < lengths[:, None]).float()[..., None]
        return (x * m).sum(1) / m.sum(1)


class OutlierClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if (x.abs() > 6).any():  # here
            x = x.clamp(-6, 6)
        return x * 2


class OutlierClampSound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-6, 6) * 2


# Kind 3: sizes like those of users.


class PadTo32(nn.Module):
    """Pads to a multiple of 32 where that is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rest = x.shape[-1] % 32
        if rest:  # here
            x = F.pad(x, (0, 32 - rest))
        y: Tensor = self.conv(x)
        return y


class PadTo32Sound(PadTo32):
    """Pads by what may be nothing."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, (32 - x.shape[-1] % 32) % 32)))
        return y


class CausalIfEqual(nn.Module):
    """Causal when query and key have one length, as decoders with a cache are."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        s = q @ k.transpose(1, 2)
        if q.shape[1] == k.shape[1]:  # here
            n = q.shape[1]
            s = s.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -1e9)
        return torch.softmax(s, -1) @ k


class CausalSound(nn.Module):
    """Causal from the end of the keys, whatever the lengths."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        s = q @ k.transpose(1, 2)
        past = k.shape[1] - q.shape[1]
        seen = torch.arange(k.shape[1])[None] <= torch.arange(q.shape[1])[:, None] + past
        return torch.softmax(s.masked_fill(~seen, -1e9), -1) @ k


class PosEnc(nn.Module):
    """Positions for 32 steps; more are made when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.table = self.make(32)
        self.linear = nn.Linear(8, 8)

    @staticmethod
    def make(n: int) -> Tensor:
        p = torch.arange(n).float()[:, None]
        d = torch.exp(torch.arange(0, 8, 2).float() * (-math.log(10000.0) / 8))
        return torch.cat([torch.sin(p * d), torch.cos(p * d)], 1)

    def forward(self, x: Tensor) -> Tensor:
        table = self.table if x.shape[1] <= 32 else self.make(x.shape[1])  # here
        y: Tensor = self.linear(x + table[: x.shape[1]])
        return y


class PosEncSound(PosEnc):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x + self.make(x.shape[1]))
        return y


class Strided(nn.Module):
    """A stride of 4, as speech front ends have it, then a length that tracing freezes."""

    def __init__(self, how: str = "slice") -> None:
        super().__init__()
        self.conv, self.how = nn.Conv1d(4, 8, 4, 4), how
        self.table = nn.Parameter(torch.randn(256, 8))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).transpose(1, 2)
        if self.how == "sound":
            return h + self.table[: h.shape[1]]
        n = int(h.shape[1])
        if self.how == "slice":
            return h + self.table[:n]
        return torch.stack([h[:, i].cumsum(-1) for i in range(n)], 1)


# Kind 5: edges of numbers.


class LogSig(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.logsigmoid(self.linear(x))


class LogSigSound(LogSig):
    def forward(self, x: Tensor) -> Tensor:
        return -F.softplus(-self.linear(x))


class CosSim(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(a, b, dim=-1)


class CosSimSound(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1) / (1e-6 + a.norm(dim=-1) * b.norm(dim=-1))


class Voxel(nn.Module):
    def forward(self, p: Tensor) -> Tensor:
        return p // 0.1


class VoxelSound(nn.Module):
    """A cell of a quarter: division by it is exact."""

    def forward(self, p: Tensor) -> Tensor:
        return torch.floor(p * 4)


class BilinearScale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=1.3, mode="bilinear", align_corners=False)


class BilinearScaleSound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


# Kind 6: state.


class Cache(nn.Module):
    """Writes the front of a buffer and reads all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(2, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.cache[:, : x.shape[1]] = x
        y: Tensor = self.cache.sum(1)
        return y


class CacheSound(Cache):
    """Reads the buffer, and leaves it as it was."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.cat([self.cache, x], 1).sum(1)
        return y


# Kind 7: an interface must be what was declared.


class Pick(nn.Module):
    """``i`` is one number, of shape []."""

    def forward(self, x: Tensor, i: Tensor) -> Tensor:
        return torch.index_select(x, 0, i) if i.dim() else x[i]


class _Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(x.unbind())


def rows() -> Any:
    """Scripted: the exporter declares three axes for an output that has two."""
    return torch.jit.script(_Rows())


class _RowsSound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)


def rows_sound() -> Any:
    return torch.jit.script(_RowsSound())


class Twice(nn.Module):
    """Twice as high and wide as its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=2.0)


# Kind 8 and the rest.


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        y: Tensor = self.linear(x) * size
        return y


class NegativeBit(nn.Module):
    """A float32 tensor with PyTorch's lazy negative bit."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).conj().imag


class NegativeBitResolved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x).conj().imag.resolve_neg()
