"""Modules whose code goes several ways; ``test_exploration.py`` watches which."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 37


class Configured(nn.Module):
    """All conditions are fixed by the configuration."""

    def __init__(self, add: bool = True) -> None:
        super().__init__()
        self.add = add
        self.lin = nn.Linear(4, 4)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        y: Tensor = self.lin(x)
        if self.add:
            y = y + 1
        if scale is not None:
            y = y * scale
        for number in range(3):
            if number > 10:
                y = y * 2
        if x.dim() == 5:
            y = y.flatten()
        if x.shape[0] > 10_000_000:
            raise ValueError("too many")
        return y


class BehindStride(nn.Module):
    """The limit is no size of the input: 29 steps of 4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(3, 4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x)
        return h[..., :29].sum(-1) if h.shape[-1] > 29 else 2 * h.sum(-1)


class Builtin(nn.Module):
    """A limit without a branch in Python, by a global name."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : min(x.shape[1], LIMIT)].cumsum(1)


class Attribute(nn.Module):
    """A limit that is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 45

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.longest:
            return x.cumsum(1) * 0.5
        return x.cumsum(1)


class Table(nn.Module):
    """Beyond the end of its table positions repeat."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.position = nn.Parameter(torch.randn(23, 4))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1]
        table = self.position
        if size > len(table):
            table = table.repeat(size // len(table) + 1, 1)
        return x + table[:size]


class Number(nn.Module):
    """``int(tensor)``: no condition in the code, a number in a trace."""

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return x.roll(int(shift), 1) + shift


class BothFlags(nn.Module):
    """Two numbers that go into no condition; what they do shows only together."""

    def forward(self, x: Tensor) -> Tensor:
        first = x[0, 0].item() > 50
        last = x[-1, -1].item() < -50
        return x * (1 + first * last)


class BothSizes(nn.Module):
    """As ``BothFlags``, of two sizes."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = int(x.shape[1]), int(x.shape[2])
        return x * (1.0 + ((height % 19 == 3) & (width % 17 == 2)))


class FixedWidth(nn.Module):
    """A number of an axis that is no other one at any size."""

    def forward(self, x: Tensor) -> Tensor:
        width = int(x.shape[2])
        return x / width**0.5


class Scaled(torch.autograd.Function):
    """Its numbers are Python's, and the graph holds what ``symbolic`` writes."""

    @staticmethod
    def forward(ctx: object, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor.item()

    @staticmethod
    def symbolic(g: Any, x: torch.Value, factor: torch.Value) -> Any:
        return g.op("Mul", x, factor)


class OwnSymbolic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Scaled.apply(x, x.abs().max() + 1)
        return y


class Product(nn.Module):
    """int64 in PyTorch whatever the input is; int32 in a file that sums before it casts."""

    def forward(self, x: Tensor) -> Tensor:
        return x.prod(1)


class Outliers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if (x.abs() > 55).any():
            x = x.clamp(-55, 55)
        return 2 * x


class Padding(nn.Module):
    """A short cut where nothing is padded."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        if bool(keep.all()):
            return x[:, 1:].mean(1)
        weight = keep.to(x.dtype)[..., None]
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


class PaddingTraced(nn.Module):
    """The same by tensors."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        weight = keep.to(x.dtype)[..., None]
        some = (x * weight).sum(1) / weight.sum(1).clamp(min=1)
        return torch.where(keep.all(), x[:, 1:].mean(1), some)


class Cache(nn.Module):
    """What a longer call leaves in the buffer is in the sum of a shorter one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(2, 16, 4))

    def forward(self, x: Tensor) -> Tensor:
        cache: Any = self.cache
        cache[:, : x.shape[1]] = x
        total: Tensor = cache.sum(1)
        return total


class Order(nn.Module):
    """Equal elements have no order."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, places = x.topk(5, -1)
        return values, places


class Spread(nn.Module):
    """Of equal elements it is made of rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-9)


class Anchors(nn.Module):
    """One output never changes, one is empty."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return 2 * x, torch.arange(x.shape[0], dtype=torch.float32), x[:0]


class Saturating(nn.Module):
    """Where its inputs are large, the scores that it ranks are equal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lin(x)
        return h[torch.sigmoid(h[:, 0]).topk(5).indices]


class Settings(nn.Module):
    """A limit in an object of settings, by a builtin: no condition shows."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = SimpleNamespace(nested={"window": 150})

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -min(x.shape[1], self.settings.nested["window"]) :].mean(1)


class Peak(nn.Module):
    """Scales by its largest value, and never by less than a peak out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = (3.0e8,)

    def forward(self, x: Tensor) -> Tensor:
        return x / max(float(x.abs().max()), self.peak[0]) * 1e8


class Missing(nn.Module):
    """Looks for missing values after a maximum, which ONNX Runtime's drops."""

    def forward(self, x: Tensor) -> Tensor:
        most = x.amax(1)
        return torch.where(torch.isnan(most), torch.full_like(most, -7.0), most)


class Centers(nn.Module):
    """The peaks of a heat map, as CenterNet takes them: saturated scores stand close together."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heat = (2 * self.conv(x)).sigmoid()
        heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat)
        scores, places = heat.flatten(1).topk(10)
        return scores, places // x.shape[3]


class Keyed(nn.Module):
    """A table by a size: its keys are the limits."""

    def forward(self, x: Tensor) -> Tensor:
        return x * {24: 2.0, 50: 3.0}.get(x.shape[1], 1.0)


class Named(nn.Module):
    """Of another head for one size, only the name of an attribute speaks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 4)
        self.head_48 = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        head: nn.Module = getattr(self, f"head_{x.shape[1]}", self.head)
        y: Tensor = head(x)
        return y


