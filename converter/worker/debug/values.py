"""Values that are known to be right, and whether another one is one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from converter.worker.inputs.inputs import Array

# Rounding of float32 in a deep model is far below it, what is worth a search is above.
USUAL = 1e-4
_TINY = 1e-12

Form = tuple[tuple[int, ...], str]
"""Shape and dtype of a value."""


def form(array: Array) -> Form:
    """Shape and dtype."""
    return tuple(array.shape), array.dtype.name


@dataclass(frozen=True)
class Value:
    """One result of a computation that is right.

    Attributes:
        number: in the order of the computation.
        what: computed it: an operator of PyTorch, a value of a graph.
        where: file, line and text of the code that asked for it; empty: not known.
        views: other shapes of the same elements that the computation has, and who asks for each.
    """

    number: int
    what: str
    where: str
    array: Array
    views: dict[Form, str] = field(default_factory=dict, compare=False)

    @property
    def forms(self) -> dict[Form, str]:
        """Its own form and those of its views, and where each comes from."""
        return {form(self.array): self.where, **self.views}


class Known:
    """Values of one computation, found again by what they are.

    Args:
        tolerance: the largest difference, as a share of the largest magnitude, of two that are one.
    """

    def __init__(self, values: Iterable[Value], tolerance: float) -> None:
        self.values = list(values)
        self.tolerance = tolerance
        self._by_size: dict[int, list[Value]] = defaultdict(list)
        for value in self.values:
            self._by_size[value.array.size].append(value)

    def match(self, array: Array, since: int) -> Value | None:
        """The first value that it is; one element after the other, whatever the shape.

        Args:
            since: the number of the last value that it follows from. Of what is nearly constant
                there may be another one that looks the same.
        """
        return next(self._all(array, since), None)

    def forms(self, array: Array, since: int) -> dict[Form, str]:
        """All shapes in which the computation has these elements, and where each comes from."""
        found: dict[Form, str] = {}
        for value in self._all(array, since):
            found |= value.forms
        return found

    def _all(self, array: Array, since: int) -> Iterator[Value]:
        flat = array.reshape(-1)
        for value in self._by_size.get(array.size, ()):
            if value.number >= since and distance(flat, value.array) <= self.tolerance:
                yield value


def distance(found: Array, expected: Array) -> float:
    """The largest difference, as a share of the largest magnitude of what is expected.

    Infinite where one of them is not finite and the other is, or of another size.
    """
    if found.size != expected.size:
        return float("inf")
    if not found.size:
        return 0.0
    one, other = found.reshape(-1), expected.reshape(-1)
    finite = np.isfinite(other)
    if not np.array_equal(np.isfinite(one), finite):
        return float("inf")
    if not finite.any():
        return 0.0
    exact, wanted = one[finite].astype(np.float64), other[finite].astype(np.float64)
    return float(np.abs(exact - wanted).max() / max(np.abs(wanted).max(), _TINY))
