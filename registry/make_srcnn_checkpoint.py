"""Make ``data/srcnn_x3.pth``: ``python -m registry.make_srcnn_checkpoint``.

It stands in for the published SRCNN checkpoint, in the same form. The filters keep the
picture (each is mostly the identity of one channel) and disturb it with seeded noise, so
that the output looks like an enlarged input and every weight matters to it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from registry.srcnn import SRCNN

PATH = Path(__file__).parent / "data" / "srcnn_x3.pth"


def state_dict() -> dict[str, torch.Tensor]:
    """SRCNN's tensors, a function of the seed alone."""
    generator = torch.Generator().manual_seed(3)
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in SRCNN(scale=3).state_dict().items():
        noise = torch.randn(parameter.shape, generator=generator)
        # Divided by the root of the fan-in: the noise adds half of the input's root mean square,
        # whatever the size of the filter.
        tensors[name] = noise * 0.5 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else noise
    for number in (1, 2, 3):
        weight, bias = tensors[f"conv{number}.weight"], tensors[f"conv{number}.bias"]
        middle = weight.shape[-1] // 2
        # The picture goes through channels 0 to 2 of every layer.
        for channel in range(3):
            weight[channel, channel, middle, middle] += 1.0
        # Images are 0…1: a bias drawn at a scale of 1 would drown them.
        bias *= 0.05
    return tensors


def main() -> None:
    PATH.parent.mkdir(exist_ok=True)
    tensors = {f"generator.{name}": tensor for name, tensor in state_dict().items()}
    torch.save({"meta": {"iter": 0}, "state_dict": tensors}, PATH)
    print(PATH, hashlib.sha256(PATH.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
