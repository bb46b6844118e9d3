"""A dispatch mode of torch: it sees each operator that a model calls."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The base of all modes here; torch's own imports ``torch._dynamo`` at its first operator.

    That takes 1.2 s, and keeps the compiler from compiling what a mode does. What a model compiles
    by itself gives the same outputs, and counts the same operators, either way.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
