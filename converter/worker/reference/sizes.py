"""The rules of sizes that a PyTorch model has and nobody stated, found by trying it.

Where PyTorch refuses sizes, they may follow a rule: only multiples of 8, at least 7, at most 512;
or two symbols go together: ``total = past + 1``, ``w = h``, ``b = 2 * a``. A rule is assumed only
where it fits all that was tried: what PyTorch takes obeys it, and what it refuses breaks it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from converter.model import dims as rules
from converter.model.dims import Dims
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.spec import DimSpec
from converter.worker.inputs import cases
from converter.worker.inputs.cases import Case
from converter.worker.reference.exploration import Exploration, Explored

# The largest divisor that is looked for, and as many sizes must agree with a rule.
_WIDEST, _SIZES = 64, 3
# Tries of one model: enough for a divisor, however dear; cheap ones may have several rules.
_FEWEST, _MOST, _SHARE = 72, 320, 5
# How far two symbols move together: by one, and by what multiples of 2, 3, 5 and 7 allow.
_TOGETHER = (1, 64, 60, 56, -1)
_FACTORS = (2, 3, 4, 8, 16)
_LONGEST = 100
# How the reason of a refusal begins: the label of its case.
_CASE = re.compile(r"^at [^:]*(: all (least|one))?: ")

Move = Callable[[int], dict[str, int]]


def find(search: Exploration, explored: Explored, passes: float) -> list[str]:
    """Find rules and give ``search.job`` to them; axes that ``all`` named and PyTorch fixes go.

    Args:
        passes: the budget of the job's cases.

    Returns:
        What the record of a right file has to say of them.
    """
    # Where every size that was tried is taken, nothing is looked for and nothing is run.
    if not _refused(search.job, explored):
        return []
    finder = _Finder(search, explored, max(_FEWEST, min(_MOST, int(_SHARE * passes))))
    notes = finder.related() + finder.single()
    return notes + (finder.fixed() if search.job.every_axis else [])


def _refused(job: Job, explored: Explored) -> dict[str, dict[int, str]]:
    """Symbol → sizes that PyTorch refuses and the known rules allow; empty tensors say nothing."""
    dims = cases.rules(job)
    found: dict[str, dict[int, str]] = {}
    for symbol, sizes in explored.refused.items():
        if symbol not in dims.inputs:
            continue
        for size, why in sizes.items():
            changed = dims.near(symbol, size)
            if size > 0 and [each.get(symbol) for each in changed] == [size]:
                found.setdefault(symbol, {})[size] = why
    return found


@dataclass(frozen=True)
class _Relation:
    """``target = factor * base + rest``."""

    base: str
    target: str
    factor: int
    rest: int

    def text(self, base: str | None = None) -> str:
        name = base or self.base
        term = name if self.factor == 1 else f"{self.factor} * {name}"
        sign = "+" if self.rest > 0 else "-"
        return f"{term} {sign} {abs(self.rest)}" if self.rest else term


class _Finder:
    def __init__(self, search: Exploration, explored: Explored, tries: int) -> None:
        self._search, self._explored, self._left = search, explored, tries

    @property
    def _dims(self) -> Dims:
        return cases.rules(self._search.job)

    def _takes(self, sizes: Mapping[str, int]) -> bool:
        """Whether PyTorch takes these sizes; nothing is below one, too large or without end."""
        traced = self._dims.inputs
        if not sizes or any(size < 1 for size in sizes.values()):
            return False
        if all(traced[symbol] == size for symbol, size in sizes.items()):
            return True
        case = cases.exactly(self._search.job, sizes)
        if not cases.affordable(case, self._search.job):
            return False
        if not self._search.tried(case):
            if self._left <= 0:
                return False
            self._left -= 1
        return self._search.takes(case)

    def _assume(self, added: Mapping[str, DimSpec]) -> None:
        job = self._search.job
        assumed = [*job.assumed, *(symbol for symbol in added if symbol not in job.assumed)]
        changes = {"dims": {**job.dims, **added}, "assumed": assumed}
        self._search.job = job.model_copy(update=changes)

    def _moved(self, symbol: str) -> set[int]:
        """Other sizes that PyTorch took of one symbol; 1 is left out, at which it broadcasts."""
        kept = [case for case, _, _ in self._explored.kept if case.alone == symbol]
        return {case.sizes[symbol] for case in kept} - {1, self._dims.inputs[symbol]}

    # Symbols that move together

    def _stuck(self) -> list[str]:
        """Symbols without a rule that PyTorch takes at no other size by themselves."""
        dims = self._dims
        return [
            symbol
            for symbol in dims.inputs
            # A name with a dash in it would read as a difference.
            if symbol.isidentifier() and not dims.ruled(symbol) and not self._moved(symbol)
        ]

    def related(self) -> list[str]:
        """Symbols that only move together."""
        found: list[_Relation] = []
        for symbol in self._stuck():
            if any(symbol in (each.base, each.target) for each in found):
                continue
            for offered in self._offered(symbol, found):
                group = self._group(symbol, offered)
                if group:
                    found += group
                    break
        return self._stated(found)

    def _offered(self, symbol: str, found: Sequence[_Relation]) -> Iterator[list[str]]:
        """Groups in which a symbol may move, the likeliest first."""
        stuck, sizes = self._stuck(), self._dims.inputs
        places = cases.symbols(self._search.job)
        axis = places[symbol][0][1]
        others = [other for other in stuck if other != symbol]
        alike = [other for other in others if sizes[other] == sizes[symbol]]
        beside = [other for other in alike if places[other][0][1] == axis]
        seen: list[set[str]] = []
        for group in (beside, alike, *([o] for o in alike), *([o] for o in others), others):
            if group and set(group) not in seen:
                seen.append(set(group))
                yield [symbol, *group]

    def _group(self, symbol: str, group: list[str]) -> list[_Relation]:
        """The relations of the least group that moves; none where it does not."""
        sizes = self._dims.inputs

        def together(names: Sequence[str]) -> Move:
            return lambda by: {name: sizes[name] + by for name in names}

        for by in _TOGETHER:
            if self._takes(together(group)(by)):
                for other in list(group[1:]):
                    fewer = [name for name in group if name != other]
                    if len(fewer) > 1 and self._takes(together(fewer)(by)):
                        group = fewer
                return self._offsets(group, by)
        return self._factor(*group) if len(group) == 2 else []

    def _offsets(self, group: Sequence[str], by: int) -> list[_Relation]:
        sizes = self._dims.inputs
        base = min(group, key=lambda name: sizes[name])
        targets = [name for name in group if name != base]
        moves = [{name: sizes[name] + n * by for name in group} for n in (2, 3, 5, -1)]
        # One apart and they do not fit: else each may have any size.
        apart = [
            {name: sizes[name] + (2 * by if name == target else by) for name in group}
            for target in targets
        ]
        if sum(map(self._takes, moves)) < _SIZES - 1 or any(map(self._takes, apart)):
            return []
        return [_Relation(base, name, 1, sizes[name] - sizes[base]) for name in targets]

    def _factor(self, one: str, other: str) -> list[_Relation]:
        sizes = self._dims.inputs
        base, target = sorted((one, other), key=lambda name: sizes[name])
        exact = [sizes[target] // sizes[base]] if sizes[base] else []
        for factor in dict.fromkeys([*exact, *_FACTORS]):
            moves = [
                {base: sizes[base] + by, target: sizes[target] + factor * by} for by in (1, 2, 3, 5)
            ]
            if factor > 1 and self._takes(moves[0]) and sum(map(self._takes, moves)) >= _SIZES:
                return [_Relation(base, target, factor, sizes[target] - factor * sizes[base])]
        return []

    def _stated(self, relations: Sequence[_Relation]) -> list[str]:
        """Assume relations; a symbol that follows two others by one step each is their sum."""
        by_target: dict[str, list[_Relation]] = {}
        for each in relations:
            by_target.setdefault(each.target, []).append(each)
        notes, sizes = [], self._dims.inputs
        for target, listed in by_target.items():
            first = listed[0]
            text = first.text()
            follower = self._summand(first, by_target)
            if follower is not None:
                rest = sizes[target] - sizes[first.base] - sizes[follower]
                text = _Relation("", target, 1, rest).text(f"{first.base} + {follower}")
            why = self._explored.refused.get(target) or self._explored.refused.get(first.base, {})
            if not self._held(target, DimSpec(equals=text)):
                continue
            self._assume({target: DimSpec(equals=text)})
            # Alone they were refused for breaking the rule: that says nothing of these sizes.
            for name in (*self._dims.leaves_of(target), target):
                self._explored.refused.pop(name, None)
            notes.append(f"assumed: {target} = {text} (alone neither moves{_because(why)})")
        return notes

    def _held(self, target: str, spec: DimSpec) -> bool:
        """Whether all that PyTorch takes obeys a relation; where a size of 1 broadcasts is dropped.

        An axis of size 1 goes with any other one. A case of it says nothing of the relation, and
        its sizes are those of no symbol that a file could name.
        """
        job = self._search.job
        dims = cases.rules(job.model_copy(update={"dims": {**job.dims, target: spec}}))
        concerned = {target, *dims.leaves_of(target)}
        broken = []
        for case, _, _ in self._explored.kept:
            sizes = cases.sizes_of(job, case)
            if dims.broken({s: n for s, n in sizes.items() if s in concerned}) is None:
                continue
            if case.stated or 1 not in {sizes[symbol] for symbol in concerned}:
                return False
            broken.append(case.label)
        self._search.forget(lambda case: case.label in broken)
        return True

    def _summand(self, first: _Relation, known: Mapping[str, Sequence[_Relation]]) -> str | None:
        """Another stuck symbol that moves the same target: ``total = past + length``."""
        if first.factor != 1:
            return None
        sizes = self._dims.inputs
        target, base = first.target, first.base
        for other in self._stuck():
            if other in (target, base) or other in known or not sizes[other]:
                continue
            with_other = {other: sizes[other] + 1, target: sizes[target] + 1}
            both = {base: sizes[base] + 1, other: sizes[other] + 2, target: sizes[target] + 3}
            further = {base: sizes[base] + 3, other: sizes[other] + 1, target: sizes[target] + 4}
            if all(map(self._takes, (with_other, both, further))):
                return other
        return None

    # One symbol

    def single(self) -> list[str]:
        """Divisors and ends of the symbols whose sizes PyTorch refuses."""
        notes = []
        for symbol, refused in _refused(self._search.job, self._explored).items():
            spec = self._search.job.dims.get(symbol)
            # An expression that was stated is left as it is.
            if spec is not None and (spec.equals or symbol not in self._dims.movers()):
                continue
            if self._search.job.every_axis and not self._moved(symbol):
                continue
            found = self._rule(symbol, spec)
            if found is None or not self._fits(symbol, found):
                continue
            said = _said(found, spec, self._dims.inputs[symbol])
            if not said:
                continue
            self._assume({symbol: found})
            notes.append(f"assumed: {rules.sentence(symbol, said)} (PyTorch refuses{_at(refused)})")
        return notes

    def _move(self, symbol: str) -> Move:
        """Moves a symbol, and what follows it."""
        dims, size = self._dims, self._dims.inputs[symbol]

        def move(by: int) -> dict[str, int]:
            found = dims.assigned({symbol: size + by})
            return {
                name: found.get(name, old)
                for name, old in dims.inputs.items()
                if found.get(name) != old
            }

        return move

    def _rule(self, symbol: str, spec: DimSpec | None) -> DimSpec | None:
        traced, move = self._dims.inputs[symbol], self._move(symbol)
        step = spec.multiple_of if spec is not None and spec.multiple_of else 1
        # What was taken already narrows it: a larger size may be beyond an end.
        known = math.gcd(*(size - traced for size in self._moved(symbol)))
        divisor = self._divisor(move, step, known)
        if divisor is None:
            return None
        rest = traced % divisor
        low = self._least(move, traced, divisor, rest or divisor)
        high = self._greatest(symbol, move, traced, divisor)
        least = rest or divisor
        changes: dict[str, object] = {}
        if low > max(least, 1):
            changes["min"] = low
        if high is not None:
            changes["max"] = high
        if divisor > 1 and rest == 0:
            changes["multiple_of"] = divisor
        elif divisor > 1:
            changes["equals"] = f"{divisor} * {self._variable(symbol)} + {rest}"
        stated = spec.model_dump(exclude_none=True) if spec is not None else {}
        return DimSpec.model_validate({**changes, **stated, **_multiple(changes, stated)})

    def _variable(self, symbol: str) -> str:
        taken = {*self._dims.inputs, *self._dims.specs, *self._dims.variables}
        return next(name for name in ("k", f"{symbol}_k", f"{symbol}_k_") if name not in taken)

    def _divisor(self, move: Move, step: int, known: int) -> int | None:
        """The one distance at whose multiples PyTorch takes a size; ``None``: there is none.

        Args:
            step: a divisor of it.
            known: a multiple of it; 0: none is known.
        """
        open_ = {n for n in range(1, _WIDEST + 1) if n % step == 0} or {step}
        open_ = {n for n in open_ if known % n == 0} or {step}
        taken = known > 0
        while len(open_) > 1:
            by = max(sorted(range(step, _WIDEST + 1, step)), key=_telling(open_, taken))
            dividing = {n for n in open_ if by % n == 0}
            if self._takes(move(by)) or self._takes(move(-by)):
                open_, taken = dividing, True
            else:
                open_ -= dividing
        if not open_:
            return None
        (found,) = open_
        # Three sizes with the example, on either side.
        tried = (found * n for n in (1, -1, 2, -2, 3, 4))
        if sum(self._takes(move(by)) for by in tried) < _SIZES - 1:
            return None
        return found

    def _least(self, move: Move, traced: int, step: int, least: int) -> int:
        """The least size of a step that PyTorch takes, found by halving."""
        if self._takes(move(least - traced)):
            return least
        # In steps: `low` is refused, `high` is taken.
        low, high = (least - traced) // step, 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._takes(move(middle * step)) else (middle, high)
        return traced + high * step

    def _greatest(self, symbol: str, move: Move, traced: int, step: int) -> int | None:
        """The greatest size that PyTorch takes, where it refused one above all that it takes."""
        taken = max({traced, *self._moved(symbol)})
        refused = [
            size
            for size in _refused(self._search.job, self._explored).get(symbol, {})
            if size > taken and (size - traced) % step == 0
        ]
        if not refused:
            return None
        low, high = (taken - traced) // step, (min(refused) - traced) // step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._takes(move(middle * step)) else (low, middle)
        return traced + low * step

    def _fits(self, symbol: str, spec: DimSpec) -> bool:
        """Whether all that PyTorch takes obeys a rule, and all that it refuses breaks it."""
        job = self._search.job
        dims = cases.rules(job.model_copy(update={"dims": {**job.dims, symbol: spec}}))

        def obeys(size: int) -> bool:
            return dims.broken({symbol: size}) is None

        taken = [cases.sizes_of(job, case)[symbol] for case, _, _ in self._explored.kept]
        taken = [size for size in taken if size > 0]
        refused = [size for size in self._explored.refused.get(symbol, {}) if size > 0]
        return all(map(obeys, taken)) and not any(map(obeys, refused))

    # Axes that nobody named

    def fixed(self) -> list[str]:
        """Leave out the axes of ``dynamic_axes: all`` that PyTorch takes at no other size."""
        job = self._search.job
        dims = self._dims
        kept = [case.sizes for case, _, _ in self._explored.kept]
        moved = {s for each in kept for s, size in each.items() if size not in (1, dims.inputs[s])}
        still = [s for s in dims.inputs if s not in moved and not dims.ruled(s)]
        if not still:
            return []
        places = cases.symbols(job)
        listed = ", ".join(
            f"{places[s][0][0]} axis {places[s][0][1]} ({dims.inputs[s]})" for s in still
        )
        axes = {
            name: {axis: symbol for axis, symbol in found.items() if symbol not in still}
            for name, found in job.dynamic_axes.items()
        }
        axes = {name: found for name, found in axes.items() if found}
        self._search.job = job.model_copy(update={"dynamic_axes": axes})
        self._search.forget(lambda case: any(symbol in case.sizes for symbol in still))
        for symbol in still:
            self._explored.refused.pop(symbol, None)
        return [f"fixed, since PyTorch takes no other size: {listed}"]


def _multiple(changes: Mapping[str, object], stated: Mapping[str, object]) -> dict[str, object]:
    """A divisor that was found within the multiples that were stated narrows them."""
    both = "multiple_of" in changes and "multiple_of" in stated
    return {"multiple_of": changes["multiple_of"]} if both else {}


def _telling(open_: set[int], taken: bool) -> Callable[[int], tuple[int, int]]:
    """How much a distance tells of the divisors that are open, the smaller one first."""

    def telling(by: int) -> tuple[int, int]:
        dividing = sum(by % n == 0 for n in open_)
        # Once something was taken halves tell most; until then what covers most.
        return (min(dividing, len(open_) - dividing) if taken else dividing), -by

    return telling


def _said(found: DimSpec, stated: DimSpec | None, traced: int) -> str:
    """What is new in a rule, in words."""
    known = stated.model_dump(exclude_none=True) if stated is not None else {}
    new = {k: v for k, v in found.model_dump(exclude_none=True).items() if known.get(k) != v}
    return rules.words(DimSpec.model_validate(new)) if new else ""


def _at(refused: Mapping[int, str]) -> str:
    size = min(refused)
    why = _CASE.sub("", refused[size])
    return f" {size}: {_short(why)}" if why else f" {size}"


def _because(refused: Mapping[int, str]) -> str:
    return f"; PyTorch refuses{_at(refused)}" if refused else ""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def check_ends(job: Job, refused: Sequence[tuple[Case, str]]) -> None:
    """Raise where PyTorch does not take the end of a range that is stated.

    Raises:
        StageError: DIM_SPECIALISED.
    """
    dims = cases.rules(job)
    for case, why in refused:
        symbol = case.alone
        if symbol is None:
            continue
        spec = dims.specs.get(symbol)
        said = rules.words(spec) if spec is not None else "its rule"
        raise StageError(
            Code.DIM_SPECIALISED,
            f"dims.{symbol} ({said}) allows {case.sizes[symbol]}, which PyTorch does not take"
            + (f" ({why})" if why else ""),
            "state the range that the model takes",
        )


def notes(job: Job, explored: Explored) -> list[str]:
    """Sentences on rules for the record of a right file."""
    found = [f"{symbol} is fixed at {size} on purpose" for symbol, size in job.frozen.items()]
    ends = {case.label for case in cases.at_ends(job)} if job.dims else set()
    missing = [label for label in explored.left_out if label in ends]
    if missing:
        listed = ", ".join(missing)
        found.append(f"{listed}: the end of a range in dims is too large to be tried here")
    for symbol, sizes in _refused(job, explored).items():
        if symbol in job.dims and symbol not in job.assumed:
            size = min(sizes)
            found.append(f"dims.{symbol} allows {size}, and PyTorch refuses it ({sizes[size]})")
    return found
