"""What was proved of a file, before and after: the verdict, the cases, the dynamic axes.

A file that is as good as yesterday's but no longer proved is worse: a green run would lie.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from converter.compare.status import works
from converter.model.changes import Change
from converter.model.manifest import ArtifactRow
from converter.model.records import CaseCheck, Domain
from converter.model.verified import sizes

# As `converter.worker.verify.domain` calls them.
_SAMPLES = re.compile(r"(?:data: )?(?P<count>\d+) samples? of (?P<of>.*)")


def changes(before: ArtifactRow, after: ArtifactRow) -> list[Change]:
    """What is no longer proved; of a model that fails now its status says enough."""
    was, now = before.verify.status, after.verify.status
    if was != "passed" or not works(after):
        return []
    if now != "passed":
        detail = after.verify.reason or "the file is not compared with PyTorch"
        return [
            Change(
                model=after.name,
                kind="verification",
                severity="regression",
                before=was,
                after=now,
                detail=detail,
            )
        ]
    return [*_cases(before, after), *_dynamic(before, after), *_domain(before, after)]


def _cases(before: ArtifactRow, after: ArtifactRow) -> Iterable[Change]:
    """Fewer cases on a provider. That a provider went altogether is told by its latency."""
    held = Counter(case.provider for case in after.verify.cases)
    for provider, number in Counter(case.provider for case in before.verify.cases).items():
        # `held and`: where no provider has a case left it is not a provider that went.
        if held[provider] >= number or (held and not held[provider]):
            continue
        labels = _labels(before.verify.cases, provider)
        left = _labels(after.verify.cases, provider)
        gone = ", ".join(label for label in labels if label not in left)
        yield Change(
            model=after.name,
            kind="cases",
            before=number,
            after=held[provider],
            detail=f"on {provider}; gone: {gone}" if gone else f"on {provider}",
        )


def _labels(cases: Iterable[CaseCheck], provider: str) -> list[str]:
    return [case.label for case in cases if case.provider == provider]


def _dynamic(before: ArtifactRow, after: ArtifactRow) -> Iterable[Change]:
    """Axes that are declared still, and were proved dynamic."""
    proved = {(axis.input, axis.axis) for axis in after.verify.dynamic if axis.passed}
    then = [axis for axis in before.verify.dynamic if axis.passed]
    lost = [
        f"axis {axis.axis} of {axis.input} ({axis.declared})"
        for axis in then
        if (axis.input, axis.axis) not in proved
        and axis.axis in after.request.dynamic_axes.get(axis.input, {})
    ]
    if lost:
        yield Change(
            model=after.name,
            kind="dynamic",
            severity="regression",
            before=len(then),
            after=len(proved),
            detail=f"not proved now: {', '.join(lost)}",
        )


def _domain(before: ArtifactRow, after: ArtifactRow) -> Iterable[Change]:
    """Sizes and patterns of values on which the file is not verified now."""
    was, now = before.verify.domain, after.verify.domain
    if was is None or now is None:
        return
    # Of a symbol that is not there now nothing is lost: the configuration has renamed it.
    tried = {item.symbol: item.sizes for item in now.symbols}
    held = {item.name: item.patterns for item in now.inputs}
    lost = [
        f"{item.symbol} = {sizes(gone)}"
        for item in was.symbols
        if (gone := set(item.sizes) - set(tried.get(item.symbol, item.sizes)))
    ]
    for values in was.inputs:
        kept = held.get(values.name, values.patterns)
        left = [pattern for pattern in values.patterns if not _held(pattern, kept)]
        lost += [f"{values.name}: {', '.join(left)}"] if left else []
    if lost:
        yield Change(
            model=after.name,
            kind="domain",
            before=_extent(was),
            after=_extent(now),
            detail=f"not verified now: {'; '.join(lost)}",
        )


def _held(pattern: str, kept: Iterable[str]) -> bool:
    """Whether a pattern is among those that are verified now; of samples as many or more are."""
    counted = _SAMPLES.fullmatch(pattern)
    if counted is None:
        return pattern in kept
    found = (_SAMPLES.fullmatch(other) for other in kept)
    return any(
        other is not None
        and other["of"] == counted["of"]
        and int(other["count"]) >= int(counted["count"])
        for other in found
    )


def _extent(domain: Domain) -> int:
    """Sizes and patterns together."""
    return sum(len(each.sizes) for each in domain.symbols) + sum(
        len(each.patterns) for each in domain.inputs
    )
