"""Torch's fused attention in eval mode, which zeroes what a padding mask covers (torch 2.15).

``nn.TransformerEncoder`` packs a batch with a left-aligned ``src_key_padding_mask`` into a nested
tensor and pads its result with zeros. No exporter takes that path, so that the file computes
numbers at padded positions, as PyTorch itself does without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.inputs.inputs import Array
from converter.worker.reference.execution import REFUSALS, Runner
from converter.worker.reference.reference import References
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors
from converter.worker.sources.loading import Loaded

_ATTENTION = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
# Relative L2 distance: rounding is far below it, zeros in place of numbers are far above.
_CLOSE = 1e-3
HINT = (
    "PyTorch's attention fast path gives other numbers at padded positions than the file, and than "
    "PyTorch without it: call torch.backends.mha.set_fastpath_enabled(False) in the model's code, "
    "or leave padded positions out of the outputs"
)


def explained(
    error: StageError,
    file: Path,
    loaded: Loaded,
    job: Job,
    references: References,
    parameters: Mapping[str, Array],
) -> StageError:
    """The error, with a hint that names the fast path where that is what the file differs in."""
    # The fast path gives zeros for numbers. It changes no shape, and other codes have other causes.
    if error.code not in (Code.VERIFY_VALUE, Code.VERIFY_NONFINITE) or not taken(loaded):
        return error
    session = Session(file, threads=job.threads)
    for item in references.cases:
        # A case that the file does not even run is another failure than the one to be explained.
        try:
            actual = session.run({**references.feeds(item), **parameters})
        except RuntimeErrors:
            return error
        # The first case that differs decides. One model has one cause, and each try runs it again.
        if not _agree(item.outputs, actual):
            told = hint(loaded, job, item.inputs, actual)
            return StageError(error.code, error.message, told or error.hint)
    return error


def hint(
    loaded: Loaded, job: Job, inputs: Mapping[str, Array], actual: Sequence[Array]
) -> str | None:
    """What to do where the file agrees with PyTorch as soon as the fast path is off.

    Args:
        inputs: a case in which the file differs from PyTorch.
        actual: the file's outputs in it.
    """
    if not taken(loaded):
        return None
    with _off():
        try:
            # What the model does to its inputs was told when the references were made.
            plain = Runner(loaded, job, lambda text: None)(inputs)
        except (*REFUSALS, StageError):
            return None
    return HINT if _agree(plain, actual) else None


def taken(loaded: Loaded) -> bool:
    """Whether the model has attention that torch may run on its fast path."""
    if not isinstance(loaded.model, nn.Module) or not torch.backends.mha.get_fastpath_enabled():
        return False
    # In training mode torch never takes the fast path.
    modules = loaded.model.modules()
    return any(isinstance(module, _ATTENTION) and not module.training for module in modules)


def _agree(expected: Sequence[Array], actual: Sequence[Array]) -> bool:
    """Closer than zeros in place of numbers could be; the verdict itself is not given here."""
    if [one.shape for one in expected] != [one.shape for one in actual]:
        return False
    # NumPy subtracts no booleans, and a norm of large float16 numbers would be infinite.
    pairs = [
        (one.astype(np.float64), other.astype(np.float64))
        for one, other in zip(expected, actual, strict=True)
    ]
    return all(
        bool(np.linalg.norm(one - other) <= _CLOSE * np.linalg.norm(one)) for one, other in pairs
    )


@contextmanager
def _off() -> Iterator[None]:
    # The switch belongs to the whole process, and later calls need the user's own setting.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
