"""Models of dtypes that NumPy, or ONNX, does not have: bfloat16, float8, complex numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Between(nn.Module):
    """Inputs and an output in a narrow dtype, arithmetic in float32."""

    def __init__(self, dtype: str = "bfloat16") -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 8)
        self.dtype = getattr(torch, dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.last(torch.relu(self.first(x.float())))
        return y.to(self.dtype), y


class Held(nn.Module):
    """Weights in bfloat16 that are cast where they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8).bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.float()


class Through(nn.Module):
    """All of it in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class Writes(nn.Module):
    """Writes into its input."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.float() * 2
        x.zero_()
        return y


class Rotated(nn.Module):
    """Complex numbers in and out, and what is made of them."""

    def forward(self, z: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {
            "size": z.abs() + x,
            "turned": z * torch.complex(x.cos(), x.sin()),
            "mirrored": z.conj(),
        }


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x)


class Short(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stft(x, 16, 8, window=self.window, return_complex=True)


class Back(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.fft.irfft(z)
