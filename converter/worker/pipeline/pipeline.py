"""One job, start to end: load → reference → export → check → simplify → verify → publish.

A stage returns or raises; ``converter.worker.recording.stages`` records it. The exporters of the
job are tried in order until one of them verifies.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from onnx import ModelProto

from converter.layout import delivery
from converter.model import clarity
from converter.model.artifact import QUANTISED, rounding_of
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import (
    STAGES,
    CheckRecord,
    ErrorRecord,
    ExporterAttempt,
    FileInfo,
    JobResult,
    OnnxInfo,
    SimplifyRecord,
    StageName,
    StageRecord,
    Status,
    VerifyRecord,
    WorkerEvent,
)
from converter.plugins import exporters
from converter.worker.inputs import tensors
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking, kernels, publishing, simplification, structure
from converter.worker.pipeline import onnx_wording, remedy, siblings
from converter.worker.recording.stages import OnError, Recorder, StageFailedError
from converter.worker.reference import execution, kept, preparing, reference, threads, training
from converter.worker.reference.reference import References
from converter.worker.runtime import custom_ops
from converter.worker.sources import loading
from converter.worker.sources import parameters as model_parameters
from converter.worker.sources.loading import Loaded
from converter.worker.verify import (
    attribution,
    conclusion,
    fastpath,
    limits,
    multiples,
    mutation,
    real,
    stamp,
    verification,
)
from converter.worker.verify.settled import settled
from converter.worker.verify.verification import Verdict

Emit = Callable[[WorkerEvent], None]


_RAW = "raw.onnx"  # as an exporter wrote it


@dataclass
class _Attempt:
    """What one exporter came to; ``error`` is ``None`` for the one that ships.

    Attributes:
        rule: of a file that refuses sizes: symbol → the divisor at whose multiples it is right.
    """

    exporter: str
    stages: dict[StageName, StageRecord] = field(default_factory=dict)
    error: ErrorRecord | None = None
    verify: VerifyRecord = field(default_factory=VerifyRecord)
    files: list[FileInfo] = field(default_factory=list)
    references: FileInfo | None = None
    onnx: OnnxInfo | None = None
    rule: Mapping[str, int] = field(default_factory=dict)

    @property
    def calls_for_another(self) -> bool:
        """Whether the next exporter is tried: what the disk did, none cures."""
        # Its file would be right and another one, and would be in the store from then on.
        return self.error is not None and self.error.code is not Code.IO

    @property
    def outcome(self) -> ExporterAttempt:
        return ExporterAttempt(
            exporter=self.exporter,
            status="ok" if self.error is None else "failed",
            code=self.error.code if self.error else None,
            message=self.error.message if self.error else None,
        )


@custom_ops.loaded
def run(job: Job, emit: Emit, on_error: OnError | None = None) -> JobResult:
    """Convert and prove one model.

    Args:
        emit: called with the name of each stage as it begins, and with what came of each
            exporter: a later one may end the process.
        on_error: called with what a stage raised, before it is recorded: for a debugger.

    Returns:
        The result; its artifact lies in ``job.staging_dir``, paths relative to that.
    """
    # torch would take all cores, where its idle threads spin against those of ONNX Runtime.
    torch.set_num_threads(job.threads)
    head = Recorder(job, emit, loading.describe, on_error)
    loaded: Loaded | None = None
    references: References | None = None
    attempts: list[_Attempt] = []
    error: ErrorRecord | None = None
    try:
        with head.stage("load"):
            loaded, job = preparing.load(job)
        with head.stage("reference") as notes:
            threads.widen(job)
            references = reference.compute(loaded, job)
            notes += references.warnings
            job = named(job, references)
            # Within the stage, so that the row names it: nothing would be compared with nothing.
            if references.vacuous is not None:
                raise references.vacuous
            job = references.of_job(job)
    except StageFailedError as failed:
        error = failed.error
    else:
        loaded.reading.stop()  # what exporters open is theirs
        siblings.make(job, loaded, emit, partial(_of_sibling, head, loaded, references))
        for exporter in job.exporters:
            recorder = Recorder(job, emit, loading.describe, on_error)
            attempts.append(_attempt(exporter, loaded, references, job, recorder))
            # At once: should the next exporter end the process, this one's outcome is known.
            emit(attempts[-1].outcome)
            if not attempts[-1].calls_for_another:
                break
        else:
            # Only now: another exporter may have made a file that takes all sizes.
            attempts += _ruled(attempts, loaded, job, emit, on_error)
    result = _result(job, head, attempts, error, loaded, references)
    # A failure before any exporter has run is none that another one could cure.
    if result.error is not None and loaded is not None and references is not None:
        result = _advised(result, result.error, attempts, loaded, references, job)
    return onnx_wording.of_result(result, job)


def _of_sibling(head: Recorder, loaded: Loaded, references: References, job: Job) -> JobResult:
    """What a job comes to that shares model and references, without the last resorts of one."""
    attempts: list[_Attempt] = []
    for exporter in job.exporters:
        recorder = Recorder(job, lambda news: None, loading.describe)
        attempts.append(_attempt(exporter, loaded, references, job, recorder))
        if not attempts[-1].calls_for_another:
            break
    result = _result(job, head, attempts, None, loaded, references)
    return onnx_wording.of_result(result, job)


def _ruled(
    attempts: list[_Attempt], loaded: Loaded, job: Job, emit: Emit, on_error: OnError | None
) -> list[_Attempt]:
    """One more attempt at a file that is right at multiples and refuses all other sizes."""
    first = next((attempt for attempt in attempts if attempt.rule), None)
    if first is None or first.error is None:
        return []
    ruled, references = multiples.assumed(loaded, job, first.rule, first.error.message)
    recorder = Recorder(ruled, emit, loading.describe, on_error)
    done = _attempt(first.exporter, loaded, references, ruled, recorder)
    emit(done.outcome)
    # With other sizes it fails as before: the first attempt tells more of it.
    return [done] if done.error is None else []


def _advised(
    result: JobResult,
    error: ErrorRecord,
    attempts: list[_Attempt],
    loaded: Loaded,
    references: References,
    job: Job,
) -> JobResult:
    """The result of a job that failed, with what the configuration could do about it."""
    if error.code is Code.IO:  # nothing
        return result

    def probe(exporter: str, opset: int) -> ErrorRecord | None:
        # A folder of its own: the file of the probe must not be found among the results.
        folder = Path(job.staging_dir) / "probe"
        other = job.model_copy(update={"opset": opset, "staging_dir": str(folder)})
        # Without events: whoever watches is shown the opset that was requested.
        recorder = Recorder(other, lambda stage: None, loading.describe)
        done = _attempt(exporter, loaded, references, other, recorder)
        shutil.rmtree(folder, ignore_errors=True)
        return done.error

    failures = [(attempt.exporter, attempt.error) for attempt in attempts if attempt.error]
    hint = remedy.hint(error, failures, loaded, job, probe)
    told = clarity.in_full(error, result.attempts_by_exporter)
    # Made anew: a copy would not be validated.
    error = ErrorRecord.model_validate(dict(told) | {"hint": hint})
    return result.model_copy(update={"error": error})


def _attempt(
    exporter: str, loaded: Loaded, references: References, job: Job, recorder: Recorder
) -> _Attempt:
    """Export with one exporter and carry the result to a sealed file, or to its error."""
    done = _Attempt(exporter)
    folder = Path(job.staging_dir) / f"attempt-{exporter}"
    # An exporter runs the model, and what that leaves in it must not reach the next one.
    loaded = replace(loaded, model=execution.replica(loaded.model))
    try:
        _convert(done, folder, loaded, references, job, recorder)
    except StageFailedError as failed:
        done.error = failed.error
        if failed.error.code is not Code.MEM_LIMIT:  # there is no room to look at it
            wrong = delivery.WRONG.replace("*", exporter)
            publishing.leave_graph(folder / _RAW, Path(job.staging_dir) / wrong)
    # What cannot be removed goes with the staging folder.
    shutil.rmtree(folder, ignore_errors=True)
    done.stages = recorder.records
    return done


def _convert(
    done: _Attempt,
    folder: Path,
    loaded: Loaded,
    references: References,
    job: Job,
    recorder: Recorder,
) -> None:
    raw = folder / _RAW
    final = Path(job.staging_dir) / job.target
    simplify: SimplifyRecord | None = None
    # As if all went well, which it mostly does; `conclusion.told` corrects the file else.
    told = stamp.expected(loaded, references, job, done.exporter)
    with recorder.stage("export"), threads.own(job):
        values = parameters(loaded, job)
        export(done.exporter, loaded, references, job, raw)
    with recorder.stage("check"):
        model = _checked(raw, done.exporter, loaded, references, job, values)
        if job.simplifier is None:
            publishing.save(model, final, job.export, told, folder)
    if job.simplifier is not None:
        with recorder.stage("simplify"):
            simplified = _simplified(model, job, folder)
            model = simplified.model or checking.exported(raw, job, references.cases)
            simplify = simplified.record
            told = told if simplify.applied else stamp.unsimplified(told)
            del simplified  # which may hold weights as well
            publishing.save(model, final, job.export, told, folder)
    with recorder.stage("verify") as notes:
        job = threads.of_runtime(job)
        # Before `light`, which takes away values that some of these conditions read.
        notes += kernels.known(model)
        graph = structure.light(model)
        del model  # the session holds its own copy of the weights
        frozen = limits.frozen(done.exporter, recorder.caught["export"], loaded, references, job)
        proof = attribution.prove(raw, final, graph, simplify, references, job, values, told)
        verdict = conclusion.drawn(proof.verdict, references, job, frozen)
        verdict = _finished(verdict, told, final, loaded, references, job, values)
        done.verify, done.rule = verdict.record, verdict.rule
        if verdict.error is not None:
            raise fastpath.explained(verdict.error, final, loaded, job, references, values)
        _prove(done, verdict, final, folder, references, job, values)
    with recorder.stage("publish"):
        done.files = publishing.seal(final, proof.graph)
        done.onnx = publishing.described(proof.graph, job, done.exporter, proof.simplify)
        if job.variants:
            done.references = publishing.sealed(final.with_name(kept.FILE))


def _checked(
    raw: Path,
    exporter: str,
    loaded: Loaded,
    references: References,
    job: Job,
    values: dict[str, Array],
) -> ModelProto:
    """What the exporter made, which is sound and trains what the model does."""
    model = checking.exported(raw, job, references.cases)
    checking.check(model, job, exporter, set(values))
    if job.training == "train":
        hint = exporters.load(exporter).TRAINING_HINT
        training.check(model, loaded, references.dropped, f"the {exporter} export", hint)
    return model


def _finished(
    verdict: Verdict,
    told: dict[str, str],
    final: Path,
    loaded: Loaded,
    references: References,
    job: Job,
    values: dict[str, Array],
) -> Verdict:
    """The verdict with what real samples say, on the file that says what was found."""
    verdict = real.judged(verdict, final, references, job, values, loaded.metric)
    return settled(conclusion.told(verdict, told, final, references, job, values))


def _prove(
    done: _Attempt,
    verdict: Verdict,
    final: Path,
    folder: Path,
    references: References,
    job: Job,
    values: dict[str, Array],
) -> None:
    """Damage a file that is right, where that is asked for, and keep what it was judged by."""
    if job.verify.mutations:
        verdict = settled(mutation.prove(final, verdict, references, job, values, folder))
        done.verify = verdict.record
        if verdict.error is not None:
            raise verdict.error
    if job.variants:  # of which nobody runs the model again
        kept.write(final.with_name(kept.FILE), references, job, done.verify, precisions(job))


def _simplified(model: ModelProto, job: Job, folder: Path) -> simplification.Simplified:
    options, declared = job.simplifier_options, _declared(job)
    return simplification.simplify(model, str(job.simplifier), options, declared, folder)


def export(
    exporter: str, loaded: Loaded, references: References, job: Job, destination: Path
) -> None:
    # For this exporter alone: data files of two exports in one folder would share a name.
    destination.parent.mkdir(parents=True)
    example = _example(references, loaded)
    with execution.bound(loaded, job, example) as flat:
        exporters.export(exporter, flat, execution.in_order(loaded, job), example, destination)


def _example(references: References, loaded: Loaded) -> tuple[torch.Tensor, ...]:
    if loaded.kind == "onnx":  # nothing is traced, and torch has no tensors of strings
        return ()
    return execution.tensors(references.cases[0].inputs, loaded.device)


def precisions(job: Job) -> list[str]:
    """Those whose rounding the variants are judged by that are made from a job's file, ever."""
    # Measuring it takes as long as running the model several times in each case.
    found = {variant.precision for variant in job.variants} - {*QUANTISED}
    return sorted({rounding_of(precision) for precision in found} | set(job.precisions))


