"""Time a published file on one execution provider, and PyTorch beside it.

The entry of phase 2 of a run: one process per file and provider, with the whole machine. On a
provider other than ONNX Runtime's CPU one the file is verified first: a figure of a file that is
wrong there is worth nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch

from converter.layout.files import sha256
from converter.model.artifact import ONNX
from converter.model.errors import Code, StageError
from converter.model.inputs import InputSpec
from converter.model.job import Job
from converter.model.measure import Measure
from converter.model.records import ErrorRecord, JobResult, Latency, VerifyRecord
from converter.plugins import providers
from converter.plugins.providers import Provider
from converter.worker.benchmark import eager, machine, timing
from converter.worker.inputs import cases
from converter.worker.inputs.cases import Case
from converter.worker.inputs.inputs import Array, varies
from converter.worker.onnxfile import checking, structure
from converter.worker.pipeline import judging, onnx_wording, pipeline, recheck
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording.stages import Recorder, StageFailedError
from converter.worker.reference import execution, kept, preparing, reference
from converter.worker.reference.execution import Runner
from converter.worker.runtime import custom_ops, running, starting
from converter.worker.runtime.starting import RuntimeErrors, first_line
from converter.worker.sources import loading
from converter.worker.sources.loading import Loaded
from converter.worker.verify import precision
from converter.worker.verify.verification import Verdict

# One input over and over may stay in a cache that real traffic would miss.
_SAMPLES = 4  # drawn of each input and used in rotation

Inputs = dict[str, InputSpec]


@dataclass
class _Found:
    """What has been found out so far; it outlives an error."""

    verify: VerifyRecord = field(default_factory=VerifyRecord)
    latency: list[Latency] = field(default_factory=list)


@custom_ops.loaded
def run(job: Measure, emit: Emit) -> JobResult:
    """Verify the file on the provider where that is new, and time it at each size.

    Returns:
        A result without an artifact. ``latency`` is empty when nothing could be timed: ``error``
        says why, EP_UNAVAILABLE where this machine lacks the provider. ``verify.status`` is
        ``not_measured`` on the CPU, where the file is verified already.
    """
    # As many for PyTorch as for the file, or their ratio would compare threads.
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe)
    found = _Found()
    error: ErrorRecord | None = None
    try:
        with recorder.stage("benchmark"):
            _run(job, found)
    except StageFailedError as failed:
        error = failed.error
    result = JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "failed",
        error=error,
        stages={"benchmark": recorder.records["benchmark"]},
        verify=found.verify,
        latency=found.latency,
    )
    return onnx_wording.of_result(result, job)


def _run(job: Measure, found: _Found) -> None:
    plugin = starting.require(
        job.provider, job.provider_options
    )  # before anything is loaded for it
    # PyTorch is timed on the kind of device on which the file runs, or not at all.
    device = "cpu" if plugin.DEVICE == "cpu" else job.device
    # It was verified on that provider when it was made.
    known = job.provider == (job.verified_on or providers.standard())
    # The model's own file may be of a precision that none of its variants has.
    held = bool(job.references) and kept.judges(Path(job.references), job)
    if not known and held:
        _verify_kept(job, found)
    if not job.timed and (known or held):
        return
    loaded, complete = preparing.load(job.model_copy(update={"device": device}))
    runner = Runner(loaded, complete, print)
    if not known and not held:
        _verify(job, complete, loaded, found)
    if not job.timed:
        return
    for inputs in sizes(complete, job.batch_sizes):
        found.latency.append(_Measurement(job, complete, loaded, runner, plugin, inputs).take())


def _verify(job: Measure, complete: Job, loaded: Loaded, found: _Found) -> None:
    """Run the file on every case on this provider.

    Raises:
        StageError: it is wrong there (its message names the provider), or EP_UNAVAILABLE.
    """
    references = reference.compute(loaded, complete)
    complete = references.of_job(complete)
    parent = Path(job.parent_file) if job.parent_file else None
    verdict = recheck.verify(Path(job.file), complete, loaded, references, job.provider, parent)
    _judged(job, verdict, found)


def _verify_kept(job: Measure, found: _Found) -> None:
    """The same, on what the conversion kept of the model.

    Raises:
        StageError: as ``_verify``; INPUT_CHANGED.
    """
    path = Path(job.references)
    if not path.is_file() or sha256(path) != job.references_sha256:
        raise StageError(
            Code.INPUT_CHANGED,
            f"{path.name} is not the file that the conversion wrote",
            "nothing may write there",
        )
    held = kept.read(path, job)
    references = precision.asked_of(held.references, job)
    graph = structure.read(Path(job.parent_file or job.file))
    judge = judging.Judge(job, held, references, graph)
    _judged(job, judge.verdict(Path(job.file), job.provider), found)


def _judged(job: Measure, verdict: Verdict, found: _Found) -> None:
    error = verdict.error
    if error is not None and error.code is Code.EP_UNAVAILABLE:
        raise error  # which says nothing of the file
    # Also of a wrong file: the row shows the cases of this provider.
    found.verify = verdict.record
    if error is not None:
        hint = (
            f"it is right on {job.verified_on or providers.standard()}: leave {job.provider} out "
            "or change its options; where memory was short, see that nothing else uses the device"
        )
        if job.format == ONNX:
            hint += (
                f"; to show it to the maintainers of {job.provider}: "
                f"python -m converter bundle RUN_DIR {job.label}"
            )
        raise StageError(error.code, f"on {job.provider}: {error.message}", hint)


def sizes(job: Job, batch_sizes: list[int]) -> Iterator[Inputs]:
    """The inputs as they are, then with each other size of their dynamic batch axis, if any."""
    # The declared size first: if a later one fails, this figure is there.
    yield job.inputs
    places = cases.symbols(job)
    # A batch is what an input has on its axis 0.
    batch = next((symbol for symbol, at in places.items() if any(axis == 0 for _, axis in at)), "")
    for size in batch_sizes if batch else []:
        inputs = cases.resized(job.inputs, places, {batch: size})
        if inputs != job.inputs:
            yield inputs


def _untimed_sizes(job: Job, batch_sizes: list[int]) -> list[str]:
    """What to say of batch sizes that a model without a dynamic batch axis cannot have."""
    if any(axis == 0 for places in cases.symbols(job).values() for _, axis in places):
        return []
    others = [str(size) for size in batch_sizes if size != _samples(job.inputs)]
    if not others:
        return []
    why = "no dynamic axis 0 (declare it in dynamic_axes)"
    return [f"batch sizes: {', '.join(others)} not timed, {why}"]


def _samples(inputs: Inputs) -> int:
    """How many samples a call takes: the size of the first input's first axis."""
    return next((spec.shape[0] for spec in inputs.values() if spec.shape), 1)


