"""The models of this zoo: anything that gives a ``torch.nn.Module``."""

from __future__ import annotations

from torch import Tensor, nn


class Tiny(nn.Module):
    """A small classifier. Images ``[batch, 3, height, width]`` give scores ``[batch, classes]``."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.head = nn.Linear(16, classes)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(image).flatten(1))
        return scores