def named(job: Job, references: References) -> Job:
    """The job with its outputs named by their paths, where it names none and they have keys."""
    own = [name for name in references.names if not name.startswith("#")]
    return job if job.outputs or not own else job.model_copy(update={"outputs": own})


def _declared(job: Job) -> set[str]:
    return {symbol for axes in job.dynamic_axes.values() for symbol in axes.values()}


def parameters(loaded: Loaded, job: Job) -> dict[str, Array]:
    """Values to feed for parameters that are graph inputs (``export_params: false``)."""
    state = {} if job.export.export_params else model_parameters.of(loaded)
    if not state:
        return {}
    names = job.export.parameter_names or list(state)
    if len(names) != len(state):
        raise StageError(
            Code.EXPORT,
            f"{job.key}.export.parameter_names has {len(names)} names, the model "
            f"{len(state)} parameters",
            "give one name for each",
        )
    return {name: tensors.array(tensor) for name, tensor in zip(names, state.values(), strict=True)}


def _result(
    job: Job,
    head: Recorder,
    attempts: list[_Attempt],
    error: ErrorRecord | None,
    loaded: Loaded | None,
    references: References | None,
) -> JobResult:
    """The row's content: of the exporter that verified, else of the failure that tells most."""
    stages = dict(head.records)
    shown = _Attempt("")
    if references is not None and references.vacuous is not None:
        shown.verify = verification.vacuous(references)
    if attempts:
        # Only the last can have verified: there the loop ends.
        failed = [attempt.error for attempt in attempts if attempt.error]
        shown = attempts[-1 if attempts[-1].error is None else clarity.clearest(failed)]
        error = shown.error
        # The first two ran once for all exporters.
        stages.update({n: shown.stages[n] for n in STAGES if n not in ("load", "reference")})
    status: Status = "ok" if error is None else "failed"
    # Out of memory is a status of its own, whichever stage met it.
    if error is not None and error.code is Code.MEM_LIMIT:
        status = "oom"
    return JobResult(
        name=job.name,
        artifact=job.artifact,
        status=status,
        error=error,
        stages=stages,
        attempts_by_exporter=[attempt.outcome for attempt in attempts],
        files=shown.files,
        onnx=shown.onnx,
        references=shown.references,
        precisions=precisions(job) if shown.references else [],
        check=CheckRecord.of(stages),
        verify=shown.verify,
        device=str(loaded.device) if loaded else None,
        weights_sha256=loaded.weights_sha256 if loaded else None,
        weights_origin=loaded.weights_origin if loaded else None,
        conditioned=loaded.conditioned if loaded else None,
        # What is in here beyond the key keeps the result out of the store.
        files_read=loaded.reading.files() if loaded else [],
    )
