"""Verification cases: which inputs a file is run on, beyond the traced example.

A case is declared here and drawn by ``inputs`` and ``patterns`` beside it.
What the PyTorch model accepts is not known, so cases are offered in order, and
``converter.worker.reference.exploration`` keeps those that work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice, zip_longest

import numpy as np

from converter.layout.files import require
from converter.model import lengths, urls
from converter.model.dims import Dims
from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.model.job import Job
from converter.plan import samples
from converter.worker.inputs import dtypes, patterns
from converter.worker.inputs.inputs import Array, draw, sampled, varies
from converter.worker.inputs.patterns import Group, Pattern

TRACED, SECOND = "traced", "second"
# A flag is drawn alike half of the time: that 20 draws agree is one in a million.
_TRIES = 20
_STRIDE = 1000  # even: a normal sample keeps its sign
_STEPS: tuple[int | str, ...] = ("one", 1, 2, -1, "double", 4, 8, 16, 32, 64, "half", 14, 7)
_STATED, _SHAPES, _SIZES, _VALUES = 200, 100, 300, 500  # where the samples of a kind begin
# Below it the files of a folder, by their place in it, the first two of them the example and the
# second sample. No input names more of them (`InputSpec.limit`).
_FILES = 100
# Sizes that code asks for: powers of two, multiples of 32, a prime, and their neighbours.
_USUAL = (
    1, 2, 3, 5, 4, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97,
    127, 128, 129, 255, 256, 257, 511, 512, 513,
)  # fmt: skip
STRIDES = (2, 4, 8)
# The widest stride that a number of the code may be, and how many sizes behind such are tried.
_WIDEST, _MOST_PRODUCTS = 64, 24
_LARGEST_GROWTH = 16
_MOST_SCALED = 3  # cases for the number of elements or bytes, of six that move all symbols


@dataclass(frozen=True)
class Sample:
    """A real sample, as ``data`` has it.

    Attributes:
        label: ``data 3: 007.npz``.
        inputs: by name, of the model's inputs.
        others: what else it holds, such as a label: for the metric.
        outputs: that were stored with it, by position.
    """

    label: str
    inputs: dict[str, Array]
    others: dict[str, Array] = field(default_factory=dict)
    outputs: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        label: names the case in the manifest (``traced``, ``batch=1``, ``large``, a user's label).
        inputs: by name, in the order of ``forward``.
        sample: seed offset; the traced example is 0.
        sizes: for a dynamic case the size of each symbol that differs from the example.
        filled: inputs that are filled in a pattern, the others as declared.
        real: a sample of ``data``, whose values are taken as they are: nothing is drawn then.
        stated: it is the traced example, the second sample or the user's own: it must hold.
        base: the symbol that was moved where others follow it by a rule.
        scale: the factor whose rounding its size gives away (``factors``).
    """

    label: str
    inputs: dict[str, InputSpec]
    sample: int
    sizes: dict[str, int] = field(default_factory=dict)
    filled: dict[str, Pattern] = field(default_factory=dict)
    stated: bool = False
    real: Sample | None = field(default=None, compare=False)
    base: str = ""
    scale: float | None = None

    @property
    def alone(self) -> str | None:
        """The one symbol that was moved, others only as its rule has it."""
        if len(self.sizes) == 1:
            return next(iter(self.sizes))
        return self.base or None

    def draw(self, seed: int) -> dict[str, Array]:
        if self.real is not None:
            # Copies: what a model does to its inputs must not reach the next one who asks.
            return {name: self.real.inputs[name].copy() for name in self.inputs}
        # What the user states must fit; what is taken from it at another size is cut or repeated.
        # The number of a sample says of which kind it is: from `_STATED` to `_SIZES` they are the
        # user's.
        read = 1 < self.sample < _FILES
        given = self.label == TRACED or read or _STATED <= self.sample < _SIZES
        drawn = partial(
            _unlike_the_first if self.label == SECOND else draw, seed=seed, resize=not given
        )
        return {
            name: self.filled[name].draw(
                name, spec, seed=seed, sample=self.sample, full=self._full(name)
            )
            if name in self.filled
            else drawn(name, spec, sample=self.sample, full=self._full(name))
            for name, spec in self.inputs.items()
        }

    def _full(self, name: str) -> int | None:
        """The size that no length of an input of lengths exceeds, at the sizes of this case."""
        if self.inputs[name].filling != "lengths":
            return None
        place = lengths.place(name, self.inputs, {})
        return self.inputs[place[0]].shape[place[1]] if place is not None else None

    def __str__(self) -> str:
        """``second (x 2×3)``: the label, and the shapes that it stands for."""
        shapes = (
            f"{name} {'×'.join(map(str, spec.shape)) or 'scalar'}"
            for name, spec in self.inputs.items()
        )
        return f"{self.label} ({', '.join(shapes)})"

    @property
    def shapes(self) -> dict[str, list[int]]:
        return {name: list(spec.shape) for name, spec in self.inputs.items()}

    @property
    def elements(self) -> int:
        """Of all inputs together."""
        return sum(math.prod(spec.shape) for spec in self.inputs.values())

    @property
    def ties(self) -> bool:
        """Whether many elements of an input are equal."""
        return any(pattern.ties for pattern in self.filled.values())


