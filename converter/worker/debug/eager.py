"""What each operator gives while PyTorch runs a model once."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from converter.model.job import Job
from converter.worker.debug.values import Value, form
from converter.worker.inputs.inputs import Array
from converter.worker.inputs.tensors import array as array_of
from converter.worker.reference.dispatching import Mode
from converter.worker.reference.execution import Runner
from converter.worker.sources.loading import Loaded

BUDGET = 2 << 30
"""Bytes that the values of one run may take."""
_OURS, _TORCH = str(Path(__file__).parents[2]), str(Path(torch.__file__).parent)
_VIEWS = ("aten.view", "aten.reshape", "aten._unsafe_view")
_SAME = ("aten.detach", "aten.alias")
# A view follows what it is a view of, or nearly.
_BEFORE = 16


class Recording(Mode):
    """Args: budget: bytes; what comes behind them is not kept."""

    def __init__(self, budget: int = BUDGET) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values: list[Value] = []
        self.left_out = 0
        self._left = budget

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self._keep(str(func), tensor)
        return result

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        if not tensor.numel() or name.startswith(_SAME):
            return
        if name.startswith(_VIEWS) and self._is_view(tensor):
            return
        if (needed := tensor.numel() * tensor.element_size()) > self._left:
            self.left_out += 1
            return
        self._left -= needed
        # A copy: what comes later may be computed in place.
        array = array_of(tensor.detach().clone())
        self.values.append(Value(len(self.values), name, _place(), array))

    def _is_view(self, tensor: torch.Tensor) -> bool:
        """Whether its elements are there already: then its shape is kept and nothing else."""
        array = array_of(tensor.detach())
        for value in islice(reversed(self.values), _BEFORE):
            if value.array.size == array.size and value.array.dtype == array.dtype:
                same = np.array_equal(value.array.reshape(-1), array.reshape(-1), equal_nan=True)
                if same:
                    value.views.setdefault(form(array), _place())
                    return True
        return False


def _place() -> str:
    """The innermost line of code that is neither PyTorch's nor ours."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_OURS, _TORCH, "<")):
            text = linecache.getline(file, frame.f_lineno).strip()
            return f"{Path(file).name}:{frame.f_lineno} `{text}`"
        frame = frame.f_back
    return ""


def record(loaded: Loaded, job: Job, inputs: Mapping[str, Array]) -> Recording:
    """Run a model once on one set of inputs.

    Raises:
        StageError: FORWARD, as ``Runner``.
    """
    recording = Recording()
    with watched(recording) as within:
        Runner(loaded, job, lambda text: None)(inputs, within=within)
    return recording


@contextmanager
def watched(recording: Recording) -> Iterator[Recording]:
    """Have PyTorch compute attention in its single steps: fused kernels keep them to themselves."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield recording
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
