"""A dispatch mode of torch: it sees each operator that a model calls."""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Self

from torch.utils._python_dispatch import TorchDispatchMode


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The base of all modes here, which does not import ``torch._dynamo`` for nothing.

    torch keeps its compiler from compiling what a mode does, and imports it for that at the first
    operator, which takes 1.2 s of each job. It is there already where a model compiles anything
    (``torch.compile``, ``torch.cond``): it has run once before a mode watches it.
    """

    _plain: ClassVar[Any]
    _guarded: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        cls._plain = cls.__dict__["__torch_dispatch__"]
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]
        cls._guarded = cls.__dict__["__torch_dispatch__"]

    def __enter__(self) -> Self:
        kind: Any = type(self)
        compiles = "torch._dynamo" in sys.modules
        kind.__torch_dispatch__ = kind._guarded if compiles else kind._plain
        super().__enter__()  # type: ignore[no-untyped-call]
        return self
