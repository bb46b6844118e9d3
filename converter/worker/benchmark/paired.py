"""Time two files side by side: whether the new one is slower than the baseline's, here and now.

The runs alternate, so that what else the machine does, its clock and its temperature meet both
alike; which of the two begins changes with every pair.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from converter.model.measure import PairedBenchmark
from converter.model.records import ErrorRecord, JobResult, Latency
from converter.plugins.runnable import Interface, Runnable
from converter.worker.benchmark import timing
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording.stages import Recorder, StageFailedError
from converter.worker.runtime import custom_ops, running
from converter.worker.runtime.session import Session
from converter.worker.sources import loading

_WARMUP_S = 0.3
_BUDGET_S = 4.0
_LEAST_PAIRS, _MOST_PAIRS = 15, 400


@custom_ops.loaded
def run(job: PairedBenchmark, emit: Emit) -> JobResult:
    """Time both files on the inputs of the job.

    Returns:
        ``latency`` holds the baseline's file and the new one, in this order; nothing where one
        of the two does not run.
    """
    recorder = Recorder(job, emit, loading.describe)
    latency: list[Latency] = []
    error: ErrorRecord | None = None
    try:
        with recorder.stage("benchmark"):
            files = (Path(job.baseline_file), Path(job.file))
            # What says under which names a file of another format is fed.
            sources = (Path(job.baseline_source), Path(job.source_file))
            # The same numbers for both files.
            feeds = Case("", job.inputs, 0).draw(job.seed)
            sessions = [
                running.opened(
                    file,
                    partial(_interface, source),
                    provider=job.provider,
                    threads=job.threads,
                    spins=True,
                    provider_options=job.provider_options,
                )
                for file, source in zip(files, sources, strict=True)
            ]
            seconds = _alternate([_call(session, feeds) for session in sessions])
            latency = [_latency(job, times) for times in seconds]
    except StageFailedError as failed:
        error = failed.error
    return JobResult(
        name=job.name,
        status="ok" if error is None else "failed",
        error=error,
        stages=recorder.records,
        latency=latency,
    )


def _interface(file: Path) -> Interface:
    return structure.interface(structure.read(file))


def _call(session: Session | Runnable, feeds: Mapping[str, Array]) -> Callable[[], object]:
    """A run as it is measured: on a device, inputs and outputs stay there."""
    return session.prepared({name: feeds[name] for name in session.inputs})


def _alternate(calls: list[Callable[[], object]]) -> list[list[float]]:
    """Seconds of each run, by call."""
    for call in calls:
        end = time.perf_counter() + _WARMUP_S
        # Once at least, however long a call takes.
        call()
        while time.perf_counter() < end:
            call()
    seconds: list[list[float]] = [[], []]
    end = time.perf_counter() + _BUDGET_S
    # A collection would pause one of the two, at random.
    gc.disable()
    try:
        for pair in range(_MOST_PAIRS):
            if pair >= _LEAST_PAIRS and time.perf_counter() > end:
                break
            for index in ((0, 1), (1, 0))[pair % 2]:
                start = time.perf_counter_ns()
                calls[index]()
                seconds[index].append((time.perf_counter_ns() - start) / 1e9)
    finally:
        gc.enable()
    return seconds


def _latency(job: PairedBenchmark, seconds: list[float]) -> Latency:
    ordered = [1000 * value for value in sorted(seconds)]
    interval = timing.median_interval(ordered)
    return Latency(
        provider=job.provider,
        status="measured",
        shapes={name: list(spec.shape) for name, spec in job.inputs.items()},
        threads=job.threads,
        iterations=len(ordered),
        # A value that was measured, never one between two.
        p50_ms=ordered[len(ordered) // 2],
        ci95_ms=[*interval] if interval else [],
    )
