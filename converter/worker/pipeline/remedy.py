"""What may cure a failure beyond the model itself: another exporter, a higher opset, other inputs.

Stages say what to do about the model. What the configuration could do instead depends on the whole
job: which exporters it has tried, and what becomes of the model at another opset, which is tried
before it is promised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import STAGES, ErrorRecord
from converter.plan import opsets
from converter.plan.alternatives import named, untried
from converter.plugins import exporters
from converter.worker.runtime import runtime_errors
from converter.worker.sources.loading import Loaded
from converter.worker.verify import fastpath

Failure = tuple[str, ErrorRecord]
"""An exporter and what it failed for."""

Probe = Callable[[str, int], ErrorRecord | None]
"""Carries the model through one exporter at another opset; gives its error, and keeps no file."""

# What exporters differ in. Failures before any exporter has run are none of theirs.
_EXPORTERS_DIFFER = {
    Code.EXPORT,
    Code.EXPORT_UNSUPPORTED,
    Code.OPSET_MISMATCH,
    Code.INPUT_DROPPED,
    Code.INPUT_MUTATED,
    Code.DIM_SPECIALISED,
    Code.TRAINING_IGNORED,
    Code.CHECKER,
    Code.SESSION,
    Code.VERIFY_VALUE,
    Code.VERIFY_SHAPE,
    Code.VERIFY_NONFINITE,
}
# What no opset cures.
_OF_THE_MODEL = {Code.INPUT_DROPPED, Code.INPUT_MUTATED, Code.TRAINING_IGNORED, Code.VERIFY_VACUOUS}
_VARY = (
    "a loop or an if of the script may never have run: give larger or more varied inputs "
    "(shape, low, high, fill, or several in verify.cases)"
)
# In torch's own message on an operator that a lower opset lacks (2.15).
_NAMED = re.compile(r"was added in version (\d+)")


def hint(
    error: ErrorRecord, failures: Sequence[Failure], loaded: Loaded, job: Job, probe: Probe
) -> str:
    """The hint of a row that failed.

    Args:
        error: the one that the row shows.
        failures: of all exporters that were tried, in order.
        probe: called at most once for each exporter.
    """
    if error.hint == fastpath.HINT:  # found by trying, and the same for all exporters
        return error.hint
    parts = [error.hint]
    tried: list[str] = []
    exporters, opset = promising(failures, job)
    for exporter in exporters:
        print(f"trying {exporter} at opset {opset}, to see whether that would verify")
        found = probe(exporter, opset)
        if found is None:
            return f"opset={opset} verifies: set {job.key}.opset: {opset}"
        tried.append(f"{exporter}: {found.code}")
    if tried:
        # A hint that names this opset would promise what does not come true.
        kept = "" if error.code is Code.OPSET_MISMATCH else error.hint
        parts = [kept, f"opset={opset} fails as well ({', '.join(tried)})"]
    # A loop that never ran leaves outputs that nothing moves.
    if error.code is Code.VERIFY_VACUOUS and _loops(loaded):
        parts.insert(0, _VARY)
    parts.append(_other_exporter(error, loaded, job))
    return "; ".join(part for part in parts if part)


def promising(failures: Sequence[Failure], job: Job) -> tuple[list[str], int]:
    """The lowest higher opset that may cure a failure, and the exporters that it may cure.

    It is the opset that a message names, or the one from which an exporter need not convert.
    """
    found: dict[int, list[str]] = {}
    for exporter, error in failures if job.opset is not None else ():
        opset = _named_opset(error) or _native_opset(exporter, error)
        # An opset that the exporter does not write cannot cure it.
        if opset is not None and opset > (job.opset or 0) and opsets.supporting([exporter], opset):
            listed = found.setdefault(opset, [])
            listed += [exporter] if exporter not in listed else []
    lowest = min(found, default=0)
    return found.get(lowest, []), lowest


def _named_opset(error: ErrorRecord) -> int | None:
    if error.code is Code.EXPORT_UNSUPPORTED and (found := _NAMED.search(error.message)):
        return int(found[1])
    return runtime_errors.first_opset(error.message)


def _native_opset(exporter: str, error: ErrorRecord) -> int | None:
    """Where a graph was captured and could not be converted, or its file is refused or wrong."""
    made = error.stage is not None and STAGES.index(error.stage) > STAGES.index("export")
    converted = error.code is Code.EXPORT or (made and error.code not in _OF_THE_MODEL)
    return exporters.load(exporter).NATIVE_OPSET if converted else None


def _other_exporter(error: ErrorRecord, loaded: Loaded, job: Job) -> str:
    """``try exporter: dynamo``; empty where none is left, or where it cannot help."""
    if error.code not in _EXPORTERS_DIFFER or error.stage in (None, "load", "reference"):
        return ""
    for name in untried(job):
        # Asked of the plugin: a hint must not name one that refuses this source.
        if exporters.load(name).unsuited(loaded, job) is None:
            return f"try {named(name, job.opset)}"
    return ""


def _loops(loaded: Loaded) -> bool:
    """Whether a script has a loop or a condition that inputs decide."""
    if not isinstance(loaded.model, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return False
    graph = loaded.torch_model.inlined_graph  # which torch's types take for a method
    return any(graph.findNode(kind, True) for kind in ("prim::Loop", "prim::If"))