def _unlike_the_first(
    name: str, spec: InputSpec, *, seed: int, sample: int, resize: bool, full: int | None
) -> Array:
    """Other values than the traced example's: a flag would be the same half of the time."""
    if sampled(spec):
        # The second file as it is: those of other inputs belong to it.
        return draw(name, spec, seed=seed, sample=sample)
    first = values = draw(name, spec, seed=seed, sample=0, full=full)
    # What is pinned cannot differ: one draw is enough.
    for offset in range(0, _TRIES * _STRIDE if varies(spec) else 0, _STRIDE):
        values = draw(name, spec, seed=seed, sample=sample + offset, resize=resize, full=full)
        if not np.array_equal(values, first):
            break
    return values


def fixed(job: Job) -> list[Case]:
    """The traced example, the same shapes with other values, and what the user declared."""
    cases = [Case(TRACED, job.inputs, 0, stated=True)]
    # Where everything is pinned, a second sample would be the first one again.
    if any(varies(spec) for spec in job.inputs.values()):
        cases.append(Case(SECOND, job.inputs, 1, stated=True))
    cases += _of_files(job)
    for number, shapes in enumerate(job.verify.shapes):
        label = " ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
        inputs = {
            name: spec.model_copy(update={"shape": shapes.get(name, spec.shape)})
            for name, spec in job.inputs.items()
        }
        cases.append(Case(label, inputs, _SHAPES + number, stated=True))
    for number, declared in enumerate(job.verify.cases):
        inputs = dict(job.inputs)
        for name, change in declared.inputs.items():
            # A case is one sample, not a folder of such; one at a URL is told when it is read.
            if change.path is not None and not urls.is_url(change.path):
                require(Code.FORWARD, f"inputs.{name}.path", change.path)
            inputs[name] = change.on(inputs[name])
        cases.append(Case(declared.label, inputs, _STATED + number, stated=True))
    return cases


def _of_files(job: Job) -> list[Case]:
    """A case for each further file of the inputs that name a folder or a glob, in pairs.

    Raises:
        StageError: FORWARD, where such inputs have different numbers of files.
    """
    found = samples.sets(job.inputs)
    if not found:
        return []
    name, files = next(iter(found.items()))
    path = str(job.inputs[name].path)
    return [
        Case(f"sample {samples.below(path, file)}", job.inputs, number, stated=True)
        for number, file in enumerate(files[:_FILES])
        if number > 1
    ]


def of_data(job: Job, real: Iterable[Sample]) -> list[Case]:
    """A case for each real sample; it may have other sizes along dynamic axes.

    Raises:
        StageError: FORWARD, where a sample does not fit the inputs, with its name.
    """
    return [_of_sample(job, sample) for sample in real]


