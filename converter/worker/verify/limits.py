"""Which line of the model a file does not follow, and up to which size it is right.

Where an exporter turns a tensor into a Python number, torch warns and names the line; which way a
condition went in a case is known from watching it (``converter.worker.recording.coverage``).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.jit import TracerWarning  # type: ignore[attr-defined]  # torch's own name for it

from converter.model.job import Job
from converter.model.records import Branch
from converter.plugins import exporters
from converter.worker.recording import coverage, stages
from converter.worker.recording.coverage import Place, Ways
from converter.worker.reference import execution
from converter.worker.reference.reference import Reference, References
from converter.worker.sources.loading import Loaded

_MOST_LINES, _MOST_SIZES = 2, 6


@dataclass(frozen=True)
class FrozenPlaces:
    """Lines at which an exporter has frozen a number or a condition.

    Attributes:
        places: all of them.
        sizes: those at which a size became a number that is another one at other sizes.
    """

    places: list[Place] = field(default_factory=list)
    sizes: set[Place] = field(default_factory=set)


def frozen(
    exporter: str,
    caught: Sequence[warnings.WarningMessage],
    loaded: Loaded,
    references: References,
    job: Job,
) -> FrozenPlaces:
    """The lines that ``exporter`` froze, and which of them are numbers that sizes decide.

    Args:
        caught: the warnings of the export.
    """
    warned = [
        (warning.filename, warning.lineno)
        for warning in caught
        # Only these say that a tensor became a number of Python.
        if issubclass(warning.category, TracerWarning) and coverage.noted(warning.filename)
    ]
    places = _places(exporter, warned, references)
    # What cases have shown of a line needs no trace of its own, which is as dear as an export.
    known: set[Place] = set().union(*(item.ways.numbers for item in references.cases))
    known |= _conditions([item.ways for item in references.cases])
    # Only a trace makes numbers of sizes: torch.export keeps them as symbols, and a copy freezes
    # nothing.
    if exporters.load(exporter).CAPTURE != "trace" or known.issuperset(warned):
        return FrozenPlaces(places)
    return FrozenPlaces(places, _sizes(loaded, references, job) & set(places))


def _conditions(ways: Iterable[Ways]) -> set[Place]:
    """The lines that decide which way the code goes."""
    taken = set().union(*(item.taken for item in ways))
    # How often a loop turns is a number, and no way through the code.
    return {jump.place for jump, _ in taken if not jump.loop and coverage.decides(jump)}


def _sizes(loaded: Loaded, references: References, job: Job) -> set[Place]:
    """Where a size becomes a number that is another one in a case with other sizes.

    In a trace sizes are tensors, so that what they become can be seen; for eager PyTorch they are
    numbers already.
    """
    traced = references.cases[0]

    def moved(item: Reference) -> int:
        old, new = traced.case.shapes, item.case.shapes
        return sum(a != b for name in new for a, b in zip(old[name], new[name], strict=True))

    # The case that moves most sizes shows most lines at once; the smallest of those costs least.
    other = max(references.cases, key=lambda item: (moved(item), -item.case.elements))
    if not moved(other):
        return set()
    numbers: list[dict[Place, set[str]]] = []
    # The traced case as well: its references were made without a trace.
    for item in (traced, other):
        # Not those of the references: in a trace sizes are tensors, and would add numbers that
        # eager PyTorch never makes. `unreached` tells sizes by just that.
        ways = Ways()

        def run(item: Reference = item, ways: Ways = ways) -> None:
            arguments = execution.tensors(item.inputs, loaded.device)
            model = execution.replica(loaded.model)
            # `len` of a tensor is a size too. In eager PyTorch it converts nothing, so that it is
            # asked for here only.
            watched = coverage.converting(ways, ("__len__",))
            around = execution.bound(replace(loaded, model=model), job, arguments)
            with around as flat, watched, torch.no_grad():
                # The check would trace once more. Where it is strict, a model may return no dict.
                torch.jit.trace(  # type: ignore[no-untyped-call]
                    flat.torch_model, arguments, check_trace=False, strict=False
                )

        # A model may refuse to be traced at other sizes. Then nothing is known, and nothing is
        # claimed.
        if stages.refusal(run) is not None:
            return set()
        numbers.append(ways.numbers)
    first, second = numbers
    # A line that only one of the two traces has reached says nothing, and compares as equal.
    return {place for place, values in first.items() if values != second.get(place, values)}


def _places(exporter: str, warned: Sequence[Place], references: References) -> list[Place]:
    """The lines of the model's code at which an exporter has frozen a number or a condition.

    A trace warns of numbers and booleans, but not where a size or a comparison of tensors is one
    for Python anyway. torch.export follows sizes as symbols, takes the way of the example and
    notes a range that no file holds. So each condition that went one way may be frozen as well.

    Args:
        warned: lines that the tracer has named.
    """
    # The file is the source itself: nothing was captured that could be frozen.
    if exporters.load(exporter).CAPTURE == "copy":
        return []
    found = list(warned)
    # What only zeros have reached counts as not reached: eight times zero is zero.
    ways = [item.ways for item in references.cases if not item.blind]
    found += sorted(set().union(*(item.compared for item in ways)))
    found += [jump.place for jump, _ in coverage.unreached(ways)]
    # An autograd function with a `symbolic` writes its own operators, whatever its Python does.
    return [place for place in dict.fromkeys(found) if not coverage.replaced(place)]


def unreached(
    references: References, undecided: Collection[str], frozen: FrozenPlaces, *, symbols: bool
) -> list[Branch]:
    """What no case reached of the lines that an exporter has frozen, in a file that is right.

    Of a condition that is its other way, of a number another value, or that another value changes
    something. A number that eager PyTorch never makes is a size: it was another one where the
    sizes were.

    Args:
        undecided: labels of cases that say nothing of the file.
        symbols: whether the job has dynamic axes.
    """
    judged = [item for item in references.cases if item.case.label not in undecided]
    ways = [item.ways for item in judged if not item.blind]
    sides = coverage.unreached(ways)
    turns = coverage.unreached_turns(ways)
    conditions = _conditions(ways)
    # As text, since a dict of lists has no hash.
    moved = len({str(item.case.shapes) for item in judged}) > 1
    found = [branch for (jump, _), branch in sides.items() if jump.place in frozen.places]
    found += [branch for jump, branch in turns.items() if jump.place in frozen.places]
    for place in frozen.places:
        # `sides` and `turns` have said already what is open there.
        if place in conditions:
            continue
        values = set().union(*(item.numbers.get(place, set()) for item in ways))
        chosen = set().union(*(item.choices.get(place, set()) for item in ways))
        outcome = None
        # One number in every case, or a size in cases that never moved one: another was never
        # tried.
        if 1 in (len(values), len(chosen)) or (not values and symbols and not moved):
            outcome = "another value"
        # The number was another one and the file stayed right: it may matter where no case looked.
        elif len(values) > 1 or place in frozen.sizes:
            outcome = "an effect of its number"
        if outcome is not None:
            text, named = coverage.line_of(*place), coverage.shown(place[0])
            found.append(Branch(file=named, line=place[1], text=text, outcome=outcome))
    return coverage.by_line(found)


def explain(
    references: References,
    failed: Reference,
    passed: Mapping[str, bool],
    places: Sequence[Place],
) -> str | None:
    """Where a file stops being right and at which line of the model, in words, or ``None``.

    Args:
        failed: the case that shows the error.
        passed: whether the file is right, by the label of each case.
        places: lines that the exporter has frozen.
    """
    limit = _limit(references, failed, passed)
    lines = _lines(references, failed, passed, places)
    at = " and ".join(f"{coverage.shown(f)}:{n} `{coverage.line_of(f, n)}`" for f, n in lines)
    return ": ".join(part for part in (limit, at) if part) or None


def _limit(references: References, failed: Reference, passed: Mapping[str, bool]) -> str:
    # Where several sizes moved at once, none of them is known to be the limit.
    symbol = failed.case.alone
    if symbol is None:
        return ""
    traced = references.cases[0].case
    right: set[int] = set()
    wrong: set[int] = set()
    if any(
        not passed.get(item.case.label, True) for item in references.cases if not item.case.sizes
    ):
        return ""  # values matter, not this size
    for item in references.cases:
        if item.case.label not in passed or (item.case.sizes and item.case.alone != symbol):
            # Not judged, or of other symbols too: neither tells where this symbol stops.
            continue
        size = item.case.sizes.get(symbol)
        if size:  # of nothing most results are right by chance
            (right if passed[item.case.label] else wrong).add(size)
    # The traced example names no sizes, and has one all the same.
    if passed.get(traced.label):
        right.add(_size(references, failed, symbol))
    if not right or not wrong:
        return ""
    # Both sides are clean: the limit lies between them, and saying more would be a guess.
    if max(right) < min(wrong):
        return f"right up to {symbol} = {max(right)}"
    if min(right) > max(wrong):
        return f"right from {symbol} = {min(right)} to {max(right)}"
    listed = [*map(str, sorted(wrong)[:_MOST_SIZES]), *["…"] * (len(wrong) > _MOST_SIZES)]
    return f"wrong at {symbol} = {', '.join(listed)}"


def _size(references: References, failed: Reference, symbol: str) -> int:
    """The traced size of a symbol: where the shapes of two cases differ by it alone."""
    first = references.cases[0].case.shapes
    for name, shape in failed.case.shapes.items():
        for axis, size in enumerate(shape):
            # The symbol is the one axis that differs. Another axis of the same size has not moved.
            if size == failed.case.sizes[symbol] and first[name][axis] != size:
                return first[name][axis]
    return failed.case.sizes[symbol]


def _lines(
    references: References,
    failed: Reference,
    passed: Mapping[str, bool],
    places: Sequence[Place],
) -> list[Place]:
    """Conditions that went a way that they go in no case that is right; else what was frozen."""
    # At a size of zero a file is right by chance, whichever way the code went.
    right = [
        item.ways
        for item in references.cases
        if passed.get(item.case.label) and 0 not in item.case.sizes.values()
    ]
    known = set().union(*(ways.taken for ways in right))
    every = [item.ways for item in references.cases]
    new = [jump for jump, _ in failed.ways.taken - known]
    asked = [jump for jump in new if coverage.speaks_of_input(jump, every)]
    # Else what ran in no case that is right: the handler of an exception has no condition.
    ran = {jump for jump, _ in known}
    found = sorted({jump.place for jump in asked or [jump for jump in new if jump not in ran]})
    preferred = [place for place in found if place in places] or found or list(places)
    return preferred[:_MOST_LINES]
