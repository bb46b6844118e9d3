"""Values like those that users feed: padding, full lengths, large, small, equal, on a grid.

A sample drawn at random never looks like that, and what a model does with such values is where
files go wrong. Each input has patterns of its own, which stay within what the configuration
declares: a ``low`` and a ``high`` are never left, and what is pinned stays pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.random import Generator

from converter.model.inputs import InputSpec, holds_fractions
from converter.model.job import Job
from converter.worker.inputs import dtypes, inputs
from converter.worker.inputs.inputs import Array

Values = Any
Draw = Callable[[Generator, tuple[int, ...]], Values]
# Multiples of it are not what they seem in binary: 0.3 // 0.1 is 2.
_TENTH = 0.1
# Steps of the grid to either side: up to 4 in tenths, up to 20 in halves.
_STEPS = 40
_MOST_LIMITS = 4
_SMALL_LIMIT = 2.0
# Whole numbers that fill an input: so many limits, as many products of two, and so many in all.
_FEW_LIMITS, _MOST_FILLED = 2, 6
# A bounded input's ends: this share of its range.
_END = 0.01
ZEROS = "zeros"


@dataclass(frozen=True)
class Pattern:
    """One way to fill an input.

    Attributes:
        name: as the manifest calls it.
        values: from a random generator and a shape.
        required: tried before anything that a budget may leave out.
        ties: many elements are equal, so that an order among them is not defined.
        of_full: of lengths, ``values`` for the size that is full.
    """

    name: str
    values: Draw
    required: bool = False
    ties: bool = False
    of_full: Callable[[int], Draw] | None = None

    def draw(
        self, name: str, spec: InputSpec, *, seed: int, sample: int, full: int | None = None
    ) -> Array:
        """One input tensor in this pattern, the same on every machine.

        Args:
            full: of lengths, the size that none exceeds in the case.
        """
        made = self.values if self.of_full is None or full is None else self.of_full(full)
        values = made(inputs.generator(name, seed, sample), tuple(spec.shape))
        # Drawn in float64 and cast once: a pattern need not know the dtype.
        return dtypes.cast(np.asarray(values).reshape(spec.shape), dtypes.named(spec.dtype))


@dataclass(frozen=True)
class Group:
    """Inputs of one kind, which take their patterns together; the others are drawn as usual."""

    kind: str
    members: dict[str, list[Pattern]]


def groups(job: Job, limits: Sequence[float], *, nan: bool = False) -> list[Group]:
    """The patterns of a job's inputs, by kind.

    Args:
        limits: magnitudes that the model's code compares with.
        nan: whether it asks for missing values.
    """
    found: dict[str, dict[str, list[Pattern]]] = {}
    for name, spec in job.inputs.items():
        kind = kind_of(name, job)
        if kind is not None:
            found.setdefault(kind, {})[name] = _of_kind(kind, name, spec, job, limits)
            if nan and kind == "numbers":
                found[kind][name].append(Pattern("some NaN", _missing))
    return [Group(kind, members) for kind, members in found.items()]


def kind_of(name: str, job: Job) -> str | None:
    """``mask``, ``lengths``, ``whole numbers``, ``range``, ``numbers``; ``None``: pinned.

    Of a fill with a meaning the name of that, with ``stated`` before it; ``columns``.
    """
    spec = job.inputs[name]
    # Files are fed as they are: nothing else is known to be like them.
    if spec.filling in ("constant", "file"):
        return None
    if spec.filling in _STATED:
        return f"stated {spec.filling}"
    if spec.columns:
        return "columns"
    # `high` is exclusive: only 0 and 1 are left, a mask in whole numbers.
    if spec.dtype == "bool" or (spec.filling == "integers" and (spec.low, spec.high) == (0, 2)):
        return "mask"
    if spec.filling == "integers":
        return "lengths" if _full(name, job) is not None else "whole numbers"
    return "range" if spec.filling == "uniform" else "numbers"


def least(name: str, job: Job) -> Pattern | None:
    """The smallest whole numbers that an input may hold; ``None``: it holds none, or is pinned."""
    kind = kind_of(name, job)
    if kind not in ("lengths", "stated lengths", "whole numbers"):
        return None
    listed = _of_kind(kind, name, job.inputs[name], job, ())
    # By the names that the lists below give: the least is called otherwise in lengths.
    return next(pattern for pattern in listed if pattern.name in ("all one", "all least"))


def greatest(name: str, job: Job) -> Pattern | None:
    """The largest whole numbers that an input may hold; ``None``: it holds none, or is pinned."""
    if kind_of(name, job) != "whole numbers":
        return None
    listed = _of_kind("whole numbers", name, job.inputs[name], job, ())
    return next((pattern for pattern in listed if pattern.name == "all greatest"), None)


def _of_kind(
    kind: str, name: str, spec: InputSpec, job: Job, limits: Sequence[float]
) -> list[Pattern]:
    if kind.startswith("stated ") or kind == "columns":
        return _STATED[spec.filling if kind != "columns" else kind](name, spec)
    if kind == "mask":
        return _masks()
    if kind == "numbers":
        return _numbers(limits)
    if kind == "range":
        low, high = inputs.bounds(spec)
        return _range(low, high, spec.dtype, limits)
    bounds = inputs.integer_range(name, spec)
    low_, high_ = bounds if bounds is not None else (0, 1)
    if kind == "lengths":
        full = _full(name, job)
        assert full is not None, "that is what makes it lengths"
        return _lengths(full, *((low_, high_) if spec.low is not None else (1, full)))
    return _whole(low_, high_, limits)


def _full(name: str, job: Job) -> int | None:
    """The size that a length would be full at: of axis 1 of an input with as many rows."""
    spec = job.inputs[name]
    assert not isinstance(spec.low, list), "those are columns"
    assert not isinstance(spec.high, list), "those are columns"
    if len(spec.shape) != 1 or dtypes.named(spec.dtype).kind not in "iu":
        return None
    for other, beside in job.inputs.items():
        # As many lengths as the other input has rows: that is what tells them from other integers.
        if other == name or len(beside.shape) < 2 or beside.shape[0] != spec.shape[0]:
            continue
        within = spec.high is None or spec.high > 1
        if within and (spec.low is None or spec.low <= beside.shape[1]):
            return beside.shape[1]
    return None


def _numbers(limits: Sequence[float]) -> list[Pattern]:
    """Floats that nothing is declared of."""
    found = [
        Pattern("large", lambda rng, shape: 10 * rng.standard_normal(shape), required=True),
        Pattern("small", lambda rng, shape: rng.standard_normal(shape) / 100, required=True),
        Pattern("grid", _grid, required=True, ties=True),
    ]
    # A drawn sample lies on both sides of a small limit; its mean and its sign do not.
    large = [number for number in limits if number >= _SMALL_LIMIT][:_MOST_LIMITS]
    little = [number for number in limits if number < _SMALL_LIMIT][:_MOST_LIMITS]
    return [
        *found,
        *(Pattern(f"around {limit:g}", _around(limit)) for limit in large),
        *(Pattern(f"above {limit:g}", _within(1.05 * limit, 2 * limit)) for limit in little),
        # The cosine similarity of tiny vectors came out wrong from both exporters (torch 2.15).
        Pattern("tiny", lambda rng, shape: rng.standard_normal(shape) * 1e-5),
        Pattern(ZEROS, lambda rng, shape: np.zeros(shape), ties=True),
        Pattern("equal", lambda rng, shape: np.full(shape, 0.75), ties=True),
        Pattern("positive", lambda rng, shape: np.abs(rng.standard_normal(shape))),
        Pattern("negative", lambda rng, shape: -np.abs(rng.standard_normal(shape))),
        Pattern("some zeros", _sparse, ties=True),
        Pattern("huge", lambda rng, shape: 100 * rng.standard_normal(shape)),
        Pattern("rising", lambda rng, shape: _sorted(rng.standard_normal(shape))),
    ]


def _grid(rng: Generator, shape: tuple[int, ...]) -> Values:
    """Multiples of a tenth and of a half: zeros, equal elements and exact halves among them."""
    steps = rng.integers(-_STEPS, _STEPS + 1, shape)
    # Two of three in tenths, the rest in halves, which binary holds exactly.
    tenths = rng.integers(0, 3, shape) > 0
    return np.where(tenths, steps * _TENTH, steps * 0.5)


def _sorted(values: Values) -> Values:
    """Each row in order; a number without axes as it is."""
    return np.sort(values, axis=-1) if np.ndim(values) else values


def _missing(rng: Generator, shape: tuple[int, ...]) -> Values:
    return np.where(rng.integers(0, 4, shape) > 0, rng.standard_normal(shape), np.nan)


def _around(limit: float) -> Draw:
    return lambda rng, shape: rng.uniform(-2 * limit, 2 * limit, shape)


def _within(low: float, high: float) -> Draw:
    return lambda rng, shape: rng.uniform(low, high, shape)


def _sparse(rng: Generator, shape: tuple[int, ...]) -> Values:
    return rng.standard_normal(shape) * rng.integers(0, 2, shape)


def _range(low: float, high: float, dtype: str, limits: Sequence[float]) -> list[Pattern]:
    """Floats between declared bounds, the upper one excluded."""
    span = high - low
    kind = dtypes.named(dtype)

    def inside(values: Values) -> Values:
        # Rounding to the dtype may reach the upper bound, which is not part of the range.
        last = np.nextafter(kind.type(high), kind.type(low))
        return np.clip(dtypes.cast(values, kind), kind.type(low), last)

    def above(limit: float) -> float:
        return float(np.nextafter(kind.type(limit), kind.type(high)))

    def grid(rng: Generator, shape: tuple[int, ...]) -> Values:
        return inside(low + span * rng.integers(0, 10, shape) / 10)

    found = [
        Pattern("low end", lambda rng, shape: inside(low + _END * span * _touching(rng, shape)),
                required=True),
        Pattern("high end", lambda rng, shape: inside(high - _END * span * _touching(rng, shape)),
                required=True),
        Pattern("grid", grid, required=True, ties=True),
        Pattern("equal", lambda rng, shape: inside(np.full(shape, low + 0.75 * span)), ties=True),
    ]  # fmt: skip
    if low < 0 < high:  # or no draw would be all small, as a quiet recording is
        found.insert(2, Pattern("small", _within(low / 100, high / 100), required=True))
    for limit in [number for number in limits if low < number < high][:_MOST_LIMITS]:
        found += [
            Pattern(f"below {limit:g}", _within(low, limit)),
            Pattern(f"above {limit:g}", _within(above(limit), high)),
        ]
        if low < 0:
            found.append(Pattern(f"within {limit:g}", _within(max(low, -limit), limit)))
    found.append(
        Pattern("rising", lambda rng, shape: inside(_sorted(rng.uniform(low, high, shape))))
    )
    if low <= 0 < high:
        found.append(Pattern(ZEROS, lambda rng, shape: np.zeros(shape), ties=True))
    return found


def _touching(rng: Generator, shape: tuple[int, ...]) -> Values:
    """Shares between zero and one, zero itself among them."""
    return rng.uniform(0, 1, shape) * (rng.integers(0, 4, shape) > 0)


def _whole(low: int, high: int, limits: Sequence[float]) -> list[Pattern]:
    """Whole numbers, ``high`` included."""

    def ends(rng: Generator, shape: tuple[int, ...]) -> Values:
        return np.where(rng.integers(0, 2, shape) > 0, high, low)

    def stepping(rng: Generator, shape: tuple[int, ...]) -> Values:
        count = int(np.prod(shape))
        return (low + np.arange(count) % (high - low + 1)).reshape(shape)

    def rising(rng: Generator, shape: tuple[int, ...]) -> Values:
        size = shape[-1] if shape else 1
        step = max((high - low) // max(size - 1, 1), 1)
        return np.broadcast_to([min(low + n * step, high) for n in range(size)], shape or (1,))

    marks = _marks(low, high, limits)
    # They stand for buckets of the range that no number of the code names.
    quarters = sorted(
        {low + (high - low) * part // 4 for part in (1, 2, 3)} - {low, high, 0, *marks}
    )
    others = [quarters[at] for at in spread(len(quarters), _MOST_FILLED - len(marks))]
    found = [
        Pattern("both ends", ends, required=True, ties=True),
        *(Pattern(f"all {mark}", _all(mark), ties=True) for mark in marks),
        *_beside(marks, low, high),
        Pattern("all least", _all(low), ties=True),
        Pattern("all greatest", _all(high), ties=True),
        Pattern("in order", stepping),
        Pattern("rising", rising),
        *(Pattern(f"all {number}", _all(number), ties=True) for number in others),
    ]
    if low < 0:
        # Required: integer division and remainder go wrong only below zero.
        negative = Pattern(
            "negative", lambda rng, shape: rng.integers(low, min(high + 1, 0), shape), required=True
        )
        found.insert(1, negative)
    if low < 0 <= high:
        found.append(Pattern(ZEROS, lambda rng, shape: np.zeros(shape), ties=True))
    return found


def _marks(low: int, high: int, limits: Sequence[float]) -> list[int]:
    """A few limits, and products of two: ``n // 10 == 4`` holds from 40 on.

    They lie between ``low`` and ``high``, which have patterns of their own.
    """
    whole = sorted({int(limit) for limit in limits if limit == int(limit) and 2 <= limit <= high})
    single = [limit for limit in whole if low < limit < high]
    products = {a * b for a, b in combinations(whole, 2) if low < a * b < high} - {*single}
    found = []
    for listed in (single, sorted(products)):
        found += [listed[at] for at in spread(len(listed), _FEW_LIMITS)]
    return found


def _beside(marks: Sequence[int], low: int, high: int) -> list[Pattern]:
    """One pattern of all numbers next to the marks."""
    every = {mark + step for mark in marks for step in (-1, 0, 1)}
    near = sorted(number for number in every if low <= number <= high)
    name = f"around {', '.join(map(str, sorted(marks)))}"
    return [Pattern(name, lambda rng, shape: rng.choice(near, shape), ties=True)] if near else []


def spread(count: int, most: int) -> list[int]:
    """At most so many of the first ``count`` indices, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most)).tolist()})