@dataclass(frozen=True)
class _Timed:
    """A timing, and what the machine did beside it."""

    timing: timing.Timing
    disturbances: list[str]

    @property
    def doubts(self) -> list[str]:
        return [*self.disturbances, *self.timing.doubts()]

    @property
    def is_trusted(self) -> bool:
        """Whether the median may be set against another one."""
        return self.timing.stable and not self.disturbances


@dataclass
class _Measurement:
    """One file on one provider at one size, with PyTorch beside it."""

    job: Measure
    complete: Job
    loaded: Loaded
    runner: Runner
    plugin: Provider
    inputs: Inputs

    def take(self) -> Latency:
        """The figures, or the record of a run that ONNX Runtime refused."""
        shapes = {name: list(spec.shape) for name, spec in self.inputs.items()}
        latency = Latency(
            provider=self.job.provider,
            status="failed",
            shapes=shapes,
            threads=self.job.threads,
            budget_s=self.job.budget_s,
            remarks=_untimed_sizes(self.complete, self.job.batch_sizes),
        )
        samples = self._samples()
        try:
            # The session ends in there: its idle threads would spin beside those of PyTorch.
            latency, trusted = self._time_file(latency, samples)
        # A record rather than an error: the file may run at the other sizes.
        except RuntimeErrors as error:
            return latency.model_copy(update={"reason": first_line(error)})
        except StageError as error:
            lacking = checking.lacking_kernel(error, lambda: structure.read(Path(self.job.file)))
            if lacking is None:
                raise
            # A right file, which this provider does not compute.
            return latency.model_copy(update={"status": "unavailable", "reason": str(lacking)})
        return self._time_torch(latency, samples, trusted) if self.job.time_torch else latency

    def _samples(self) -> list[dict[str, Array]]:
        # Pinned inputs would be drawn four times alike.
        count = _SAMPLES if any(varies(spec) for spec in self.inputs.values()) else 1
        return [Case("", self.inputs, number).draw(self.job.seed) for number in range(count)]

    def _time_file(self, latency: Latency, samples: list[dict[str, Array]]) -> tuple[Latency, bool]:
        """The record with the figures of the file, and whether they are to be trusted."""
        parameters = pipeline.parameters(self.loaded, self.complete)
        source = Path(self.job.parent_file or self.job.file)
        began = perf_counter_ns()
        # With the optimisations that users get by default.
        opened = running.opened(
            Path(self.job.file),
            lambda: structure.interface(structure.read(source)),
            provider=self.job.provider,
            threads=self.job.threads,
            spins=True,
            provider_options=self.job.provider_options,
        )
        loaded_ms = timing.milliseconds(perf_counter_ns() - began)
        # Looked at before timing: a provider that takes no node has no figure.
        nodes = opened.nodes_per_provider()
        shared = _division(nodes, self.plugin.NAME)
        # Prepared beforehand: neither casts nor copies to a device are part of the figure.
        calls = [
            opened.prepared({**opened.typed(sample, self.job.cast_io), **parameters})
            for sample in samples
        ]
        found = self._timed(calls)
        timed, figures = found.timing, found.timing.milliseconds()
        update: dict[str, Any] = {
            "status": "measured",
            "active": opened.active,
            "io_binding": opened.binds,
            "warmup": timed.warmup,
            "iterations": len(timed.durations_ns),
            "stable": timed.stable,
            **figures,
            "ci95_ms": timed.interval_ms(),
            "throughput": round(1000 * _samples(self.inputs) / figures["mean_ms"], 3),
            "session_load_ms": loaded_ms,
            "nodes_per_provider": nodes,
            "notes": found.doubts,
            "remarks": [*latency.remarks, *shared, *timed.remarks()],
        }
        return latency.model_copy(update=update), found.is_trusted

    def _timed(self, calls: list[timing.Call]) -> _Timed:
        with machine.watched(self.job.threads) as disturbances:
            timed = timing.measure(calls, self.job.budget_s)
        return _Timed(timed, disturbances)

    def _tensors(self, samples: list[dict[str, Array]]) -> list[tuple[torch.Tensor, ...]]:
        return [execution.tensors(sample, self.loaded.device) for sample in samples]

    def _time_torch(
        self, latency: Latency, samples: list[dict[str, Array]], trusted: bool
    ) -> Latency:
        """The same record with PyTorch's median, or with a remark that says why it has none.

        Args:
            trusted: whether the figures of the file are; a ratio needs two that are.
        """
        where = self.loaded.device.type
        if self.runner.model is None:
            return _remarked(latency, "no PyTorch figure: the source is ONNX")
        if where != self.plugin.DEVICE:
            return _remarked(latency, f"no PyTorch figure: the model is on the {where}")
        try:
            with eager.calls_of(self.runner, self.complete, self._tensors(samples)) as calls:
                found = self._timed(calls)
        except execution.REFUSALS as error:
            return _remarked(latency, f"no PyTorch figure: {first_line(error)}")
        median = found.timing.milliseconds()["p50_ms"]
        speedup = None
        sound = {"the file's": trusted, "PyTorch's": found.is_trusted}
        # A ratio that rests on a doubtful median looks like a result and is none.
        if doubtful := [whose for whose, is_sound in sound.items() if not is_sound]:
            why = f"it would rest on a doubtful median, {' and '.join(doubtful)}"
            latency = _remarked(latency, f"no speedup: {why}")
        elif latency.p50_ms:
            speedup = round(median / latency.p50_ms, 4)
        update = {
            "torch_p50_ms": median,
            "torch_stable": found.timing.stable,
            "speedup": speedup,
            "torch_notes": found.doubts,
        }
        return latency.model_copy(update=update)


def _division(nodes: dict[str, int], wanted: str) -> list[str]:
    """What to say of a graph that several providers share.

    Raises:
        StageError: SESSION, when the provider that is to be timed takes no node of it.
    """
    # A runtime of its own says nothing of nodes: it has them all, or does not open.
    others = {name: count for name, count in nodes.items() if name != wanted}
    if not others:
        return []
    listed = ", ".join(f"{count} to {name}" for name, count in others.items())
    if not nodes.get(wanted):
        raise StageError(
            Code.SESSION,
            f"{wanted} takes no node of the graph: ONNX Runtime gave {listed}",
            "its figures would be those of the other provider",
        )
    return [f"shared: of {sum(nodes.values())} nodes ONNX Runtime gave {listed}"]


def _remarked(latency: Latency, remark: str) -> Latency:
    return latency.model_copy(update={"remarks": [*latency.remarks, remark]})