def _of_sample(job: Job, sample: Sample) -> Case:
    sizes: dict[str, int] = {}
    for name, spec in job.inputs.items():
        array, axes = sample.inputs[name], job.dynamic_axes.get(name, {})
        fixed = len(array.shape) == len(spec.shape) and all(
            axis in axes or size == wanted
            for axis, (size, wanted) in enumerate(zip(array.shape, spec.shape, strict=True))
        )
        if not fixed or array.dtype != dtypes.named(spec.dtype):
            wanted = ", ".join(axes.get(axis, str(size)) for axis, size in enumerate(spec.shape))
            raise StageError(
                Code.FORWARD,
                f"{sample.label}: {name} is {array.dtype}{list(array.shape)}, expected "
                f"{spec.dtype}[{wanted}]",
                "Sizes may differ along the axes of dynamic_axes; convert the sample, or state "
                "another shape or dtype.",
            )
        for axis, symbol in axes.items():
            if sizes.setdefault(symbol, array.shape[axis]) != array.shape[axis]:
                raise StageError(
                    Code.FORWARD,
                    f"{sample.label}: {symbol} is {sizes[symbol]} and, on axis {axis} of {name}, "
                    f"{array.shape[axis]}",
                    "Axes of one symbol have one size; give them other names in dynamic_axes.",
                )
    moved = {
        symbol: sizes[symbol]
        for symbol, ((name, axis), *_) in symbols(job).items()
        if sizes[symbol] != job.inputs[name].shape[axis]
    }
    inputs = {
        name: spec.model_copy(update={"shape": list(sample.inputs[name].shape)})
        for name, spec in job.inputs.items()
    }
    return Case(sample.label, inputs, _FILES, moved, stated=True, real=sample)


def left_out(job: Job) -> list[str]:
    """Files of folders and globs that are not read, in words."""
    found = []
    for name, spec in job.inputs.items():
        if spec.filling == "file":
            read = len(samples.of(spec))
            more = samples.left_out(str(spec.path), read)
            if more:
                found.append(
                    f"{name}: {more} more of {samples.name_of(str(spec.path))} (limit {read})"
                )
    return found


def symbols(job: Job) -> dict[str, list[tuple[str, int]]]:
    """Dynamic symbol → the (input, axis) pairs that carry it; outputs are left out."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, axes in job.dynamic_axes.items():
        if name in job.inputs:
            for axis, symbol in axes.items():
                found.setdefault(symbol, []).append((name, axis))
    return found


def rules(job: Job) -> Dims:
    """The rules of a job's sizes; a symbol without one may have any."""
    # All places of a symbol have one size, so that the first speaks for all.
    traced = {s: job.inputs[at[0][0]].shape[at[0][1]] for s, at in symbols(job).items()}
    return Dims(job.dims, traced, job.assumed)


def candidates(job: Job, moved: list[str]) -> Iterator[Case]:
    """Cases in which the symbols ``moved`` take other sizes, the most telling first.

    Size 1 comes first: it is where a frozen axis broadcasts in silence. Multiples and
    larger steps follow for models that need a divisor or a minimum. Where a rule is known they are
    the nearest sizes that it allows.
    """
    dims = rules(job)
    original = {symbol: dims.inputs[symbol] for symbol in moved}
    seen = [original]
    for number, step in enumerate(_STEPS):
        sizes = {}
        for order, (symbol, size) in enumerate(original.items()):
            # Symbols that move together move by different amounts, so that a mix-up shows.
            sizes[symbol] = _moved(size, step, order if len(moved) > 1 and step in (1, 2) else 0)
        # Of a size of 2 several steps lead to 1: tried twice, it would stand for two sizes.
        if any(size < 1 for size in sizes.values()):
            continue
        alone = moved[0] if len(moved) == 1 else ""
        for found in dims.near(alone, sizes[alone]) if alone else dims.moved(sizes):
            # A symbol that is 0 by its rule (an empty cache) comes later, with the usual sizes.
            if found not in seen and 0 not in found.values():
                seen.append(found)
                yield replace(_case(job, found, alone), sample=_SIZES + number)


