"""The parameters of a model that a file without them is fed."""

from __future__ import annotations

import torch

from converter.worker.sources.loading import Loaded


def of(loaded: Loaded) -> dict[str, torch.Tensor]:
    """By the names of the state dict; empty for a source that has none."""
    if not isinstance(loaded.model, torch.nn.Module | torch.export.ExportedProgram):
        return {}
    state = loaded.model.state_dict
    return {
        name: tensor
        for name, tensor in (state() if callable(state) else state).items()
        if tensor.is_floating_point()  # the rest (num_batches_tracked) is in no graph
    }
