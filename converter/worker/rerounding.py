"""Run a model once more with every operation rounded at random: what rounding alone does to it.

Each operator computes in float64 and its result is rounded to one of the numbers near it, in the
precision that the model asked for; a result that needs no rounding stays as it is, so that whole
numbers, comparisons and copies are untouched. This is Monte Carlo arithmetic (D. S. Parker, 1997)
at the operators of PyTorch. The model sees its own dtypes and takes its own way: modules that name
float32 in ``forward``, scripts and exported programs are all run alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_WIDER = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
_aten = torch.ops.aten
# Conversions, which round the same in every runtime; and what deals with memory, not numbers.
_LEFT_ALONE = {_aten._to_copy, _aten.copy_, _aten.copy, _aten.set_, _aten.resize_}
_PRODUCTS = {
    _aten.convolution.default,
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
}


class Rerounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it every result is rounded at random.

    Args:
        seed: other ones round otherwise.
        level: how far, in steps of the dtype's precision; 1 is what rounding does.
        exact: convolutions and matrix products too are computed in float64, so that how they add
            up shows; else in their own precision, which takes a third of the time.
    """

    def __init__(self, seed: int, level: float = 1.0, *, exact: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._level = level
        self._exact = exact
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = args, kwargs or {}
        if not self._rounds(func, given):
            return func(*args, **(kwargs or {}))
        wide: Any = None
        if self._exact or func not in _PRODUCTS:
            wide = _in_float64(func, given)
            if wide is None:  # there is no such kernel
                given = tree_map(self._moved, given)
        result = func(*given[0], **given[1])
        exact = tree_leaves(result if wide is None else wide)
        for plain, value in zip(tree_leaves(result), exact, strict=True):
            # Written over the plain result, which keeps its layout and what shares its memory.
            if _narrow(plain):
                plain.copy_(self._rounded(value, plain.dtype, known=wide is not None))
        return result

    def _rounds(self, func: Any, given: Any) -> bool:
        """False for views, conversions, and operators that make or draw numbers."""
        views = any(
            argument.alias_info is not None and not argument.alias_info.is_write
            for argument in func._schema.arguments
        )
        return (
            not views
            and func.overloadpacket not in _LEFT_ALONE
            and torch.Tag.nondeterministic_seeded not in func.tags
            and any(_narrow(value) for value in tree_leaves(given))
        )

    def _moved(self, value: Any) -> Any:
        return self._rounded(value, value.dtype, known=False) if _narrow(value) else value

    def _rounded(self, value: torch.Tensor, dtype: torch.dtype, *, known: bool) -> torch.Tensor:
        """``known``: ``value`` has the digits that ``dtype`` lacks."""
        wide = value.to(_WIDER[dtype])
        share = torch.empty(wide.shape, dtype=torch.float64, device=wide.device)
        share.uniform_(-1, 1, generator=self._generator(wide.device))
        step = self._level * torch.finfo(dtype).eps / 2
        moved = wide.addcmul(wide, share.to(wide.dtype), value=step).to(dtype)
        if not known:
            return moved
        nearest = wide.to(dtype)
        return torch.where(nearest == wide, nearest, moved)

    def _generator(self, device: torch.device) -> torch.Generator:
        """Of its own: what the model draws at random stays what it was."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _narrow(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dtype in _WIDER
        and value.layout == torch.strided
        and not value.is_nested
    )


def _in_float64(func: Any, given: Any) -> Any:
    """The operator on copies of its arguments in float64; ``None`` where it has no such kernel."""
    args, kwargs = tree_map(_widened, given)
    try:
        return func(*args, **kwargs)
    except RuntimeError:  # NotImplementedError among them
        return None


def _widened(value: Any) -> Any:
    if _narrow(value):
        return value.to(_WIDER[value.dtype])
    return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value
