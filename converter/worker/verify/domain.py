"""On what a file was verified: ``ok`` means right there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converter.model.job import Job
from converter.model.records import Branch, Domain, InputDomain, SymbolDomain
from converter.model.verified import KEY, Verified
from converter.plan import samples
from converter.worker.inputs import cases
from converter.worker.inputs.inputs import sampled, varies
from converter.worker.recording import coverage
from converter.worker.reference.reference import Reference, References
from converter.worker.sources import data

__all__ = ["KEY", "of", "words"]

# The lists stand in every row of the manifest, and a budget may leave out many more cases.
_MOST_LISTED = 20


def of(
    references: References,
    job: Job,
    undecided: Mapping[str, str],
    open_: Sequence[Branch] = (),
) -> Domain:
    """The domain of the cases that were judged.

    Args:
        undecided: the labels of those that say nothing of the file, and why.
        open_: what no case reached of the lines that an exporter has frozen.
    """
    judged = [item for item in references.cases if item.case.label not in undecided]
    ways = [item.ways for item in judged]
    # Zero times anything is zero: what only such a case has reached still counts as not reached.
    telling = [item.ways for item in judged if not item.blind]
    unsaid = [f"{label}: {why}" for label, why in undecided.items()]
    return Domain(
        symbols=[_symbol(symbol, references, judged, job) for symbol in cases.symbols(job)],
        inputs=[_input(name, judged, job) for name in job.inputs],
        # Of all cases, those of zeros too: this counts what has run, not what was verified.
        branches_seen=len(set().union(*(item.taken for item in ways))),
        # One line may be frozen by the exporter and seen one way only: it is named once.
        unreached=coverage.by_line([*open_, *coverage.unreached(telling).values()]),
        left_out=_some(references.explored.left_out),
        dropped=_some([*references.explored.dropped, *unsaid]),
        claims=_claims(job),
        frozen=job.frozen,
    )


def words(domain: Domain) -> str:
    """The domain as a file carries it: JSON, the same for the same job on every machine."""
    return Verified.of(domain).words()


def _symbol(
    symbol: str, references: References, judged: Sequence[Reference], job: Job
) -> SymbolDomain:
    name, axis = cases.symbols(job)[symbol][0]
    # Of the arrays, since a case names only the sizes that it changes.
    sizes = {item.inputs[name].shape[axis] for item in judged}
    dims = cases.rules(job)
    # A size that was refused in one case and judged in another one is verified.
    refused = references.explored.refused.get(symbol, {})
    return SymbolDomain(
        symbol=symbol,
        traced=job.inputs[name].shape[axis],
        sizes=sorted(sizes),
        refused=sorted(set(refused) - sizes),
        rule=dims.words(symbol) or None,
        assumed=symbol in job.assumed,
    )


def _claims(job: Job) -> dict[str, str]:
    """The rules of symbols that are on outputs alone, or on no axis."""
    dims = cases.rules(job)
    return {symbol: dims.words(symbol) for symbol in dims.specs if symbol not in dims.inputs}


def _input(name: str, judged: Sequence[Reference], job: Job) -> InputDomain:
    spec = job.inputs[name]
    # NumPy finds no least element of an empty array. Some cases hold NaN on purpose.
    arrays = [item.inputs[name] for item in judged if item.inputs[name].size]
    # Strings have none either.
    arrays = [array for array in arrays if array.dtype.kind != "O"]
    found = [item.case.filled[name].name for item in judged if name in item.case.filled]
    drawn: str = spec.filling if varies(spec) else "pinned"
    if sampled(spec):
        drawn = _counted(len(samples.of(spec)), samples.name_of(str(spec.path)))
    real = sum(item.case.real is not None for item in judged)
    found += [f"data: {_counted(real, data.name(job))}"] if real else []
    # A quantised file may be judged on data alone, which is not what was drawn.
    ordinary = any(item.case.real is None and name not in item.case.filled for item in judged)
    found = [drawn, *found] if ordinary or not found else found
    return InputDomain(
        name=name,
        dtype=spec.dtype,
        low=min((_number(np.nanmin(array)) for array in arrays), default=None),
        high=max((_number(np.nanmax(array)) for array in arrays), default=None),
        # The ordinary draw is first, and a pattern that several cases have is listed once.
        patterns=list(dict.fromkeys(found)),
    )


def _counted(count: int, name: str) -> str:
    return f"{count} sample{'s' * (count != 1)} of {name}"


def _number(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _some(listed: Sequence[str]) -> list[str]:
    """The first of many, and how many more there are."""
    more = len(listed) - _MOST_LISTED
    return [*listed[:_MOST_LISTED], *([f"and {more} more"] if more > 0 else [])]
