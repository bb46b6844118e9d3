"""Between arrays and torch's tensors, also of the dtypes that NumPy does not know itself."""

from __future__ import annotations

from typing import Any

import torch

from converter.worker.inputs import dtypes
from converter.worker.inputs.dtypes import Array

# By bits: torch reads and writes no array of ml_dtypes (2.15).
_NARROW: dict[torch.dtype, torch.dtype] = {
    torch.bfloat16: torch.uint16,
    torch.float8_e4m3fn: torch.uint8,
    torch.float8_e5m2: torch.uint8,
}


def of(array: Array) -> torch.Tensor:
    """A tensor of its own memory."""
    if not dtypes.is_narrow(array):
        return torch.from_numpy(array.copy())
    held: torch.Tensor = torch.from_numpy(dtypes.bits(array).copy())
    return held.view(getattr(torch, array.dtype.name))


def array(tensor: torch.Tensor) -> Array:
    """The numbers of a tensor, in its memory where that is the processor's.

    Raises:
        TypeError: NumPy has no such numbers: a sparse tensor, another float8.
    """
    dense = tensor.detach().cpu()
    if dense.dtype not in _NARROW:
        found: Array = dense.numpy()
        return found
    held: Any = dense.contiguous().view(_NARROW[dense.dtype]).numpy()
    return dtypes.of_bits(held, str(dense.dtype).removeprefix("torch."))
