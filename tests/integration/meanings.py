"""Models whose inputs have a meaning, and functions that tests name as ``_target_``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class MaskedMean(nn.Module):
    """x 2×6×3, mask 2×6 → 2×4: mean over what the mask keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        m = mask.to(x.dtype)[..., None]
        y: Tensor = self.head((x * m).sum(1) / m.sum(1))
        return y


class FirstKept(MaskedMean):
    """Takes the last position: right where the padding is on the left, frozen to it by a branch."""

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        if bool(mask[:, -1].all()):  # here
            return self.head(x[:, -1]) * mask.sum(1, keepdim=True)
        return self.head(x[:, 0]) * mask.sum(1, keepdim=True)


class MaskedByLength(nn.Module):
    """x B×T×3, lengths B → B×3."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if int(lengths.max()) > x.shape[1] or int(lengths.min()) < 1:
            raise ValueError(f"lengths {lengths.tolist()} of {x.shape[1]} steps")
        m = (torch.arange(x.shape[1])[None] < lengths[:, None]).float()[..., None]
        return (x * m).sum(1) / m.sum(1)


class Sorted(nn.Module):
    """Where one would be inserted into ascending numbers, beside the numbers."""

    def forward(self, t: Tensor) -> Tensor:
        if bool((t[..., 1:] < t[..., :-1]).any()):
            raise ValueError("not in order")
        return torch.cumsum(t, -1) * 0.1


class Classes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(5, 3, bias=False)

    def forward(self, c: Tensor) -> Tensor:
        if not bool((c.sum(-1) == 1).all()):
            raise ValueError("not one-hot")
        y: Tensor = self.table(c.float())
        return y


class Entropy(nn.Module):
    def forward(self, p: Tensor) -> Tensor:
        if not bool((p > 0).all()) or float((p.sum(-1) - 1).abs().max()) > 1e-3:
            raise ValueError("no probabilities")
        return -(p * p.log()).sum(-1)


class Columns(nn.Module):
    """Age, income and a share: each within its own bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, f: Tensor) -> Tensor:
        low, high = torch.tensor([18.0, 0.0, 0.0]), torch.tensor([99.0, 2e5, 1.0])
        if not bool(((f >= low) & (f < high)).all()):
            raise ValueError("out of bounds")
        y: Tensor = self.head(f / high)
        return y


class Flatten(nn.Module):
    """x B×T×3 → B×4: mean over T."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(x.mean(1))
        return y


class Choosy(Flatten):
    def forward(self, x: Tensor) -> Tensor:
        if bool((x > 50).any()):
            raise ValueError("too bright")
        return super().forward(x)


class Bright(Flatten):
    """Has a branch that no drawn value reaches, and real samples do."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if float(x[..., 0].mean()) > 700 and float(x[..., 1].mean()) < -700:  # here
            y = y * 2
        return y


def samples(count: int = 3, size: int = 6, scale: float = 1.0) -> Iterator[dict[str, Any]]:
    """Of ``Flatten``, with a label for the metric."""
    for number in range(count):
        generator = np.random.default_rng(number)
        x = scale * generator.standard_normal((2, size + number, 3)).astype(np.float32)
        yield {"x": torch.from_numpy(x), "label": np.int64(number)}


def pairs() -> list[Any]:
    return [(1, 2)]


def nothing() -> list[Any]:
    return []


def agreement(samples: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> float:
    """A share of samples whose label was given, and whose outputs have a name."""
    assert all(set(sample) == {"x", "label"} for sample in samples)
    return float(np.mean([np.isfinite(found["y"]).all() for found in outputs]))


class Score:
    """Falls with each call: the file's comes second."""

    calls = 0


def falling(samples: list[Any], outputs: list[Any], by: float = 0.5) -> float:
    Score.calls += 1
    return 1.0 - by * (1 - Score.calls % 2)


def broken(samples: list[Any], outputs: list[Any]) -> float:
    raise KeyError("label")


def endless(samples: list[Any], outputs: list[Any]) -> float:
    return float("nan")


def near(samples: Any, outputs: Any, within: float) -> float:
    """The share of elements that are as near to the label as that share of its largest one."""
    found = [
        np.abs(out["y"] - sample["label"]) <= within * np.abs(sample["label"]).max()
        for sample, out in zip(samples, outputs, strict=True)
    ]
    return float(np.mean(found))
