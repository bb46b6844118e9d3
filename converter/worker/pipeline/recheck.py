"""Verify a file that is there already against its source: load → reference → verify.

The verdict is by numbers. Names of nodes, producer and hash do not matter; inputs are matched by
name, because that is how they are fed, outputs by position. What numbers cannot show is looked at:
output names that have changed places, and what a model in training mode drops.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from onnx import ModelProto

from converter.model.artifact import FULL, ONNX
from converter.model.errors import Code, StageError
from converter.model.job import Job, Recheck
from converter.model.records import ErrorRecord, FileInfo, JobResult
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, inspection, interface, publishing, structure
from converter.worker.pipeline import onnx_wording, pipeline
from converter.worker.pipeline.pipeline import Emit
from converter.worker.recording.stages import Recorder, StageFailedError
from converter.worker.reference import harvest, preparing, reference, training
from converter.worker.reference.reference import References
from converter.worker.runtime import custom_ops, starting
from converter.worker.sources import loading
from converter.worker.sources.loading import Loaded
from converter.worker.verify import (
    attribution,
    conclusion,
    multiples,
    precision,
    real,
    runtimes,
    verification,
)
from converter.worker.verify.settled import settled
from converter.worker.verify.verification import Verdict


@dataclass
class _Found:
    """What has been found out so far; it outlives the stage that fails."""

    loaded: Loaded | None = None
    references: References | None = None
    verdict: Verdict | None = None
    files: list[FileInfo] = field(default_factory=list)


Use = Callable[[References, Verdict, dict[str, Array]], list[FileInfo]]
"""What is done with a file that is right: the files that come of it."""


@custom_ops.loaded
def run(job: Recheck, emit: Emit, use: Use | None = None) -> JobResult:
    """Compute the reference from the source again and compare the file with it.

    Args:
        use: called in the stage ``publish`` with the references, the verdict and the values of
            parameters that are inputs of the graph.

    Returns:
        A result without an artifact; ``faulty_stage`` is ``runtime`` where the file is right
        without ONNX Runtime's optimisations.
    """
    torch.set_num_threads(job.threads)
    recorder = Recorder(job, emit, loading.describe)
    found = _Found()
    error: ErrorRecord | None = None
    try:
        _run(job, recorder, found, use)
    except StageFailedError as failed:
        error = failed.error
    result = JobResult(
        name=job.name,
        artifact=job.artifact,
        status="ok" if error is None else "failed",
        error=error,
        stages=recorder.records,
        files=found.files,
        device=str(found.loaded.device) if found.loaded else None,
        weights_sha256=found.loaded.weights_sha256 if found.loaded else None,
        conditioned=found.loaded.conditioned if found.loaded else None,
    )
    if found.verdict is not None:
        update = {"verify": found.verdict.record, "accuracy": found.verdict.accuracy}
        result = result.model_copy(update=update)
    elif found.references is not None and found.references.vacuous is not None:
        result = result.model_copy(update={"verify": verification.vacuous(found.references)})
    return onnx_wording.of_result(result, job)


def _run(job: Recheck, recorder: Recorder, found: _Found, use: Use | None) -> None:
    with recorder.stage("load"):
        if job.provider:  # before the model is loaded and run for it
            starting.require(job.provider, job.provider_options)
        found.loaded, complete = preparing.load(job)
    with recorder.stage("reference") as notes:
        # With the file's own limits: it may be of another model, or changed by hand.
        declares = job.file if job.format == ONNX else job.parent_file or job.file
        found.references = reference.compute(found.loaded, complete, _limits(Path(declares)))
        notes += found.references.warnings
        if found.references.vacuous is not None:
            raise found.references.vacuous
        complete = found.references.of_job(complete)
    with recorder.stage("verify"):
        parent = Path(job.parent_file) if job.parent_file else None
        found.verdict = verify(
            Path(job.file), complete, found.loaded, found.references, parent=parent
        )
        if found.verdict.error is not None and found.verdict.rule:
            # As when it was made: it refuses what it is not right at.
            rule, why = found.verdict.rule, found.verdict.error.message
            complete, found.references = multiples.assumed(found.loaded, complete, rule, why)
            found.verdict = verify(
                Path(job.file), complete, found.loaded, found.references, parent=parent
            )
        found.verdict = _real(found, complete, Path(job.file), job.parent_file)
        if found.verdict.error is not None:
            raise found.verdict.error
    if use is not None:
        with recorder.stage("publish"):
            values = pipeline.parameters(found.loaded, complete)
            found.files = use(found.references, found.verdict, values)


def _real(found: _Found, job: Job, file: Path, parent: str | None) -> Verdict:
    """The verdict with what real samples say of the file."""
    assert found.verdict is not None, "the caller has made it"
    assert found.loaded is not None, "the caller has made it"
    assert found.references is not None, "the caller has made them"
    values = pipeline.parameters(found.loaded, job)
    references = precision.asked_of(found.references, job)
    source = Path(parent) if job.format != ONNX and parent else None
    metric = found.loaded.metric
    if not any(item.case.real is not None for item in references.cases):
        return found.verdict
    with precision.computable(file, references, job) as (path, fed):
        judged = real.judged(found.verdict, path, fed, job, values, metric, source)
    return settled(judged)


def _limits(file: Path) -> list[float]:
    try:
        # Its values may be damaged as well: that is no failure of the source.
        with inspection.worded(file):
            return harvest.of_graph(structure.read(file))
    except StageError:  # which the next stage tells
        return []


def verify(
    file: Path,
    job: Job,
    loaded: Loaded,
    references: References,
    provider: str | None = None,
    parent: Path | None = None,
) -> Verdict:
    """The verdict on a file, and the faulty stage where it is wrong.

    Args:
        parent: what it was made from, where it derives from another file.
        provider: to run it on; a module of ``converter.plugins.providers``. ``None``: the one that
            files are verified on.

    Raises:
        StageError: CHECKER, INPUT_DROPPED, OUTPUT_STRUCTURE.
    """
    values = pipeline.parameters(loaded, job)
    # Before any rounding is measured, since that belongs to a precision.
    references = precision.asked_of(references, job)
    provider = provider or job.provider or None
    if job.format != ONNX:
        return _foreign(file, job, references, provider, parent)
    model = structure.read(file)
    with inspection.worded(file):
        # Before the first look at its inputs: what the checker refuses may hold anything.
        checking.valid(model, "the file", file)
        _check_inputs(model, list(job.inputs), values)
        note = _check_outputs(model, job)
        wrong = interface.mistyped(model, job, references.declared)
    if wrong is not None:  # or ONNX Runtime would refuse it in its own words
        raise wrong
    if job.precision != FULL:
        precision.check(checking.load(file), job, references.cases[0].inputs)
    verdict = _judge(file, job, loaded, references, values, provider)
    verdict = precision.judged(verdict, file, parent, references, job, provider)
    verdict = settled(conclusion.drawn(verdict, references, job))
    if verdict.error is not None or note is None:
        return verdict
    reason = "; ".join(text for text in (verdict.record.reason, note) if text)
    return replace(verdict, record=verdict.record.model_copy(update={"reason": reason}))


def _foreign(
    file: Path, job: Job, references: References, provider: str | None, parent: Path | None
) -> Verdict:
    """The verdict on a file of another format than ONNX.

    Raises:
        StageError: IO, where the file that it was made from is gone: that has its names and axes;
            as the check of its runtime.
    """
    if parent is None:
        raise StageError(
            Code.IO,
            f"{job.name}.onnx, from which {file.name} was made, is not there",
            "names and axes of its inputs and outputs are read from that file",
        )
    runtimes.check(file, parent, job)
    verdict = verification.verify(file, references, job, provider=provider, source=parent)
    verdict = precision.judged(verdict, file, parent, references, job, provider)
    return settled(conclusion.drawn(verdict, references, job))


def _judge(
    file: Path,
    job: Job,
    loaded: Loaded,
    references: References,
    values: dict[str, Array],
    provider: str | None,
) -> Verdict:
    """By numbers, and by what is dropped in training."""
    # The ratios are read from this one; a copy without dropout is only run.
    original = file
    if references.disabled_dropout:
        # The copy without dropout is written beside the file: not into somebody's archive.
        copy = Path(job.staging_dir) / job.target
        publishing.save(checking.load(file), copy, job.export)
        file = copy
    verdict = verification.verify(file, references, job, parameters=values, provider=provider)
    if verdict.error is None:
        return _trained(original, job, loaded, references, verdict)
    # Without optimisations: right there means that ONNX Runtime is at fault, and not the file.
    plain = verification.verify(
        file, references, job, parameters=values, provider=provider, optimise=False
    )
    return attribution.blamed(verdict, "runtime") if plain.error is None else verdict


def _trained(
    file: Path, job: Job, loaded: Loaded, references: References, verdict: Verdict
) -> Verdict:
    """The verdict on a file whose numbers are right, or that it does not train as its source."""
    if job.training != "train":
        return verdict
    # Every ratio was zero where numbers were compared, so that a file may drop otherwise.
    model, hint = structure.read(file), "it is the file of another model, or was changed"
    try:
        training.check(model, loaded, references.dropped, "the file", hint, file.parent)
    except StageError as error:
        changes = {"status": "failed", "reason": error.message}
        return Verdict(verdict.record.model_copy(update=changes), error)
    return verdict


def _check_outputs(model: ModelProto, job: Job) -> str | None:
    """Raise where stated output names have changed places; a note on names of its own.

    Whoever asks for an output by its name would get another one. Names that the source does not
    know deceive nobody.

    Raises:
        StageError: OUTPUT_STRUCTURE.
    """
    found = [value.name for value in structure.graph_outputs(model)]
    names = f"the file calls its outputs {', '.join(found)}, the source {', '.join(job.outputs)}"
    for place, name in enumerate(job.outputs):
        if name in found and found.index(name) != place:
            raise StageError(
                Code.OUTPUT_STRUCTURE,
                f"{names}: whoever asks for {name} gets another output",
                "outputs are matched by position: name them in the source's order",
            )
    unknown = bool(job.outputs) and any(name not in job.outputs for name in found)
    return f"note: {names}" if unknown else None


def _check_inputs(model: ModelProto, wanted: list[str], parameters: Collection[str]) -> None:
    """Raise where the file cannot be fed what the source is fed.

    Raises:
        StageError: INPUT_DROPPED.
    """
    # An input with an initializer may be fed and need not be.
    declared = [value.name for value in structure.graph_inputs(model)]
    needed = [value.name for value in structure.fed_inputs(model)]
    missing = [name for name in wanted if name not in declared]
    unknown = [name for name in needed if name not in wanted and name not in parameters]
    if missing or unknown:
        complaints = [f"has no input {', '.join(missing[:5])}"] if missing else []
        complaints += [f"needs {', '.join(unknown[:5])}, which the source lacks"] if unknown else []
        raise StageError(
            Code.INPUT_DROPPED,
            f"the file {' and '.join(complaints)}",
            f"inputs are matched by name: the source has {', '.join(wanted)}",
        )
