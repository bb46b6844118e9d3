"""The files of one model, before and after: interface, opset, graph, size and numerical error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from converter.model.batch import CompareSpec
from converter.model.changes import Change, Severity
from converter.model.manifest import ArtifactRow
from converter.model.records import OnnxInfo, OutputCheck, TensorInfo

# Files of another torch differ by a few bytes of names; that is not worth a line.
_SIZE_WORTH_SAYING = 0.01


def changes(before: ArtifactRow, after: ArtifactRow, limits: CompareSpec) -> list[Change]:
    """What differs between two rows that both have a file."""
    name = after.name
    old, new = before.onnx, after.onnx
    told = _graph(before, after, old, new) if old is not None and new is not None else []
    return [
        *told,
        *_content(before, after),
        *_size(name, before.bytes, after.bytes, limits.size),
        *_error(before, after, limits.error),
    ]


def _content(before: ArtifactRow, after: ArtifactRow) -> list[Change]:
    """Other bytes, where all that decides them is the same as far as anybody has seen."""
    if not before.job_key or before.job_key != after.job_key:
        return []
    was, now = ({file.path: file.sha256 for file in row.files} for row in (before, after))
    if was == now:
        return []
    detail = (
        "made of the same; the model reads what is not in its key (an environment variable, a "
        "clock), or its export does not repeat itself"
    )
    shas = [" ".join(digest[:12] for digest in found.values()) for found in (was, now)]
    return [Change(model=after.name, kind="content", before=shas[0], after=shas[1], detail=detail)]


def _graph(before: ArtifactRow, after: ArtifactRow, old: OnnxInfo, new: OnnxInfo) -> list[Change]:
    """What differs between two ONNX files."""
    name = after.name
    # As a whole, unlike `same_request`: both rows have a file, so that a worker has completed both
    # requests.
    asked = before.request != after.request
    named = after.request.outputs
    found = [
        *_interface(name, "inputs", old.inputs, new.inputs, asked),
        *_interface(name, "outputs", old.outputs, new.outputs, asked, named),
    ]
    for kind in ("exporter", "opset", "nodes"):
        was, now = getattr(old, kind), getattr(new, kind)
        if was != now:
            found.append(Change(model=name, kind=kind, before=was, after=now))
    if old.ops != new.ops:
        detail = operators(old.ops, new.ops)
        found.append(Change(model=name, kind="ops", before=old.ops, after=new.ops, detail=detail))
    return [*found, *_simplification(name, old, new)]


def _interface(
    name: str,
    kind: str,
    old: Sequence[TensorInfo],
    new: Sequence[TensorInfo],
    asked: bool,
    named: Collection[str] | None = None,
) -> list[Change]:
    """Whoever runs the file would have to change: worse, unless the configuration asked for it.

    Args:
        named: the names that the configuration gives; of others the exporter makes new ones as it
            likes, and nobody should rely on them. ``None``: all count.
    """
    if old == new:
        return []
    same_dtypes = [tensor.dtype for tensor in old] == [tensor.dtype for tensor in new]
    same_places = [tensor.name for tensor in old] == [tensor.name for tensor in new]
    worse = [_seen(tensor, named) for tensor in old] != [_seen(tensor, named) for tensor in new]
    detail = "" if worse else "only names that the exporter chose, or of dynamic axes"
    if worse and asked:
        worse, detail = False, "the configuration of the model changed"
    return [
        Change(
            model=name,
            kind="dtypes" if same_places and not same_dtypes else kind,
            severity="regression" if worse else "note",
            before=described(old),
            after=described(new),
            detail=detail,
        )
    ]


def _seen(tensor: TensorInfo, named: Collection[str] | None) -> Any:
    """What a caller depends on: the name of a dynamic axis is not part of it."""
    sizes = [size if isinstance(size, int) else None for size in tensor.shape]
    name = tensor.name if named is None or tensor.name in named else None
    return name, tensor.dtype, sizes


def described(tensors: Sequence[TensorInfo]) -> list[str]:
    """Such as ``input float32[batch, 3, 224, 224]``."""
    return [
        f"{tensor.name} {tensor.dtype}"
        f"[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"
        for tensor in tensors
    ]


def operators(old: Mapping[str, int], new: Mapping[str, int]) -> str:
    """``+1 Add, -2 Identity``: the difference of two histograms."""
    difference = Counter(new)
    # `new - old` would keep positive counts only, and drop what there is less of.
    difference.subtract(old)
    return ", ".join(f"{number:+d} {op}" for op, number in sorted(difference.items()) if number)


def _simplification(name: str, old: OnnxInfo, new: OnnxInfo) -> list[Change]:
    was, now = _simplified(old), _simplified(new)
    if was == now:
        return []
    detail = (new.simplify.reverted_reason or "") if new.simplify else ""
    return [Change(model=name, kind="simplify", before=was, after=now, detail=detail)]


def _simplified(info: OnnxInfo) -> str:
    if info.simplify is None:
        return "not requested"
    return "applied" if info.simplify.applied else "reverted"


def _size(name: str, was: int, now: int, limit: float) -> list[Change]:
    growth = (now - was) / was if was else math.inf
    # A limit below that was set on purpose: it counts.
    if abs(growth) <= min(limit, _SIZE_WORTH_SAYING):
        return []
    severity: Severity = "regression" if growth > limit else "note"
    detail = f"{growth:+.1%}, allowed {limit:+.1%}"
    return [
        Change(model=name, kind="size", severity=severity, before=was, after=now, detail=detail)
    ]


def tolerance_used(row: ArtifactRow, provider: str | None = None) -> float | None:
    """The largest share of its tolerance that any output of any case can have used.

    An output passes where ``|error| <= atol + rtol * |reference|`` for every element, so that its
    share is at most ``max_abs / atol`` and at most ``max_rel / rtol``.

    Args:
        provider: of the cases, as they call it; ``None``: of any.
    """
    shares = [
        share
        for case in row.verify.cases
        if provider in (None, case.provider)
        for output in case.outputs
        if (share := _share(output)) is not None
    ]
    return max(shares, default=None)


def _share(output: OutputCheck) -> float | None:
    pairs = ((output.max_abs, output.atol), (output.max_rel, output.rtol))
    bounds = [error / bound for error, bound in pairs if error is not None and bound]
    if bounds:
        return min(bounds)
    # No bound above zero: integers and booleans, of which any error is too much.
    return None if output.max_abs is None else (math.inf if output.max_abs else 0.0)


def _error(before: ArtifactRow, after: ArtifactRow, limit: float) -> Iterator[Change]:
    """A larger error on a provider that both were verified on."""
    first = next((case.provider for case in after.verify.cases), "")
    for provider in dict.fromkeys(case.provider for case in after.verify.cases):
        was, now = tolerance_used(before, provider), tolerance_used(after, provider)
        # Two errors where none is allowed are both infinite, and their difference is no number.
        if was is None or now is None or was == now or now - was <= limit:
            continue
        where = "" if provider == first else f"on {provider} "
        yield Change(
            model=after.name,
            kind="error",
            severity="regression",
            before=round(was, 4),
            after=round(now, 4),
            detail=f"{where}the worst error uses {now:.0%} of its tolerance, {was:.0%} before",
        )