def _case(job: Job, sizes: dict[str, int], moved: str = "") -> Case:
    """A case of other sizes; ``moved``: the one symbol that the others follow."""
    label = " ".join(f"{symbol}={size}" for symbol, size in sizes.items())
    base = moved if len(sizes) > 1 else ""
    return Case(label, resized(job.inputs, symbols(job), sizes), _SIZES, sizes, base=base)


def at_ends(job: Job) -> list[Case]:
    """Cases at the ends of the ranges that rules state: of each symbol, then of all together."""
    dims = rules(job)
    ends = {symbol: dims.ends(symbol) for symbol in dims.movers() if dims.ruled(symbol)}
    found = [_case(job, sizes, symbol) for symbol, both in ends.items() for sizes in both if sizes]
    for side in (0, 1):
        wanted = {s: sizes[s] for s, both in ends.items() if (sizes := both[side]) and s in sizes}
        if len(wanted) > 1:
            found += [_case(job, together) for together in dims.moved(wanted)]
    return list({case.label: case for case in found}.values())


def sizes_of(job: Job, case: Case) -> dict[str, int]:
    """The size of each symbol in a case."""
    return {s: case.inputs[at[0][0]].shape[at[0][1]] for s, at in symbols(job).items()}


def exactly(job: Job, sizes: Mapping[str, int]) -> Case:
    """A case of just these sizes, whatever the rules say; symbols that keep theirs are left out."""
    traced = rules(job).inputs
    return _case(job, {symbol: size for symbol, size in sizes.items() if size != traced[symbol]})


def _moved(size: int, step: int | str, extra: int) -> int:
    if step == "one":
        return 1
    if step == "double":
        return 2 * size
    if step == "half":
        return size // 2
    return size + int(step) + extra


def resized(
    inputs: dict[str, InputSpec],
    places: dict[str, list[tuple[str, int]]],
    sizes: dict[str, int],
) -> dict[str, InputSpec]:
    """Inputs whose symbols, found at ``places``, have other sizes."""
    shapes = {name: list(spec.shape) for name, spec in inputs.items()}
    for symbol, size in sizes.items():
        for name, axis in places[symbol]:
            shapes[name][axis] = size
    return {name: spec.model_copy(update={"shape": shapes[name]}) for name, spec in inputs.items()}


def of_sizes(job: Job, limits: Sequence[int]) -> tuple[list[Case], list[Case]]:
    """Cases in which one symbol takes another size: the promising ones, and the usual ones.

    Promising are sizes on both sides of a limit, also where a stride stands before it that is
    another such number, twice and four times the size of the example, and the sizes of other axes;
    usual ones those behind a stride of 2, 4 or 8 too.

    Args:
        limits: whole numbers that the model's code holds.
    """
    places = symbols(job)
    promising, usual = [], []
    every = {size for spec in job.inputs.values() for size in spec.shape}
    for symbol, at in places.items():
        size = job.inputs[at[0][0]].shape[at[0][1]]
        # The size itself too: code may say `>` or `>=`.
        near = [limit + step for limit in limits for step in (1, 0, -1)]
        # Behind a stride the two sides of a limit are a whole stride apart.
        behind = [limit * s + step for limit in limits for s in STRIDES for step in (s, 0)]
        products = [
            limit * s + step for limit in limits for s in limits if s <= _WIDEST for step in (s, 0)
        ]
        # Code may ask for another multiple than a rule has.
        near += _both_multiples(job, symbol, limits)
        first = [2 * size, 4 * size, *sorted(every), *near]
        seen = {size}
        # `seen` is shared by all three lists: no size is offered twice.
        likely = cheapest(job, symbol, first, seen)
        promising.append(likely + cheapest(job, symbol, products, seen)[:_MOST_PRODUCTS])
        usual.append(cheapest(job, symbol, [*_USUAL, 0, *behind], seen))
    return in_turn(promising), in_turn(usual)


