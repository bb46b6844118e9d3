"""Run a model once more with every operation rounded at random: what rounding alone does to it.

Each operator computes in float64, and what rounding to the precision that the model asked for cuts
off is changed at random; a result that needs no rounding stays as it is, so that whole numbers,
comparisons and copies are untouched. This is Monte Carlo arithmetic (D. S. Parker, 1997)
at the operators of PyTorch. The model sees its own dtypes and takes its own way: modules that name
float32 in ``forward``, scripts and exported programs are all run alike.

The same shows what float16 does to a float32 model: with ``precision`` all that is float32, the
parameters and buffers too, is brought to the numbers of float16. They stay in tensors of float32,
so that no operator needs a kernel for float16 and the outputs compare with those of the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from converter.worker.reference.dispatching import Mode
from converter.worker.reference.origins import Origins, keeps_whole
from converter.worker.reference.strips import Strips

_WIDER = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
_aten = torch.ops.aten
# Conversions, which round the same in every runtime; what deals with memory, not numbers; and what
# gives values that it was given, or whole numbers, of which float64 would cut nothing off.
_LEFT_ALONE = {
    getattr(_aten, name)
    for stem in (
        "_to_copy", "abs", "amax", "amin", "argmax", "argmin", "argsort", "cat", "ceil", "clamp",
        "clamp_max", "clamp_min", "clone", "constant_pad_nd", "copy", "embedding", "eq", "fill",
        "flip", "floor", "gather", "ge", "gt", "hardtanh", "index", "index_select", "le", "lt",
        "masked_fill", "max", "max_pool2d_with_indices", "max_pool3d_with_indices", "maximum",
        "min", "minimum", "ne", "neg", "reflection_pad2d", "relu", "repeat", "replication_pad2d",
        "resize", "roll", "set", "sign", "sort", "stack", "threshold", "topk", "tril", "triu",
        "trunc", "where",
    )
    for name in (stem, f"{stem}_")
    if hasattr(_aten, name)
}  # fmt: skip
_PRODUCTS = {
    _aten.convolution.default,
    _aten._convolution.default,  # of a trace
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
}
_RESIZES = {
    _aten.upsample_linear1d.default,
    _aten.upsample_bilinear2d.default,
    _aten.upsample_trilinear3d.default,
    _aten.upsample_bicubic2d.default,
    _aten._upsample_bilinear2d_aa.default,
    _aten._upsample_bicubic2d_aa.default,
}
# What samples an image at coordinates that are its second argument.
_ROI_ALIGN = "torchvision::roi_align"
_SAMPLES = {_ROI_ALIGN, "aten::grid_sampler_2d", "aten::grid_sampler_3d"}
# Elements: 256 KiB of float32, beside 512 KiB of their float64.
_PIECE = 1 << 16
# Memory whose numbers are still to come.
_EMPTY = {
    getattr(_aten, name) for name in ("empty", "empty_like", "empty_strided", "new_empty")
    if hasattr(_aten, name)
}  # fmt: skip
# Between the seeds of two runs, of which the generator takes 32 bits: operators in a pass.
_STRIDE = 1 << 20


class Rerounding(Mode):
    """Within it every result is rounded at random.

    Args:
        seed: other ones round otherwise.
        level: how far, in steps of the dtype's precision; 1 is what rounding does. A negative one
            moves each result the other way: what lies within reach changes in one of the two.
        exact: convolutions and matrix products too are computed in float64, so that how they add
            up shows; else in their own precision, which takes a third of the time.
        precision: ``torch.float16`` gives what is float32 the steps and the range of float16;
            ``exact`` says nothing then: float32's own rounding is 8000 times smaller. At level 0
            every result is rounded to nearest, as a processor does that computes in float16.
        constants: parameters and buffers. What follows from them, from sizes and from whole numbers
            of the input by simple arithmetic is not rounded to ``precision``, as in a file.
    """

    def __init__(
        self,
        seed: int,
        level: float = 1.0,
        *,
        exact: bool = True,
        precision: torch.dtype | None = None,
        constants: Iterable[torch.Tensor] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._level = level
        self._exact = exact
        self._precision = precision
        self._origins = Origins(constants)
        self._count = 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # What the model itself computes in float16 has its own rounding already, and keeps it.
        if self._precision is not None and not _has_narrower(args, kwargs):
            return self._in_precision(func, args, kwargs, self._precision)
        if not _rounds(func, args, kwargs):
            return func(*args, **kwargs)
        self._next()
        if func in _PRODUCTS and not self._exact:
            # In its own precision, with half a step on top: how the product added up does not show
            # then.
            result = func(*args, **kwargs)
            for part, _ in _pieces(result, result):
                part.copy_(self._moved(part))
            return result
        wide = _in_float64(func, self._shaken(func, args), kwargs)
        if wide is None:
            # One that writes into its arguments would write into the moved copies.
            if not func._schema.is_mutable:
                args, kwargs = tree_map(self._moved, (args, kwargs))
            return func(*args, **kwargs)
        # Only now: an operator in place changes the arguments that the wide one has read.
        result = func(*args, **kwargs)
        for plain, exact in zip(tree_leaves(result), tree_leaves(wide), strict=True):
            # Written over the plain result, which keeps its layout and what shares its memory.
            # Of several results only those of floats that rounding could move.
            if _narrow(plain):
                for part, value in _pieces(plain, exact):
                    part.copy_(self._rounded(value, plain.dtype))
        return result

    def _next(self) -> None:
        """Give the next operator random numbers of its own.

        So that one with other shapes (detections that come and go) changes none of the others.
        """
        self._count += 1
        for generator in self._generators.values():
            generator.manual_seed(self._seed * _STRIDE + self._count)

    def _in_precision(
        self, func: Any, args: tuple[Any, ...], kwargs: Any, precision: torch.dtype
    ) -> Any:
        """The operator on arguments that are in the precision, and its result there too.

        Arguments go to the nearest number, as the weights of a file do: parameters, constants and
        inputs alike; what an earlier operator made is there already.
        """
        # A view must stay one of the argument itself: `_nearest` makes copies, and what is written
        # through a view of a copy is lost.
        if _is_view(func):
            return func(*args, **kwargs)
        if func.overloadpacket in _EMPTY:
            result = func(*args, **kwargs)
            self._origins.note(result, "fixed")
            return result
        origin = self._origins.of(func, args, kwargs)
        # What is known of constants stays known: an exporter computes it, too.
        if origin == "fixed" or (origin == "whole" and keeps_whole(func)):
            result = func(*args, **kwargs)
            self._origins.note(result, origin)
            return result
        random = _rounds(func, args, kwargs)
        if origin is None:
            # Also where nothing rounds: what is copied or concatenated must be of the precision.
            args, kwargs = _nearest(func, args, kwargs, precision)
        if random:
            self._next()
            if torch.Tag.nondeterministic_seeded in func.tags and not func._schema.is_mutable:
                # Attention, whose scores and weights are rounded too where it is not one kernel.
                args, kwargs = tree_map(lambda v: self._moved(v, precision), (args, kwargs))
        result = func(*args, **kwargs)
        self._origins.note(result, None)
        for plain in tree_leaves(result):
            if not _plain_float32(plain):
                continue
            for part, _ in _pieces(plain, plain):
                part.copy_(self._rounded(part, precision) if random else part.to(precision))
        return result

    def _rounded(self, exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        cut = exact - exact.to(dtype)  # zero where nothing is cut off, NaN at infinity
        cut.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        # Twice what was cut off, so that rounding may end at the neighbour as well.
        moved = exact.addcmul(cut, self._shares(exact), value=2 * self._level)
        return moved if self._precision is None else moved.to(dtype)

    def _moved(self, value: Any, precision: torch.dtype | None = None) -> Any:
        """A value of which nothing is known to be cut off, moved by up to half a step."""
        if not _narrow(value):
            return value
        # `eps` is the distance of neighbours at one, and rounding moves by half of that at most.
        step = self._level * torch.finfo(precision or value.dtype).eps / 2
        return value.addcmul(value, self._shares(value), value=step)

    def _shaken(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of an operator that interpolates, whose coordinates are rounded otherwise.

        It computes them in float32, and the error of one grows with the size of the input.
        """
        step = self._level * torch.finfo(torch.float32).eps
        if func.name() in _SAMPLES:
            image, places, *others = args
            moved = places + step * self._shares(places) * places.abs().clamp(min=1)
            if func.name() == _ROI_ALIGN:
                moved[:, 0] = places[:, 0]  # which image of the batch
            return (image, moved, *others)
        if func not in _RESIZES or args[2]:  # with corners aligned the scale is no argument
            return args
        # (input, output size, corners, then a scale for each axis or None).
        given = [*args[3:], *[None] * (len(args[1]) - len(args[3:]))]
        share = float(self._shares(torch.empty(1)))
        moved = 1 + math.copysign(1, share) * step
        sizes = zip(args[1], args[0].shape[2:], strict=True)
        scales = [
            moved * (out / size if scale is None else scale)
            for scale, (out, size) in zip(given, sizes, strict=True)
        ]
        return (*args[:3], *scales)

    def _shares(self, like: torch.Tensor) -> torch.Tensor:
        """Random numbers from -1 to 1, of eight bits each, which are drawn eight at a time."""
        # An eighth as many words as numbers, rounded up; the last bytes are left over.
        words = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device)
        words.random_(torch.iinfo(torch.int64).min, None, generator=self._generator(like.device))
        bits = words.view(torch.int8)[: like.numel()].view(like.shape)
        return bits.to(like.dtype).div_(128)

    def _generator(self, device: torch.device) -> torch.Generator:
        """Of its own: what the model draws at random stays what it was."""
        if device not in self._generators:
            # The seed that `_next` would give at this count.
            first = self._seed * _STRIDE + self._count
            self._generators[device] = torch.Generator(device).manual_seed(first)
        return self._generators[device]