class Resolutions(nn.Module):
    """A table by two sizes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = {"8x8": 1.0, "20x30": 3.0}

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        return x * self.gains.get(f"{h}x{w}", 1.0)


def _chunked(size: int) -> Any:
    def parts(x: Tensor) -> list[Tensor]:
        return [x[:, start : start + size] for start in range(0, x.shape[1], size)]

    return parts


class Closure(nn.Module):
    """The length of a chunk is a variable of an enclosing function."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = _chunked(65)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part.cumsum(1) for part in self.parts(x)], 1)


class Computed(nn.Module):
    """No code holds the length of a chunk, 133 and 192: it is computed."""

    def __init__(self, split: bool, rows: int = 7, columns: int = 19) -> None:
        super().__init__()
        self.split, self.rows, self.columns = split, rows, columns

    def forward(self, x: Tensor) -> Tensor:
        if self.split:
            parts = list(x.split(self.rows * self.columns, 1))
        else:
            size = (self.rows - 4) << 6
            parts = [x[:, start : start + size] for start in range(0, x.shape[1], size)]
        return torch.stack([part.sum(1) for part in parts]).cumsum(0)[-1] * len(parts)


class Quiet(nn.Module):
    """Other steps for small values; at zeros both give the same."""

    def __init__(self, rows: int = 20, bound: float = 1.0) -> None:
        super().__init__()
        self.rows, self.bound = rows, bound

    def forward(self, x: Tensor) -> Tensor:
        return 8 * x if x.abs().max() < self.bound / self.rows else x


class Silent(nn.Module):
    """What only zeros reach is not told apart by them."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * x if x.abs().max() < 1e-9 else x


class Trimmed(nn.Module):
    """PyTorch refuses lengths beyond the size, and the trace keeps the longest."""

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        longest = int(lens.max())
        steps = torch.arange(longest)[None] < lens[:, None]
        return (x[:, :longest] * steps[..., None]).sum(1)


class Pooled(nn.Module):
    """torchvision's kernel ends the process where the image is empty."""

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        from torchvision.ops import roi_align

        rows = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
        found: Tensor = roi_align(x, rows, (2, 2), sampling_ratio=2, aligned=True)
        return found


class Mean(nn.Module):
    """To one pixel, whose coordinate is half of the size: it rounds by as much more."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(1, 1), mode="bilinear", align_corners=False)


class Mixed(nn.Module):
    """The last result is mixed into the next one of the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        last, self.last = self.last, x.detach().clone()
        return x if last is None or last.shape != x.shape else (x + last) / 2


class Rows(nn.Module):
    """Another number beyond the last of three rows, which only a handler of exceptions tells."""

    rows = (0.5, 0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        try:
            row = self.rows[x.shape[1] // 16]
        except IndexError:
            row = -1.0
        return x + row


class Vocabulary(nn.Module):
    """A branch of torch's own module: whether all tokens are frequent ones."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.AdaptiveLogSoftmaxWithLoss(8, 400, [390])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head.predict(x)
        return found


class Normalised(nn.Module):
    """A comparison that a trace does not warn of, and that is a number, no condition."""

    def forward(self, x: Tensor) -> Tensor:
        ready = torch.allclose(x.sum(-1), torch.ones_like(x.sum(-1)), atol=1e-4)
        return (x.softmax(-1), 2 * x)[int(ready)]


class Remeasured(nn.Module):
    """A loop that turns until nothing changes; it went both ways in each call."""

    def forward(self, seed: Tensor, mask: Tensor) -> Tensor:
        y = torch.minimum(seed, mask)
        while True:
            grown = torch.minimum(F.max_pool1d(y, 3, 1, 1), mask)
            if torch.equal(grown, y):
                return y
            y = grown


class Experts(nn.Module):
    """The last of three experts is so rare that each case skips it."""

    def __init__(self) -> None:
        super().__init__()
        self.route = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        with torch.no_grad():
            self.route.bias.copy_(torch.tensor([0.0, 0.0, -1e5]))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.route(x).argmax(-1)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == number)
            if rows.numel() == 0:
                continue
            y = y.index_add(0, rows, expert(x[rows]))
        return y


class Matched(nn.Module):
    """A case of a ``match`` on a number that the trace has frozen on the line before."""

    def forward(self, ids: Tensor) -> Tensor:
        largest = int(ids.max())
        match largest % 9973:
            case 4242:
                k = 3
            case _:
                k = 1
        return ids.float() * k


class Negated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = 3 * x
        if not x.sum() > x.numel() * 3e6:
            y = y.tanh()
        return y


class Averages(nn.Module):
    """ONNX Runtime keeps the axis of a mean over nothing; the file is right."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(-1), x.square().sum()


class Elements(nn.Module):
    """A condition whose first name begins as ``elif`` does, and one that mixes rank and size."""

    def forward(self, x: Tensor) -> Tensor:
        elements = x.abs().sum()
        if elements > 1e30:
            x = -x
        if x.dim() + x.shape[0] > 4_000:
            x = x + 1
        return x
