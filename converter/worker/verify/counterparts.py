"""Which weights of two files stand for each other, where their names do not tell.

A comparison by name alone does not see a weight that has another name in the derived file. Such a
weight is held against all of the parent's, by its numbers, with its axes in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, numpy_helper

Floats = NDArray[np.float64]
Near = Callable[[Floats, Floats, Floats], NDArray[np.bool_]]
"""Where numbers (of the first argument) may stand for others, at a step between two of them."""

FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)
LEAST = 8
"""Elements; shorter tensors may be constants that converters make, or be equal by chance."""
# Axes of more have no order that a converter changes.
_MOST_AXES = 5
# Elements that are looked at before the others: few tensors agree in so many.
_FIRST = 64


@dataclass(frozen=True)
class Unnamed:
    """A weight of a derived file that no name ties to one of the parent.

    Attributes:
        elements: of the float weight that it stands for.
        floats: gives the numbers that it stands for and the step between two of them; ``None``:
            the file does not tell.
        near: where they may stand for others.
    """

    name: str
    elements: int
    floats: Callable[[], tuple[Floats, Floats] | None]
    near: Near


@dataclass(frozen=True)
class Matched:
    """What became of weights without a name in common.

    Attributes:
        wrong: the first that takes the place of another of the parent's, in a sentence.
        found: how many have a counterpart.
        unknown: names of those that have none.
    """

    wrong: str
    found: int
    unknown: tuple[str, ...]


def match(
    unnamed: Iterable[Unnamed], parent: Mapping[str, TensorProto], named: Iterable[str]
) -> Matched:
    """Find by their numbers the weights that others stand for.

    One that stands for none is an error where the parent has a weight of as many elements that
    none stands for. Constants that were folded, joined or split have another number of them.

    Args:
        parent: its constants by name.
        named: names of those that a weight of the derived file stands for already.
    """
    wide = {name: tensor for name, tensor in parent.items() if tensor.data_type in FLOATS}
    left = {name for name in wide if _size(wide[name]) >= LEAST} - set(named)
    found, strays = 0, []
    for weight in unnamed:
        name = _counterpart(weight, wide)
        if name is None:
            strays.append(weight)
            continue
        left.discard(name)
        found += 1
    unknown = tuple(weight.name for weight in strays)
    for weight in strays:
        for name in sorted(left):
            if _size(wide[name]) == weight.elements:
                told = (
                    f"weight '{weight.name}' stands for none of the float32 file, and none stands "
                    f"for its '{name}' {list(wide[name].dims)}"
                )
                return Matched(told, found, unknown)
    return Matched("", found, unknown)


def _counterpart(weight: Unnamed, wide: Mapping[str, TensorProto]) -> str | None:
    told = weight.floats()
    if told is None:
        return None
    got, step = (array.ravel() for array in told)
    for name, tensor in wide.items():
        if _size(tensor) != got.size:
            continue
        want = np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
        for one in _arrangements(want):
            first = one.flat[:_FIRST]
            if not weight.near(got[:_FIRST], first, step[:_FIRST]).all():
                continue
            if weight.near(got, one.ravel(), step).all():
                return name
    return None


def _arrangements(array: Floats) -> Iterator[Floats]:
    """An array with its axes in every order."""
    # Axes of length 1 change no order of the elements.
    array = array.squeeze()
    if array.ndim > _MOST_AXES:
        yield array
        return
    for order in permutations(range(array.ndim)):
        yield array.transpose(order)


def _size(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def floats(name: str, tensor: TensorProto, near: Near | None = None) -> list[Unnamed]:
    """One weight that is floats, or none where it has few elements.

    Args:
        near: ``None``: its numbers have to be equal to others.
    """

    def held() -> tuple[Floats, Floats]:
        values = np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
        return values, values  # floats have no step

    size = _size(tensor)
    return [Unnamed(name, size, held, near or _equal)] if size >= LEAST else []


def _equal(got: Floats, want: Floats, _: Floats) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (got == want) | np.isnan(got) & np.isnan(want)
    return same


def used(graph: GraphProto) -> set[str]:
    """Names that a node or an output takes: what nobody takes stands for nothing."""
    names = {value.name for value in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= used(inner)
    return names
