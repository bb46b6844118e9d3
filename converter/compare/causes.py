"""Why something may have changed: the environment, the request, and errors that are one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from converter.compare import same_request
from converter.model.changes import Cause, Change, Difference
from converter.model.manifest import ArtifactRow, Environment
from converter.model.records import StageName
from converter.plan import packages

Names = tuple[str, ...]
InputsChanged = Callable[[ArtifactRow, ArtifactRow], Sequence[str]]
"""Tells what two rows were made from that differs, in words; empty: nothing is known of it."""

# As `converter.plan.keys` words a file and a folder of code in the reason of a miss. Keys of the
# request, which are worded alike, have no dot.
_FILE = re.compile(r"(?:code in \S.*|.*[./].*) (?:changed|is new|is gone)")

_WEIGHTS = "weights changed"

# What has a hand in what: packages and parts of the machine, by the kind of change.
_LIBRARIES = ("torch", "torchvision", "timm", "python")
_RUNTIME = ("onnxruntime", "onnxruntime-gpu", "cpu", "gpu", "driver")
_OF_THE_GRAPH = (
    "inputs", "outputs", "dtypes", "opset", "ops", "nodes", "size", "exporter",
)  # fmt: skip
# Weights and tolerances are not here: `_own` looks at them apart, by what the worker found.
_REQUESTED = (
    "opset",
    "exporter",
    "training",
    "simplify",
    "inputs",
    "outputs",
    "complex",
    "data",
    "metric",
    "dynamic_axes",
    "every_axis",
    "dims",
    "frozen",
    "device",
    "seed",
)


@cache
def _suspects() -> tuple[dict[str, Names], dict[StageName | None, Names]]:
    """By the kind of a change, and by the stage of an error: what may have caused it."""
    exporting = (*_LIBRARIES, *packages.of_plugins("exporters"))
    exporting += ("onnxscript", "onnx-ir", "onnx", "converter")
    simplifying = (*packages.of_plugins("simplifiers"), "onnx", "converter")
    # Nothing of ONNX Runtime or the driver explains a graph: both come after it.
    graph = (*exporting, *simplifying, *packages.of_plugins("variants"))
    running = (*graph, "numpy", *_RUNTIME)
    by_kind = {
        **dict.fromkeys(_OF_THE_GRAPH, graph),
        "simplify": simplifying,
        **dict.fromkeys(("verification", "cases", "dynamic", "error"), running),
        "latency": (*_RUNTIME, "cores", "os", *graph),
    }
    by_stage: dict[StageName | None, Names] = {
        "load": (*_LIBRARIES, "converter"),
        "reference": (*_LIBRARIES, "numpy", "converter"),
        "export": exporting,
        "derive": (*packages.of_plugins("variants"), "onnx", "converter"),
        "check": (*exporting, "onnxruntime", "onnxruntime-gpu"),
        "simplify": simplifying,
        "verify": running,
        "benchmark": _RUNTIME,
        "publish": (),  # it is the disk's
        None: (*graph, *_RUNTIME),
    }
    return by_kind, by_stage


def environment(old: Environment, new: Environment) -> list[Difference]:
    """What the two runs ran on that is not the same; free memory is not among it."""
    before, after = _parts(old), _parts(new)
    return [
        Difference(name=name, before=before.get(name), after=after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _parts(environment: Environment) -> dict[str, str | None]:
    drivers = sorted({gpu.driver for gpu in environment.gpus if gpu.driver})
    return {
        **environment.packages,
        "python": environment.python,
        "os": environment.os,
        "cpu": environment.cpu,
        "cores": str(environment.cores),
        "gpu": ", ".join(gpu.name for gpu in environment.gpus) or None,
        "driver": ", ".join(drivers) or None,
    }


def explained(
    change: Change,
    before: ArtifactRow | None,
    after: ArtifactRow | None,
    differences: Sequence[Difference],
    changed: InputsChanged,
) -> Change:
    """The change with what else differs and may be the reason, the model's own files first."""
    # What did not run shows nothing of the environment.
    if before is None or after is None or after.status == "not_run":
        return change
    stage = after.error.stage if after.error else None
    by_kind, by_stage = _suspects()
    # What became of a model has no list of its own: that of the stage that failed counts.
    suspects = by_kind.get(change.kind, by_stage[stage])
    # A model of one library is not what an upgrade of the other one changes.
    family = {"torchvision", "timm"} - {after.source.split("/")[0]}
    found = [
        arrow(difference.name, difference.before, difference.after)
        for difference in differences
        if difference.name in suspects and difference.name not in family
    ]
    files = list(changed(before, after) or recorded(before, after))
    own = [each for each in _own(before, after, change.kind) if not (files and each == _WEIGHTS)]
    return change.model_copy(update={"explained_by": [*files, *own, *found]})