def _rounds(func: Any, args: Any, kwargs: Any) -> bool:
    """False for views, conversions, and operators that take no such numbers."""
    return (
        not _is_view(func)
        and func.overloadpacket not in _LEFT_ALONE
        and any(_narrow(value) for value in tree_leaves((args, kwargs)))
    )


# `Tensor(a)` in a schema shares memory with its result; `Tensor(a!)` is written into.
def _is_view(func: Any) -> bool:
    return any(
        argument.alias_info is not None and not argument.alias_info.is_write
        for argument in func._schema.arguments
    )


def _has_narrower(args: Any, kwargs: Any) -> bool:
    """Whether the model itself computes this in a precision below float32."""
    return any(
        isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        for value in tree_leaves((args, kwargs))
    )


def _nearest(
    func: Any, args: tuple[Any, ...], kwargs: Any, precision: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, rounded; not those that the operator writes into."""

    def nearest(value: Any) -> Any:
        return value.to(precision).to(value.dtype) if _plain_float32(value) else value

    written = {
        argument.name
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    }
    named = zip((argument.name for argument in func._schema.arguments), args, strict=False)
    # What is written into keeps its place in memory: a rounded copy would take the result away.
    return (
        tuple(value if name in written else tree_map(nearest, value) for name, value in named),
        {k: v if k in written else tree_map(nearest, v) for k, v in kwargs.items()},
    )


def _plain_float32(value: Any) -> bool:
    return _narrow(value) and value.dtype is torch.float32


def _pieces(plain: torch.Tensor, exact: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Of both, small enough for the cache: what is made on the way would fill memory else."""
    if plain.is_contiguous() and exact.is_contiguous():
        flat = (torch.split(tensor.view(-1), _PIECE) for tensor in (plain, exact))
        yield from zip(*flat, strict=True)
    else:
        yield plain, exact


def _narrow(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dtype in _WIDER
        and value.layout == torch.strided
        and not value.is_nested
    )


def _in_float64(func: Any, args: Any, kwargs: Any) -> Any:
    """The operator on copies of its arguments in float64.

    ``None`` where it has no such kernel, or draws numbers that it must not draw twice (attention
    counts as such, for its dropout).
    """
    if torch.Tag.nondeterministic_seeded in func.tags:
        return None
    args, kwargs = tree_map(_widened, (args, kwargs))
    try:
        # The mode is entered for convolutions alone: within it every operator passes through
        # Python.
        if func is _aten.convolution.default:
            with Strips():  # type: ignore[no-untyped-call]
                return func(*args, **kwargs)
        return func(*args, **kwargs)
    except RuntimeError:  # NotImplementedError among them
        return None


def _widened(value: Any) -> Any:
    if _narrow(value):
        return value.to(_WIDER[value.dtype])
    # A dtype that is an argument (`to(float32)`) is widened as well, or it would narrow the result.
    return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value