def _both_multiples(job: Job, symbol: str, limits: Sequence[int]) -> list[int]:
    """Multiples of a limit that the stated divisor of a symbol allows as well."""
    spec = job.dims.get(symbol)
    divisor = spec.multiple_of if spec is not None else None
    if not divisor or divisor == 1:
        return []
    found = [math.lcm(divisor, limit) for limit in limits if limit > 1]
    return [times * size for size in found for times in (1, 2)]


def of_tables(job: Job, keys: Iterable[tuple[int, ...]]) -> list[Case]:
    """Cases whose first or last symbols take the sizes that the key of a table names together."""
    names = list(symbols(job))
    found: dict[str, Case] = {}
    for key in keys:
        # A single number is among the limits already.
        if not 1 < len(key) <= len(names):
            continue
        # The key does not say of which symbols.
        for some in (names[: len(key)], names[-len(key) :]):
            offered = _moved_together(job, dict(zip(some, key, strict=True)))
            found |= {case.label: case for case in offered if affordable(case, job)}
    return list(found.values())


def of_all_sizes(job: Job, limits: Iterable[float]) -> list[Case]:
    """Cases in which all symbols take other sizes together, cheapest first.

    Code may ask for two sizes at once, or for the number of elements: no axis alone shows that.
    They are twice and four times the sizes of the example; all sizes just above the largest limit
    that is affordable; and all scaled until an input has more elements or bytes than a limit, which
    one symbol alone does too.

    Args:
        limits: numbers that the model's code holds.
    """
    original = {s: job.inputs[at[0][0]].shape[at[0][1]] for s, at in symbols(job).items()}
    # Fractions limit values, not sizes.
    whole = sorted({int(limit) for limit in limits if limit == int(limit) and limit >= 2})

    def fitting(offered: Iterable[dict[str, int]]) -> Iterator[Case]:
        made = chain.from_iterable(_moved_together(job, sizes) for sizes in offered)
        return (case for case in made if case.sizes != original and affordable(case, job))

    found: list[Case] = []
    if len(original) > 1:
        found += fitting({s: times * size for s, size in original.items()} for times in (2, 4))
        above = fitting(dict.fromkeys(original, limit + 1) for limit in reversed(whole))
        # From the largest limit down, the first that is affordable.
        found += islice(above, 1)
    # Sums and products of whole numbers leave their range where there are many.
    found += (
        replace(case, label=f"{case.label}, {', '.join(filled)}: all greatest", filled=filled)
        for case in fitting([{s: 4 * size for s, size in original.items()}])
        if (filled := _greatest(job))
    )
    scaled = [case for case in fitting(_scaled(job, original, whole)) if case not in found]
    found += [scaled[at] for at in patterns.spread(len(scaled), _MOST_SCALED)]
    return sorted({case.label: case for case in found}.values(), key=lambda case: case.elements)


def _greatest(job: Job) -> dict[str, Pattern]:
    return {name: found for name in job.inputs if (found := patterns.greatest(name, job))}


def _scaled(job: Job, original: dict[str, int], limits: Sequence[int]) -> list[dict[str, int]]:
    """Sizes at which the largest input has just more elements or bytes than a limit, in order."""
    axes = Counter(name for at in symbols(job).values() for name, _ in at)
    largest = max(axes, key=lambda name: math.prod(job.inputs[name].shape), default=None)
    if largest is None:
        return []
    spec = job.inputs[largest]
    elements = math.prod(spec.shape)
    # In elements, and in bytes of this dtype: one more than fit below the limit.
    wanted = {
        limit // unit + 1 for limit in limits for unit in (1, dtypes.named(spec.dtype).itemsize)
    }
    found = []
    for count in sorted(count for count in wanted if count > elements > 0):
        # Each of its dynamic axes takes an equal share of the growth.
        scale = float(count / elements) ** (1 / axes[largest])
        found.append({symbol: math.ceil(size * scale) for symbol, size in original.items()})
    return found