def recorded(before: ArtifactRow, after: ArtifactRow) -> list[str]:
    """What a row itself says of changed files: it was held against the store's nearest entry."""
    if before.job_key == after.job_key:
        return []
    said = (after.cache_miss_reason or "").split("; ")
    return [each for each in said if _FILE.fullmatch(each)]


def _own(before: ArtifactRow, after: ArtifactRow, kind: str) -> list[str]:
    """What differs in the request itself, beside what is told already."""
    found = []
    if before.source != after.source:
        found.append(arrow("source", before.source, after.source))
    for key in _REQUESTED:
        was, now = getattr(before.request, key), getattr(after.request, key)
        if key == "device" and same_request.same_device(before.request, after.request):
            continue
        if was != now and key != kind:
            # A mapping or a list is too long for a line.
            plain = isinstance(was, (str, int, type(None)))
            found.append(arrow(key, str(was), str(now)) if plain else f"{key} changed")
    if not same_request.same_weights(before.request.weights, after.request.weights):
        found.append(_WEIGHTS)
    was, now = _tolerance(before), _tolerance(after)
    if was and now and was != now and _numbers(before, after, kind):
        # A bound that was loosened explains no failure, and one that was tightened no success.
        loosened = all(new >= old for old, new in zip(was, now, strict=True))
        if loosened == (kind == "fixed"):
            found.append(arrow("tolerance", _bounds(was), _bounds(now)))
    return found


def _numbers(before: ArtifactRow, after: ArtifactRow, kind: str) -> bool:
    """Whether a change is one of what the file computes."""
    judged = [row.error.stage for row in (before, after) if row.error]
    return kind == "error" or "verify" in judged


def _tolerance(row: ArtifactRow) -> tuple[float, float] | None:
    """The tightest bound that an output of the file was held to: absolute, relative."""
    bounds = [(output.atol, output.rtol) for case in row.verify.cases for output in case.outputs]
    return min(bounds) if bounds else None


def _bounds(tolerance: tuple[float, float]) -> str:
    return "atol {:.2g}, rtol {:.2g}".format(*tolerance)


def arrow(name: str, before: str | None, after: str | None) -> str:
    """``torch 2.14.0 → 2.15.0``."""
    return f"{name} {before or 'none'} → {after or 'none'}"


def grouped(changes: Sequence[Change], after: Mapping[str, ArtifactRow]) -> list[Cause]:
    """Newly failing models by the fingerprint of their errors, the largest group first."""
    groups: dict[str, Cause] = {}
    for change in changes:
        error = after[change.about].error if change.about in after else None
        if change.kind != "newly_failing" or error is None:
            continue
        cause = groups.get(error.fingerprint) or Cause(
            fingerprint=error.fingerprint,
            stage=error.stage,
            code=error.code,
            message=error.message,
            models=[],
        )
        models = [*cause.models, change.about]
        groups[error.fingerprint] = cause.model_copy(update={"models": models})
    return sorted(groups.values(), key=lambda cause: -len(cause.models))
