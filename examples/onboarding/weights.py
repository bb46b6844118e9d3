"""Weights for the oracle: from a hub's folder, or from the ONNX file itself.

An exporter keeps the names of most parameters. What it computes in advance it calls
`onnx::MatMul_927`: transposed matrices of linear layers, convolutions with the batch normalisation
behind them folded in. The numbers rise in the order in which the layers run, so that running the
model once says which layer is which. A wrong guess gives other outputs, and hides no wrong file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import Tensor, nn

NUMBERED = re.compile(r"(onnx::\w+|_v)_(\d+)$")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def from_folder(model: nn.Module, checkpoint: str, strip_prefix: str, ignore: list[str]) -> None:
    """Load the shards of a folder, as the entry in YAML says."""
    shards = sorted((Path(__file__).parent / checkpoint).glob("*.safetensors"))
    state = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    kept = {k: v for k, v in state.items() if not any(fnmatch(k, glob) for glob in ignore)}
    model.load_state_dict({k.removeprefix(strip_prefix): v for k, v in kept.items()})


def from_file(model: nn.Module, path: Path, run: Callable[[], object]) -> None:
    """Give a model the weights of its ONNX file."""
    stored = {
        one.name: torch.from_numpy(numpy_helper.to_array(one).copy())
        for one in onnx.load(path).graph.initializer
    }
    state = model.state_dict()
    named = {
        name: stored.pop(name).reshape(value.shape)
        for name, value in state.items()
        if name in stored and stored[name].numel() == value.numel()
    }
    model.load_state_dict(named, strict=False)
    unnamed = sorted(filter(NUMBERED.match, stored), key=_rank)
    waiting = [stored[name] for name in unnamed if stored[name].is_floating_point()]
    layers = list(_in_order(model, run))
    with torch.no_grad():
        for place, (name, layer) in enumerate(layers):
            behind = layers[place + 1][1] if place + 1 < len(layers) else None
            _fill(name, layer, behind, waiting, named)


def _rank(name: str) -> tuple[bool, int]:
    """The exporter's come first, then those of the simplifier (`_v_571`)."""
    return not name.startswith("onnx::"), int(name.rsplit("_", 1)[1])


def _in_order(model: nn.Module, run: Callable[[], object]) -> Iterator[tuple[str, nn.Module]]:
    """The layers that have tensors of their own, in the order of their first call."""
    seen: dict[str, nn.Module] = {}
    handles = [
        layer.register_forward_pre_hook(_noting(name, seen))
        for name, layer in model.named_modules()
        if layer._parameters or layer._buffers
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    yield from seen.items()


def _noting(name: str, seen: dict[str, nn.Module]) -> Callable[[nn.Module, object], None]:
    def note(layer: nn.Module, _: object) -> None:
        seen.setdefault(name, layer)

    return note


def _fill(
    name: str,
    layer: nn.Module,
    behind: nn.Module | None,
    waiting: list[Tensor],
    named: dict[str, Tensor],
) -> None:
    """Give a layer what the exporter took the name from."""
    if f"{name}.weight" in named:
        return
    if isinstance(layer, CONVOLUTIONS):
        layer.weight.copy_(_next(waiting, layer.weight.shape))
        if hasattr(behind, "running_var"):
            bias = _next(waiting, behind.bias.shape)
            if layer.bias is not None:
                layer.bias.zero_()
            behind.running_mean.zero_()
            behind.running_var.fill_(1.0 - behind.eps)
            behind.weight.fill_(1.0)
            behind.bias.copy_(bias)
    elif isinstance(layer, nn.Linear):
        layer.weight.copy_(_next(waiting, layer.weight.shape[::-1]).T)
    elif isinstance(layer, nn.GroupNorm):
        layer.weight.copy_(_next(waiting, (*layer.weight.shape, 1, 1)).flatten())
        layer.bias.copy_(_next(waiting, (*layer.bias.shape, 1, 1)).flatten())


def _next(waiting: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Take the first of this shape."""
    for place, tensor in enumerate(waiting):
        if tensor.shape == torch.Size(shape):
            return waiting.pop(place)
    raise ValueError(f"the file has no further weights of shape {tuple(shape)}")