def _all(number: int) -> Draw:
    return lambda rng, shape: np.full(shape, number)


def _lengths(full: int, low: int, high: int) -> list[Pattern]:
    """Lengths of the rows of another input, whose axis has ``full`` entries."""
    most, least = min(full, high), max(1, low)

    def mixed(rng: Generator, shape: tuple[int, ...]) -> Values:
        return np.linspace(most, least, max(shape[0], 1)).round()[: shape[0]]

    return [
        Pattern("all full", lambda rng, shape: np.full(shape, most), required=True),
        Pattern("all one", lambda rng, shape: np.full(shape, least), required=True),
        Pattern("mixed", mixed, required=True),
        Pattern("mixed, one full", _one_full(least, most)),
    ]


def _one_full(least: int, most: int) -> Draw:
    def values(rng: Generator, shape: tuple[int, ...]) -> Values:
        drawn = rng.integers(least, most + 1, shape)
        # By a slice, since an axis of size zero has no last row.
        drawn[-1:] = most
        return drawn

    return values


def _masks() -> list[Pattern]:
    """Zeros and ones along the last axis, as padding makes them."""
    return [
        # No row is full or empty: where such a row has no finite result, the others still have.
        Pattern("left-aligned", _aligned(right=False, full=False), required=True),
        Pattern("right-aligned", _aligned(right=True, full=False), required=True),
        Pattern("all true", lambda rng, shape: np.ones(shape, bool), required=True),
        Pattern("all false", lambda rng, shape: np.zeros(shape, bool), required=True),
        Pattern("left-aligned, one full", _aligned(right=False, full=True)),
        Pattern("right-aligned, one full", _aligned(right=True, full=True)),
    ]


