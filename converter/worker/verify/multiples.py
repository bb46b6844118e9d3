"""The rule at whose sizes a wrong file may be right: ``dims: {h: {multiple_of: 2}}``.

PyTorch may take every size where a file takes multiples only. A file that refuses all others gives
nobody a wrong number: its rule is assumed, and said. One that is wrong there is refused; users who
feed nothing else may state the rule, and get the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from converter.model.job import Job
from converter.model.records import CaseCheck
from converter.model.spec import DimSpec
from converter.worker.inputs import cases
from converter.worker.reference import reference
from converter.worker.reference.reference import Reference, References
from converter.worker.sources.loading import Loaded

_WIDEST = 64
# So many sizes of a symbol besides the traced one must be right.
_FEWEST = 2


def rule(references: References, passed: Mapping[str, bool], job: Job) -> dict[str, int]:
    """Symbol → divisor where that holds in every case that was tried; else empty.

    Args:
        passed: whether the file is right, by the label of each case.
    """
    judged = [item for item in references.cases if item.case.label in passed]
    wrong = [item for item in judged if not passed[item.case.label]]
    # Where values matter no size is to blame. A rule that is stated already was no help.
    if not wrong or any(not item.case.sizes for item in wrong):
        return {}
    right = [item for item in judged if passed[item.case.label]]
    found: dict[str, int] = {}
    for symbol in cases.rules(job).movers():
        if symbol in job.dims:
            continue
        bad, good = _alone(wrong, symbol), _alone(right, symbol)
        if bad:
            divisor = next(_divisors(job, symbol, bad, good), None)
            if divisor is None:
                return {}
            found[symbol] = divisor
    if not found or any(_obeys(item, found, job) for item in wrong):
        return {}
    return found


def hint(divisors: Mapping[str, int]) -> str:
    """What users may state."""
    said = ", ".join(f"{symbol}: {{multiple_of: {n}}}" for symbol, n in divisors.items())
    return (
        f"if users feed no other sizes, state dims: {{{said}}}: the file is right at every such "
        "size that was tried"
    )


def refuses(checks: Sequence[CaseCheck], passed: Mapping[str, bool]) -> bool:
    """Whether the file runs in no case in which it is wrong."""
    # Of a case that did not run no output was compared.
    return all(not check.outputs for check in checks if not passed.get(check.label, True))


def assumed(
    loaded: Loaded, job: Job, divisors: Mapping[str, int], why: str
) -> tuple[Job, References]:
    """The job with the rule, and what PyTorch gives at its sizes.

    Args:
        why: how the file refuses another size.
    """
    dims = {symbol: DimSpec(multiple_of=divisor) for symbol, divisor in divisors.items()}
    ruled = job.model_copy(update={"dims": {**job.dims, **dims}})
    references = reference.compute(loaded, ruled)
    listed = ", ".join(f"{symbol} is a multiple of {n}" for symbol, n in divisors.items())
    note = f"assumed: {listed}: PyTorch takes other sizes too, and the file refuses them ({why})"
    references.unproven.insert(0, note)
    ruled = references.of_job(ruled)
    return ruled.model_copy(update={"assumed": [*ruled.assumed, *divisors]}), references


def relation(references: References, passed: Mapping[str, bool], job: Job) -> str | None:
    """A sum that the example keeps and every case with a wrong file breaks: ``total: past + 1``.

    A decoder of transformers pads a mask that is too short, so that PyTorch takes sizes which no
    user feeds, and the trace has no branch for them. Of the sum itself nothing was tried.
    """
    sizes = cases.rules(job).inputs
    free = [
        symbol
        for symbol in cases.rules(job).movers()
        # A name with a dash in it would read as a difference.
        if symbol in sizes and symbol not in job.dims and symbol.isidentifier()
    ]
    wrong = [
        cases.sizes_of(job, item.case)
        for item in references.cases
        if passed.get(item.case.label) is False
    ]
    for target in free:
        others = [symbol for symbol in free if symbol != target]
        pairs = combinations(others, 2)
        for names, rest in (*(((one,), 1) for one in others), *((pair, 0) for pair in pairs)):
            gaps = [each[target] - sum(each[one] for one in names) for each in (sizes, *wrong)]
            if wrong and gaps[0] == rest and rest not in gaps[1:]:
                said = " + ".join([*names, *(["1"] if rest else [])])
                return (
                    f"if {target} is always {said}, as in the example, state dims: "
                    f"{{{target}: {said}}}: every size at which the file is wrong breaks that"
                )
    return None


def _alone(items: Sequence[Reference], symbol: str) -> set[int]:
    """The sizes of cases that move one symbol; an empty axis says nothing."""
    return {
        size for item in items if item.case.alone == symbol and (size := item.case.sizes[symbol])
    }


def _divisors(job: Job, symbol: str, bad: set[int], good: set[int]) -> Iterator[int]:
    traced = cases.rules(job).inputs[symbol]
    for divisor in range(2, _WIDEST + 1):
        # Just these: of a file that is wrong at 1 alone, no multiple is the reason.
        apart = all(size % divisor for size in bad)
        just = apart and not any(size % divisor for size in {*good, traced})
        if just and len(good - {traced}) >= _FEWEST:
            yield divisor


def _obeys(item: Reference, divisors: Mapping[str, int], job: Job) -> bool:
    sizes = cases.sizes_of(job, item.case)
    return all(sizes[symbol] % divisor == 0 for symbol, divisor in divisors.items())
