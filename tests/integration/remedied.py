"""Models whose failure something beyond them would cure, and those where nothing would."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Chunks(nn.Module):
    """Split gets an attribute at opset 18, which dynamo leaves in the file for opset 17."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return first * second.sigmoid()


class Deformed(nn.Module):
    """An operator that ONNX has from opset 19 on."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d

        return deform_conv2d(x, offset, self.weight, padding=1)


class Ramp(nn.Module):
    """linspace is exported with a division by the number of steps less one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.linspace(-1, 1, x.shape[0])[:, None]


class TooShortRamp(nn.Module):
    """A number of steps that a small size makes negative, beside an input of whole numbers."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids * torch.linspace(-1, 1, ids.shape[0] - 2)


class Fifth(nn.Module):
    """A position that the axis does not have, and no value of the input."""

    def forward(self, ids: Tensor) -> Tensor:
        return ids[:, 50].float()


class Waiting(nn.Module):
    """A loop that the sampled inputs never enter."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.ones(3)
        turns = 0
        while bool(x.sum() > 1000.0) and turns < 5:
            y = y + x[0]
            turns += 1
        return y


def waiting() -> torch.jit.ScriptModule:
    return torch.jit.script(Waiting())


class EncoderPool(nn.Module):
    """Mean over all positions, padded ones too, as many classifiers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        pooled: Tensor = self.head(self.encoder(x, src_key_padding_mask=pad).mean(1))
        return pooled


class SingularValues(nn.Module):
    """No exporter has it, nor has ONNX."""

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.svd(x).S
        return values


def _entropy(g: Any, x: Any) -> Any:
    return g.op("Neg", g.op("Mul", x, g.op("Log", x)))


torch.onnx.register_custom_op_symbolic("aten::special_entr", _entropy, 17)


class Entropy(nn.Module):
    """The TorchScript exporter does not have it, and the lines above register it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.entr(x)


class Table(nn.Module):
    """Whole numbers, and floats that fit what the table holds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        y: Tensor = self.table(ids) * scale
        return y
