"""How many cases a model is worth: counted in work, so that every machine tries the same ones.

Seconds would make a busy machine try fewer cases, and leave another file. So one forward pass is
the unit, and how many of them cost a third of what the other stages do follows from what a pass
does: its operators, the elements that they compute, the weights that are copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from converter.model.job import Job
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.reference.dispatching import Mode
from converter.worker.sources.onnx_source import OnnxFile

# Seconds of one thread of a server of 2024, fitted to the zoo (two cores, torch 2.15): what the
# other stages take whatever the model, for each operator, and for each byte of weights; and what a
# case takes, in PyTorch and ONNX Runtime together, for each operator, each multiplication
# and each element that an operator gives.
_STAGES_S, _STAGES_OPERATOR_S, _STAGES_BYTE_S = 0.5, 6e-3, 1.5e-9
_CASE_S, _CASE_OPERATOR_S, _CASE_PRODUCT_S, _CASE_ELEMENT_S = 2e-3, 2e-4, 8e-11, 5e-9
_SHARE = 1 / 3
_FEWEST, _MOST = 2, 64
# The end of a range that is stated is tried up to here: growth, elements of all inputs, seconds.
_LARGE_GROWTH, _LARGE_ELEMENTS, _LARGE_S = 16, 30_000_000, 20.0
_FEWEST_POSITIONS = 64
# Operators whose numbers are limits of sizes or values.
_LIMITING = {
    "arange", "clamp", "clamp_max", "clamp_min", "eq", "floor_divide", "fmod", "ge", "gt",
    "hardtanh", "le", "lt", "narrow", "ne", "remainder", "slice", "split", "threshold", "unfold",
}  # fmt: skip
_RESIZES = ("upsample_", "_upsample_")
# An open slice ends at 2^63 − 1 in aten, which is no limit of the model.
_LARGEST_LIMIT = 1e6


@dataclass
class Work:
    """What one forward pass does.

    Attributes:
        operators: that were called.
        products: multiplications of matrices and convolutions, and elements of all else.
        elements: that they gave.
        limits: numbers that it cuts or compares with, however its code has come by them.
        scales: of sizes, by which it resizes.
    """

    operators: int = 0
    products: int = 0
    elements: int = 0
    limits: set[float] = field(default_factory=set)
    scales: set[float] = field(default_factory=set)


class _Counter(Mode):
    # Without it torch refuses to run them within a dispatch mode.
    supports_higher_order_operators = True  # torch.cond and its like count as one operator

    def __init__(self, work: Work) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work = work

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, torch.Tensor):
            self._work.operators += 1
            self._work.elements += first.numel()
            self._work.products += first.numel() * _depth(str(func), args)
        # Operators of higher order have no overloads. The stripped name is that of in-place and
        # inner forms too: `clamp_`, `_softmax`.
        packet = getattr(func, "overloadpacket", func)
        given = [*args, *(kwargs or {}).values()]
        if packet.__name__.startswith(_RESIZES):
            self._work.scales |= {x for x in _flat(given) if type(x) is float}
        if packet.__name__.strip("_") in _LIMITING:
            # By `type`, since a bool is an int and no limit.
            self._work.limits |= {abs(x) for x in given if type(x) in (int, float) and _limit(x)}
        return result


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple) else [value]


def _limit(number: float) -> bool:
    return 0 < abs(number) <= _LARGEST_LIMIT


def _depth(operator: str, args: tuple[Any, ...]) -> int:
    """Products for each element of a result."""
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    # Weight [out, in / groups, kernel…]: an element of the result is a sum over all axes but the
    # first.
    if "convolution" in operator and len(tensors) > 1:
        return max(1, tensors[1].numel() // max(1, tensors[1].shape[0]))
    # `mm`, `addmm`, `bmm` and `baddbmm`. The last one is [.., k, n].
    if "mm" in operator and tensors:
        # The rows of the last matrix are what each sum runs over.
        return max(1, tensors[-1].shape[-2] if tensors[-1].dim() > 1 else 1)
    if "attention" in operator and len(tensors) > 1:
        return 2 * max(1, tensors[1].shape[-2])  # scores, and the sum of values
    return 1


@contextmanager
def counting(work: Work) -> Iterator[None]:
    """Within it what torch computes is added to ``work``."""
    with _Counter(work):
        yield


def of_file(file: OnnxFile, inputs: Mapping[str, Array]) -> Work:
    """What an ONNX file does, from its nodes and weights: nobody counts while it runs.

    A weight is used once for each position of the input that it slides over; an image of 224 x 224
    has 150 for each weight of a ResNet.
    """
    # A file shows no sizes of its inner tensors, so that the inputs stand for them.
    elements = sum(array.size for array in inputs.values())
    weights = sum(math.prod(tensor.dims) for tensor in file.proto.graph.initializer)
    positions = max(_FEWEST_POSITIONS, elements // 1000)
    return Work(len(file.proto.graph.node), weights * positions)


def passes(job: Job, model: Any, work: Work) -> float:
    """Forward passes that cases may take: stated (``verify.budget``), else derived.

    Args:
        model: the PyTorch model, or an ``OnnxFile``.
    """
    if job.verify.budget is not None:
        return job.verify.budget
    stages = _STAGES_S + _STAGES_OPERATOR_S * work.operators + _STAGES_BYTE_S * _bytes(model)
    return float(min(max(math.floor(_SHARE * stages / _seconds(work)), _FEWEST), _MOST))


def cost(case: Case, traced: Case, work: Work) -> float:
    """Forward passes of the traced example that a case is worth."""
    return _seconds(work, case.elements / max(1, traced.elements)) / _seconds(work)


def too_large(case: Case, traced: Case, work: Work) -> bool:
    """Whether a size that a rule names is beyond what a verification may take."""
    times = case.elements / max(1, traced.elements)
    much = times > _LARGE_GROWTH and case.elements > _LARGE_ELEMENTS
    return much or (times > _LARGE_GROWTH and _seconds(work, times) > _LARGE_S)


def _seconds(work: Work, times: float = 1.0) -> float:
    """Of one case whose inputs have so many times the elements of the traced example."""
    # Larger inputs make operators work longer, but call no more of them.
    computed = _CASE_PRODUCT_S * work.products + _CASE_ELEMENT_S * work.elements
    return _CASE_S + _CASE_OPERATOR_S * work.operators + computed * times


def _bytes(model: Any) -> int:
    if isinstance(model, OnnxFile):
        return structure.weight_bytes(model.proto)
    if not isinstance(model, torch.nn.Module):
        return 0
    # A lazy parameter has no size before the first call.
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in model.parameters()
        if not isinstance(tensor, torch.nn.parameter.UninitializedParameter)
    )