def _aligned(*, right: bool, full: bool) -> Draw:
    """Rows of several lengths; the first is full where that is wanted."""

    def values(rng: Generator, shape: tuple[int, ...]) -> Values:
        size = shape[-1] if shape else 1
        rows = int(np.prod(shape[:-1])) if shape else 1
        lengths = [size, 1, size // 2, size - 1, 2] if full else [size - 1, 1, size // 2, 2]
        # At least one, where there is one: a row without any entry has no mean.
        taken = np.resize(np.clip(lengths, min(1, size), size), rows)
        places = np.arange(size)[::-1] if right else np.arange(size)
        return (places[None] < taken[:, None]).reshape(shape)

    return values


# Fills with a meaning: nothing is fed that the configuration says is never fed.


def _padded_masks(name: str, spec: InputSpec) -> list[Pattern]:
    """Zeros on the stated side only, and at least one 1 in each row."""
    left = spec.padding == "left"

    def of(lengths: Callable[[int], list[int]]) -> Draw:
        def values(rng: Generator, shape: tuple[int, ...]) -> Values:
            return inputs.padded(
                np.resize(lengths(shape[-1]), inputs.rows(shape)), shape, left=left
            )

        return values

    side = "left" if left else "right"
    return [
        Pattern(f"padded {side}", of(lambda n: [n - 1, 1, n // 2, 2]), required=True),
        Pattern("all ones", of(lambda n: [n]), required=True),
        Pattern(f"padded {side}, one full", of(lambda n: [n, 1, n // 2, n - 1]), required=True),
        Pattern("a single one", of(lambda n: [1])),
    ]


def _stated_lengths(name: str, spec: InputSpec) -> list[Pattern]:
    """Within the size of the stated axis, which is another one where that size moves."""

    def pattern(label: str, of: Callable[[int, int, int], Values], required: bool) -> Pattern:
        def made(full: int) -> Draw:
            least, most = inputs.length_range(spec, full)

            def values(rng: Generator, shape: tuple[int, ...]) -> Values:
                return np.resize(of(least, most, int(np.prod(shape))), shape)

            return values

        return Pattern(label, made(1), required=required, of_full=made)

    return [
        pattern("all full", lambda least, most, count: [most], True),
        # The name that `least` looks for, whatever the least is.
        pattern("all one", lambda least, most, count: [least], True),
        pattern(
            "mixed",
            lambda least, most, count: np.linspace(most, least, max(count, 2)).round(),
            True,
        ),
        pattern("one full", lambda least, most, count: [least, most], False),
    ]


def _ascending(name: str, spec: InputSpec) -> list[Pattern]:
    """Each row in order, within the bounds; equal neighbours are in order too."""
    low, high = inputs.ends(spec)
    span = high - low

    def at(shares: Callable[[Generator, tuple[int, ...]], Values]) -> Draw:
        def values(rng: Generator, shape: tuple[int, ...]) -> Values:
            found = np.clip(low + span * np.sort(shares(rng, shape), axis=-1), low, high)
            return found if holds_fractions(spec.dtype) else np.floor(found)

        return values

    def pairs(rng: Generator, shape: tuple[int, ...]) -> Values:
        return np.repeat(rng.uniform(0, 1, shape), 2, axis=-1)[..., : shape[-1]]

    def evenly(rng: Generator, shape: tuple[int, ...]) -> Values:
        return np.broadcast_to(np.linspace(0, 1, shape[-1]), shape)

    def near(end: float) -> Callable[[Generator, tuple[int, ...]], Values]:
        return lambda rng, shape: np.abs(end - _END * rng.uniform(0, 1, shape))

    return [
        Pattern("wide", at(evenly), required=True),
        Pattern("equal neighbours", at(pairs), required=True, ties=True),
        Pattern("low end", at(near(0.0))),
        Pattern("high end", at(near(1.0))),
        Pattern("all equal", at(lambda rng, shape: np.full(shape, 0.5)), ties=True),
    ]


def _classes(name: str, spec: InputSpec) -> list[Pattern]:
    def in_order(rng: Generator, shape: tuple[int, ...]) -> Values:
        rows = np.arange(inputs.rows(shape)) % max(shape[-1], 1)
        return inputs.one_hot(rows.reshape(shape[:-1]), shape)

    def always(place: Callable[[int], int]) -> Draw:
        return lambda rng, shape: inputs.one_hot(np.full(shape[:-1], place(shape[-1])), shape)

    return [
        Pattern("first", always(lambda n: 0), required=True),
        Pattern("last", always(lambda n: n - 1), required=True),
        Pattern("in order", in_order, required=True),
    ]


def _shares(name: str, spec: InputSpec) -> list[Pattern]:
    def peaked(rng: Generator, shape: tuple[int, ...]) -> Values:
        classes = rng.integers(0, max(shape[-1], 1), shape[:-1])
        return inputs.normalised(inputs.one_hot(classes, shape).astype(np.float64))

    return [
        Pattern("nearly certain", peaked, required=True),
        Pattern("equal", lambda rng, shape: inputs.normalised(np.ones(shape)), required=True,
                ties=True),
        Pattern("uneven", lambda rng, shape: inputs.normalised(rng.exponential(1, shape) ** 4)),
    ]  # fmt: skip


def _columns(name: str, spec: InputSpec) -> list[Pattern]:
    """Both ends of each column."""

    def at(shares: Callable[[Generator, tuple[int, ...]], Values]) -> Draw:
        return lambda rng, shape: inputs.in_columns(name, spec, shares(rng, shape))

    def in_turn(rng: Generator, shape: tuple[int, ...]) -> Values:
        places = np.arange(inputs.rows(shape))[:, None] + np.arange(shape[-1])[None]
        return (places % 2).reshape(shape)

    return [
        Pattern("low ends", at(lambda rng, shape: np.zeros(shape)), required=True, ties=True),
        Pattern("high ends", at(lambda rng, shape: np.ones(shape)), required=True, ties=True),
        Pattern("ends in turn", at(in_turn), required=True, ties=True),
        Pattern("either end", at(lambda rng, shape: rng.integers(0, 2, shape)), ties=True),
        Pattern("middles", at(lambda rng, shape: np.full(shape, 0.5)), ties=True),
    ]


def _vocabulary(name: str, spec: InputSpec) -> list[Pattern]:
    """Each word by itself, so that one whose mapping is wrong shows."""
    words = inputs.words(spec)

    def in_turn(rng: Generator, shape: tuple[int, ...]) -> Values:
        return np.resize(np.array(words, object), shape)

    def always(word: str) -> Draw:
        return lambda rng, shape: np.full(shape, word, object)

    alone = [words[at] for at in spread(len(words), _FEW_LIMITS)]
    return [
        Pattern("in turn", in_turn, required=True),
        *(Pattern(f"all {word!r}", always(word), ties=True) for word in alone),
    ]


_STATED: dict[str, Callable[[str, InputSpec], list[Pattern]]] = {
    "mask": _padded_masks,
    "lengths": _stated_lengths,
    "sorted": _ascending,
    "onehot": _classes,
    "probabilities": _shares,
    "columns": _columns,
    "words": _vocabulary,
}
