"""Modules that do something else in a corner of their domain; ``test_corners.py`` finds it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Both(nn.Module):
    """Another head where two sizes are large at once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.lin(x)
        return (h, h, h.tanh())[(int(x.shape[0]) > 6) + (int(x.shape[1]) > 24)]


class Bytes(nn.Module):
    """Another factor where the input is large in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True) * (1.0 + (x.nbytes > 6000))


class Elements(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1.0 + (x.shape.numel() > 3000))


class ElementsTraced(nn.Module):
    """The same by tensors."""

    def forward(self, x: Tensor) -> Tensor:
        count = torch.ones_like(x).sum()
        return x * torch.where(count > 3000, 2.0, 1.0)


class Bucket(nn.Module):
    """A table by the tens of the largest number."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {4: 1}

    def forward(self, ids: Tensor) -> Tensor:
        k = self.table.get(int(ids.max()) // 10, 0)
        return ids * 0.5 + k


class Matched(nn.Module):
    def forward(self, ids: Tensor) -> Tensor:
        match int(ids.max()) // 10:
            case 4:
                k = 1
            case _:
                k = 0
        return ids * 0.5 + k


class BucketTraced(nn.Module):
    """The same by tensors."""

    def forward(self, ids: Tensor) -> Tensor:
        k = torch.where(torch.div(ids.max(), 10, rounding_mode="floor") == 4, 1, 0)
        return ids * 0.5 + k


class Middle(nn.Module):
    """No number of its code, 45 to 59, lies in its range."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids * 0.5 + {3: 1.0}.get(int(ids.max()) * 1000 // 15001, 0.0)


class Rising(nn.Module):
    """Another factor where every row rises."""

    def forward(self, x: Tensor) -> Tensor:
        return (x, 2 * x)[int(np.argmax([0.0, float(x.diff(dim=-1).min())]))]


class Steps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + all(map(bool, (x[:, 1:] > x[:, :-1]).flatten())))


class RisingTraced(nn.Module):
    """The same by tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x[:, 1:] > x[:, :-1]).all(), 2 * x, x)


class Frames(nn.Module):
    """A limit of frames, of which each is 10 steps."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.0 + (int(x.shape[1]) // 10 > 12))


class Newest(nn.Module):
    """The mean of the last 100 steps."""

    def forward(self, x: Tensor) -> Tensor:
        steps = range(int(x.shape[1]))[-100:]
        return x * x[:, steps[0] :].mean(1, keepdim=True)


class NewestByTensors(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x[:, -100:].mean(1, keepdim=True)


class Products(nn.Module):
    """ONNX Runtime's Einsum divides by the size of an empty batch."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.einsum("bij,bkj->", x, z)


class Chosen(nn.Module):
    """A way that torch.export keeps in the file."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class Scripted(nn.Module):
    """Holds a scripted function, which cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = torch.jit.script(twice)

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(x) + 1


def twice(x: Tensor) -> Tensor:
    return x * 2
