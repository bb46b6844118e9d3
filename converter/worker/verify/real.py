"""What a right file is judged by on real samples: stored outputs, and a score of the user's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import MetricRecord
from converter.worker.inputs import dtypes
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.reference.execution import REFUSALS
from converter.worker.reference.reference import Reference, References
from converter.worker.runtime import running
from converter.worker.runtime.starting import first_line
from converter.worker.verify import verification
from converter.worker.verify.verification import Verdict

# Stored outputs were computed elsewhere, by other kernels: the tolerance of ONNX's own test runner,
# and a share of the largest value for what is near zero.
_RTOL, _SHARE = 1e-3, 1e-5
_MOST_SHOWN = 3


def judged(
    verdict: Verdict,
    path: Path,
    references: References,
    job: Job,
    parameters: Mapping[str, Array],
    metric: Callable[..., Any] | None,
    source: Path | None = None,
) -> Verdict:
    """The verdict on a right file, with what its real samples say.

    Args:
        source: of a file of another format, the ONNX file that it was made from.
        parameters: values of parameters that are graph inputs.
        metric: what scores outputs.
    """
    items = [item for item in references.cases if item.case.real is not None]
    stored = any(item.case.real.outputs for item in items if item.case.real is not None)
    if verdict.error is not None or not items or (metric is None and not stored):
        return verdict
    with verification.runnable(path, source, references) as file:
        session = running.opened(
            file,
            lambda: structure.interface(structure.read(source or path)),
            provider=job.provider or None,
            threads=job.threads,
            provider_options=job.provider_options,
        )
    outputs = [session.run({**references.feeds(item), **parameters}) for item in items]
    record = verdict.record
    notes = _stored(items, outputs, session.outputs)
    if notes:
        reason = "; ".join([text for text in (record.reason,) if text] + notes)
        record = record.model_copy(update={"reason": reason})
    if metric is None or job.metric is None:
        return replace(verdict, record=record)
    names = job.outputs or session.outputs
    found, error = _scored(metric, job, items, outputs, names)
    record = record.model_copy(update={"metric": found})
    if error is not None:
        record = record.model_copy(update={"status": "failed", "reason": error.message})
    return replace(verdict, record=record, error=error)


def _stored(
    items: Sequence[Reference], outputs: Sequence[Sequence[Array]], names: Sequence[str]
) -> list[str]:
    """Where the file differs from outputs that were stored: a note, since who made them is unknown.

    They may be of other weights or of another version; PyTorch is what the file has to follow.
    """
    notes = []
    for item, found in zip(items, outputs, strict=True):
        stored = item.case.real.outputs if item.case.real is not None else []
        if stored and len(stored) != len(found):
            notes.append(f"{item.case.label} stores {len(stored)} outputs, the file {len(found)}")
            continue
        for number, (wanted, got) in enumerate(zip(stored, found, strict=False)):
            why = _different(wanted, got)
            if why:
                notes.append(f"{names[number]} differs from output_{number}.pb of "
                             f"{item.case.label}: {why}")  # fmt: skip
    more = [f"and {len(notes) - _MOST_SHOWN} more"] if len(notes) > _MOST_SHOWN else []
    return notes[:_MOST_SHOWN] + more


def _different(wanted: Array, got: Array) -> str:
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return f"stored {wanted.dtype}{list(wanted.shape)}, computed {got.dtype}{list(got.shape)}"
    if not (dtypes.is_float(wanted) or wanted.dtype.kind == "c"):
        count = int((wanted != got).sum())
        return f"{count} of {wanted.size} elements" if count else ""
    if dtypes.is_narrow(wanted):  # of which NumPy knows no tolerance
        wanted, got = wanted.astype(np.float32), got.astype(np.float32)
    largest = float(np.abs(wanted).max(initial=0.0))
    if np.allclose(got, wanted, rtol=_RTOL, atol=_SHARE * largest, equal_nan=True):
        return ""
    apart = float(np.nanmax(np.abs(got.astype(np.float64) - wanted.astype(np.float64))))
    return f"by up to {apart:.3g}, where the largest stored value is {largest:.3g}"


def _scored(
    metric: Callable[..., Any],
    job: Job,
    items: Sequence[Reference],
    outputs: Sequence[Sequence[Array]],
    names: Sequence[str],
) -> tuple[MetricRecord | None, StageError | None]:
    assert job.metric is not None, "the caller has looked"
    name = job.metric.target.rpartition(".")[2]
    try:
        torch_score = _call(metric, job, items, [item.outputs for item in items], names)
        onnx_score = _call(metric, job, items, outputs, names)
    except StageError as error:
        return None, error
    drop = torch_score - onnx_score
    # Of doubles: 0.9 - 0.89 is a little more than 0.01.
    passed = drop <= job.metric.max_drop + 1e-9
    found = MetricRecord(
        name=name,
        samples=len(items),
        torch=torch_score,
        onnx=onnx_score,
        drop=drop,
        max_drop=job.metric.max_drop,
        passed=passed,
    )
    if passed:
        return found, None
    return found, StageError(
        Code.ACCURACY,
        f"{name} is {torch_score:.6g} in PyTorch and {onnx_score:.6g} in the file, a drop of "
        f"{drop:.3g} on {len(items)} samples; metric.max_drop allows {job.metric.max_drop:g}",
        "Single outputs are within their tolerance: state a smaller verify.rtol to see which move "
        "(of a quantised file, raise fallback_tries or calibrate on more), give more samples, or "
        "allow a larger drop.",
    )


def _call(
    metric: Callable[..., Any],
    job: Job,
    items: Sequence[Reference],
    outputs: Sequence[Sequence[Array]],
    names: Sequence[str],
) -> float:
    """One score; what the function is given is its own to change."""
    assert job.metric is not None, "the caller has looked"
    samples = []
    for item in items:
        others = item.case.real.others if item.case.real is not None else {}
        samples.append({key: array.copy() for key, array in {**item.inputs, **others}.items()})
    given = [
        {name: array.copy() for name, array in zip(names, found, strict=True)} for found in outputs
    ]
    target = job.metric.target
    hint = "It is called as metric(samples, outputs, **arguments) and returns a number."
    try:
        score = float(metric(samples, given, **job.metric.arguments))
    except REFUSALS as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise StageError(Code.ACCURACY, f"metric {target} raised {told}", hint) from error
    if not math.isfinite(score):
        raise StageError(Code.ACCURACY, f"metric {target} returned {score}", hint)
    return score