def _moved_together(job: Job, sizes: dict[str, int]) -> list[Case]:
    return [_case(job, found) for found in rules(job).moved(sizes)]


def of_ends(job: Job, ends: Mapping[str, Sequence[int]]) -> list[Case]:
    """Cases for sizes beside the ends of the symbols' ranges (``worker.reference.ranges``)."""
    return in_turn([cheapest(job, symbol, sizes, set()) for symbol, sizes in ends.items()])


def with_least(job: Job, case: Case) -> Case | None:
    """The case with the smallest whole numbers: where those drawn may not fit its sizes."""
    filled = {name: found for name in job.inputs if (found := patterns.least(name, job))}
    # A case that fills inputs already has no drawn lengths that could be too long.
    if not filled or case.filled or not case.sizes:
        return None
    names = ", ".join(f"{name}: {pattern.name}" for name, pattern in filled.items())
    return replace(case, label=f"{case.label}, {names}", filled=filled)


def cheapest(job: Job, symbol: str, sizes: Iterable[int], seen: set[int]) -> list[Case]:
    """Cases for the sizes that are new, smallest first; too large ones are left out.

    Where a rule does not allow a size it is the nearest ones below and above that it allows.
    """
    dims = rules(job)
    found: dict[str, Case] = {}
    for size in sorted({size for size in sizes if size >= 0} - seen):
        seen.add(size)
        offered = dims.near(symbol, size)
        # A rule that was found may be wrong: what it excludes stays on trial.
        if symbol in dims.assumed and symbol not in dims.expressions:
            offered = [*offered, {symbol: size}]
        for sizes_ in offered:
            case = _case(job, sizes_, symbol)
            if affordable(case, job):
                found.setdefault(case.label, case)
    return list(found.values())


def affordable(case: Case, job: Job) -> bool:
    """Whether a case is small enough to be tried beside the required ones."""
    # The constant lets small inputs reach the sizes that code asks for, whatever their factor.
    return case.elements <= _LARGEST_GROWTH * Case("", job.inputs, 0).elements + 4096


def of_values(
    job: Job, limits: Sequence[float], *, nan: bool = False
) -> tuple[list[Case], list[Case]]:
    """Cases of the example's sizes whose values follow patterns: required ones, and others.

    Args:
        limits: magnitudes that the model's code compares with.
        nan: whether it asks for missing values.
    """
    groups = patterns.groups(job, limits, nan=nan)
    required = [_patterned(job, group, required=True, first=True) for group in groups]
    others = [_patterned(job, group, required=False, first=False) for group in groups]
    # In turn, so that no kind of input takes the whole budget.
    return in_turn(required), in_turn(others)


def _patterned(job: Job, group: Group, *, required: bool, first: bool) -> list[Case]:
    # One column for each input: row by row, all inputs of a group take the next pattern.
    columns = [
        [(name, pattern) for pattern in listed if pattern.required == required]
        for name, listed in group.members.items()
    ]
    found = []
    # Where one input has fewer patterns, the others go on without it.
    for number, row in enumerate(zip_longest(*columns)):
        filled = dict(item for item in row if item is not None)
        names = {pattern.name for pattern in filled.values()}
        what = ", ".join(filled) if len(job.inputs) > 1 else ""
        if len(names) == 1:
            label = f"{what}: {names.pop()}" if what else names.pop()
        else:
            label = ", ".join(f"{name}: {pattern.name}" for name, pattern in filled.items())
        # So that required patterns and others never draw the same numbers.
        sample = _VALUES + number + (0 if first else 50)
        found.append(Case(label, job.inputs, sample, filled=filled))
    return found


def in_turn(lists: Iterable[Sequence[Case]]) -> list[Case]:
    """The first of each list, then the second of each, and so on."""
    rows = zip_longest(*lists)
    return [case for case in chain.from_iterable(rows) if case is not None]
