"""Which values of a run do not come from the numbers of an input: constants, sizes, positions.

A float16 file computes with ids, positions and sizes in float32 (``converter.plugins.variants``):
an angle of 4000 has steps of 2 in float16. What rounding does to the model is measured likewise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch.utils._pytree import tree_leaves

Origin = Literal["fixed", "whole"]

_aten = torch.ops.aten


def _packets(*stems: str) -> set[Any]:
    """Operators with their forms in place."""
    names = [name for stem in stems for name in (stem, f"{stem}_")]
    return {getattr(_aten, name) for name in names if hasattr(_aten, name)}


# What keeps a whole number one, or nearly.
_KEEP_WHOLE = _packets(
    "abs", "add", "amax", "amin", "cat", "ceil", "clamp", "clamp_max", "clamp_min", "clone",
    "constant_pad_nd", "copy", "cumsum", "div", "flip", "floor", "floor_divide", "fmod", "gather",
    "index", "index_select", "masked_fill", "max", "maximum", "mean", "min", "minimum", "mul",
    "neg", "pow", "remainder", "repeat", "roll", "round", "rsub", "sign", "stack", "sub", "sum",
    "tril", "triu", "where", "_to_copy",
)  # fmt: skip
# What needs whole numbers as they are, and gives others.
_OF_WHOLE = _packets(
    "_softmax", "argmax", "argmin", "cos", "eq", "erf", "exp", "ge", "gt", "le", "log", "lt", "ne",
    "reciprocal", "sigmoid", "sin", "softplus", "sqrt", "tan", "tanh", "topk",
)  # fmt: skip
# Products, which count only where they add nothing up: positions times frequencies.
_PRODUCTS = {_aten.mm.default, _aten.bmm.default}
_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


class Origins:
    """Notes where the values of tensors come from, by their memory: views share it.

    Args:
        constants: parameters and buffers.
    """

    def __init__(self, constants: Iterable[torch.Tensor]) -> None:
        self._known: dict[int, Origin | None] = {}
        # Kept: an address is only as good as the tensor that has it.
        self._constants = list(constants)
        for tensor in self._constants:
            self.note(tensor, "fixed")

    def of(self, func: Any, args: Any, kwargs: Any) -> Origin | None:
        """What comes out of an operator, in place or not.

        Returns:
            ``fixed`` where it follows from constants and sizes only, ``whole`` where from whole
            numbers of the input too, ``None`` from anything else.
        """
        if torch.Tag.nondeterministic_seeded in func.tags:
            return None
        tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
        # `lift_fresh` takes what Python made of a list: a constant.
        if func.overloadpacket is _aten.lift_fresh:
            return "fixed"
        found = [self._of(tensor) for tensor in tensors]
        if all(origin == "fixed" for origin in found):  # a factory has no tensor at all
            return "fixed"
        if func.overloadpacket is _aten._to_copy and tensors[0].dtype in _INTEGERS:
            return "whole"
        floats = [o for t, o in zip(tensors, found, strict=True) if t.is_floating_point()]
        outer = func in _PRODUCTS and args[0].shape[-1] == 1
        counts = outer or func.overloadpacket in _KEEP_WHOLE | _OF_WHOLE
        return "whole" if counts and "whole" in floats and None not in floats else None

    def note(self, result: Any, origin: Origin | None) -> None:
        """Note it of all tensors of a result."""
        for value in tree_leaves(result):
            if (place := _place(value)) is not None:
                self._known[place] = origin

    def _of(self, value: torch.Tensor) -> Origin | None:
        place = _place(value)
        return None if place is None else self._known.get(place)


def keeps_whole(func: Any) -> bool:
    """Whether an operator gives whole numbers where it is given some."""
    return func.overloadpacket not in _OF_WHOLE


def _place(value: Any) -> int | None:
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return None
    try:
        # Of the storage itself, which views share; one without elements has no address of data.
        return int(value.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a subclass without memory of its own
        return None
