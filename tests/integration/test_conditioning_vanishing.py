"""Random weights that are drawn next to zero are redrawn: a lost bias must show in the output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from converter.worker.reference.conditioning import condition

pytestmark = pytest.mark.integration


class Tokens(nn.Module):
    """As vision transformers start: biases and the class token of standard deviation 1e-6."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, 8))
        self.place = nn.Parameter(torch.empty(1, 5, 8))
        self.inner, self.last = nn.Linear(8, 16), nn.Linear(16, 8)
        nn.init.normal_(self.place, std=0.02)
        for parameter in (self.token, self.inner.bias, self.last.bias):
            nn.init.normal_(parameter, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(torch.cat([self.token, x], 1) + self.place).relu())


@pytest.mark.parametrize("name", ["token", "inner.bias", "last.bias"])
def test_a_vanishing_parameter_gets_a_scale_that_shows(name: str) -> None:
    torch.manual_seed(0)
    model, x = Tokens(), torch.randn(1, 4, 8)
    place = model.place.detach().clone()
    condition(model, lambda: model(x), 0)
    assert torch.equal(model.place, place), "a table that was drawn with a scale keeps it"
    with torch.no_grad():
        right = model(x)
        model.get_parameter(name).zero_()
        moved = model(x) - right
    assert float(moved.norm() / right.norm()) > 1e-2


class Deep(nn.Module):
    """As MobileViT of transformers starts: scales of batch normalisations drawn as matrices are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for _ in range(12):
            norm = nn.BatchNorm2d(8)
            nn.init.normal_(norm.weight, std=0.02)
            self.layers.extend([nn.Conv2d(8, 8, 1, bias=False), norm, nn.SiLU()])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_a_normalisation_that_is_drawn_around_zero_lets_the_input_through() -> None:
    torch.manual_seed(0)
    model, x = Deep().eval(), torch.randn(1, 8, 4, 4)
    condition(model, lambda: model(x), 0)
    with torch.no_grad():
        one, other = model(x), model(torch.randn(1, 8, 4, 4))
    assert float((one - other).norm() / one.norm()) > 0.1
