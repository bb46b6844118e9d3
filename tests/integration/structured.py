"""Models whose inputs and outputs are more than tensors, for ``test_trees.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class State(NamedTuple):
    h: Tensor
    c: Tensor


@dataclass
class Answer:
    logits: Tensor
    hidden: list[Tensor]


class Recurrent(nn.Module):
    """An LSTM that is given its state ``(h, c)`` and returns it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x, state):
        y, (h, c) = self.cell(x, state)
        return {"y": y, "state": (h, c)}


class Named(Recurrent):
    """The state is a named tuple."""

    def forward(self, x, state):
        y, (h, c) = self.cell(x, (state.h, state.c))
        return y, State(h, c)


class Listed(nn.Module):
    """A list of states, which it changes in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cells = nn.ModuleList(nn.GRUCell(4, 4) for _ in range(2))

    def forward(self, x: Tensor, states: list[Tensor]):
        for place, cell in enumerate(self.cells):
            x = states[place] = cell(x, states[place])
        return x, states


class Features(nn.Module):
    """A dictionary of features, as recommenders have it; a part of it is optional."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.dense = nn.Embedding(20, 4), nn.Linear(3, 4)

    def forward(self, features):
        both = self.table(features["sparse"]["ids"]).sum(1) + self.dense(features["dense"])
        return Answer(both, [both.tanh(), both.sigmoid()])


class Keywords(nn.Module):
    """The third argument is given without the second, and one by keyword only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)

    def forward(self, x, mask=None, bias=None, *, scale):
        y = self.linear(x) * scale
        y = y if mask is None else y * mask
        return y if bias is None else y + bias


class Scripted(nn.Module):
    """A script takes a list as a list and a tuple as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor], more: list[Tensor]) -> Tensor:
        y = self.linear(x) + state[0] * state[1]
        for one in more:
            y = y + one
        if bool(y.sum() > 0):
            y = y * 2
        return y


def scripted() -> torch.jit.ScriptModule:
    return torch.jit.script(Scripted())


def program() -> torch.export.ExportedProgram:
    """Its keywords were captured in another order than a configuration states them."""
    example = {"scale": torch.ones(2, 4), "bias": torch.ones(2, 4)}
    return torch.export.export(Keywords(), (torch.ones(2, 4),), example)


def features_program() -> torch.export.ExportedProgram:
    """Its mapping was captured in another order than a configuration states it."""

    class Difference(nn.Module):
        def forward(self, pair: dict[str, Tensor]) -> dict[str, object]:
            y = pair["a"] - 2 * pair["b"]
            return {"a": y, "pair": {"a": y + 1}, "out.pair.a": y + 2}

    return torch.export.export(Difference(), ({"b": torch.ones(2, 4), "a": torch.ones(2, 4)},))


class Typed(nn.Module):
    """A constant is a dtype, another one a device."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)

    def forward(self, x, dtype, device):
        assert isinstance(dtype, torch.dtype)
        assert isinstance(device, torch.device)
        return self.linear(x).to(device=device, dtype=dtype)


@dataclass
class Config:
    width: int
    dtype: torch.dtype = torch.float32


def built(config: Config) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, config.width, dtype=config.dtype)
