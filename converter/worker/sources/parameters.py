"""The parameters of a model that a file without them is fed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from converter.worker.sources.loading import Loaded


def of(loaded: Loaded) -> dict[str, torch.Tensor]:
    """By the names of the state dict, tied ones by the first; empty for a source without one."""
    state = _state(loaded)
    return {names[0]: state[names[0]] for names in tied(loaded)}


def tied(loaded: Loaded) -> list[list[str]]:
    """The names of each parameter, in the order of the state dict: several where it is tied."""
    found: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in _state(loaded).items():
        if tensor.is_floating_point():  # the rest (num_batches_tracked) is in hardly any graph
            # Of a tensor without elements there is no place in memory.
            place = tensor.data_ptr() or name
            same = (place, tensor.dtype, tuple(tensor.shape), tensor.stride())
            found.setdefault(same, []).append(name)
    return [*found.values()]


def _state(loaded: Loaded) -> Mapping[str, torch.Tensor]:
    if not isinstance(loaded.model, torch.nn.Module | torch.export.ExportedProgram):
        return {}
    state = loaded.model.state_dict
    return state() if callable(state) else state
