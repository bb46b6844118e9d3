"""Phase 2 of a run: each published file on each provider, one at a time, after all conversions.

It is verified where it was not yet, and timed.

Each measurement is a process of its own with the whole machine: a crash, a hang or a flood of
memory costs that measurement, never the file. A model's row fails only for what is proven about
its file or this machine: the file is wrong on a provider, a provider that was asked for is not
there (unless ``benchmark.optional``), or one of ``verify.providers`` came to no verdict; the file
stays published and in the row either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from converter.config import standard
from converter.display.progress import STOPPING, Progress
from converter.layout import delivery, environment
from converter.layout.interrupts import Interrupts
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.model.errors import Code
from converter.model.job import Job, asked
from converter.model.manifest import ArtifactRow
from converter.model.measure import Measure
from converter.model.records import (
    JobResult,
    Latency,
    ProviderVerdict,
    StageRecord,
    Try,
    VerifyRecord,
)
from converter.plan import placement
from converter.plugins import executors, providers
from converter.plugins.executors import Exchanging, Executor, Finished
from converter.processes import local
from converter.runner.context import RunContext
from converter.runner.state import RunState

_FOLDER = ".benchmark"  # no model can have this name


def expect(jobs: Iterable[Job], context: RunContext) -> None:
    """Have the libraries loaded that will be needed here, while the last conversions run."""
    spec = context.spec
    here = executors.alone(spec.executor, spec.benchmark) is None
    if here and any(placement.of(job, spec.benchmark) for job in jobs):
        local.server(converts=False)


def run(
    record: RunState, context: RunContext, interrupts: Interrupts, shown: Progress
) -> OSError | None:
    """Measure every published file that awaits it; the error that stopped the run, or ``None``.

    A model is recorded as soon as its last provider is done. After a signal or the deadline what
    is left stays unmeasured, and the run is not complete.
    """
    # One after the other: figures that were taken beside other work say how busy the machine was.
    alone = executors.alone(context.spec.executor, context.spec.benchmark)
    if alone is None:
        limits = context.spec.executor.model_dump(include={*ExecutorSpec.model_fields} - {"name"})
        here = standard.executor(**{**limits, "workers": 1, "retries": 0})
        alone = executors.create(here)
    if isinstance(alone, Exchanging):
        alone.exchange(context.store, context.directory, ())
    return execute(record, context, interrupts, shown, alone)


def execute(
    record: RunState,
    context: RunContext,
    interrupts: Interrupts,
    shown: Progress,
    executor: Executor,
) -> OSError | None:
    """Like ``run``, with an executor that runs one job after the other."""
    spec, jobs = context.spec.benchmark, record.unmeasured()
    if not jobs:
        return None
    shown.measuring(len(jobs))
    try:
        owners, measures = _measures(jobs, record, spec, context.directory)
        # A supervisor opens the log of its job in there. For a conversion `delivery.prepare` makes
        # the folder; nobody prepares a measurement.
        for item in measures:
            Path(item.model_dir).mkdir(parents=True, exist_ok=True)
        done: list[tuple[Measure, JobResult]] = []
        # Closing the generator kills and reaps what still runs, also on the way out by `return`.
        with closing(executor.run(measures)) as events:
            for event in events:
                if interrupts.received is not None or interrupts.late:
                    shown.doing(STOPPING)
                    return None
                shown.event(event)
                if not isinstance(event, Finished):
                    continue
                # In the order of `measures`, since the executor runs one at a time.
                place = len(done)
                job = owners[place]
                done.append((measures[place], event.result))
                _keep_log(measures[place], job)
                # All providers of a file are done: its row is written once.
                if owners[place + 1 : place + 2] != [job]:
                    its = [item for item, owner in zip(done, owners, strict=False) if owner is job]
                    found = joined(record.result(job), its, spec.optional)
                    shown.measured(record.amend(job, found))
    except OSError as error:
        return error
    return None


def _measures(
    jobs: Sequence[Job], record: RunState, spec: BenchmarkSpec, directory: Path
) -> tuple[list[Job], list[Measure]]:
    """What is to be done, and for each of it whose file it is about."""
    owners, measures = [], []
    for job in jobs:
        references = record.references(job)
        for provider in placement.of(job, spec):
            owners.append(job)
            made = measure(job, record.row(job), provider, spec, directory)
            measures.append(made.model_copy(update=references))
    return owners, measures


def measure(
    job: Job, row: ArtifactRow, provider: str, spec: BenchmarkSpec, directory: Path
) -> Measure:
    """The job that verifies a job's published file on one provider, and times it there."""
    source = directory / delivery.MODELS / job.name / f"{job.name}.onnx"
    work = directory / delivery.STAGING / _FOLDER / job.label / provider
    changed = {
        "threads": environment.physical_cores() if spec.threads == "auto" else spec.threads,
        # Not the folder of the model: a first attempt truncates the log that it finds, and that
        # would be the log of the conversion. Below staging, which goes at the end of the run.
        "model_dir": str(work),
        "staging_dir": str(work / delivery.STAGING),
        "file": str(directory / row.files[0].path),
        "provider": provider,
        "verified_on": job.provider,
        "timed": provider in spec.providers or provider == job.provider,
        "parent_file": str(source) if job.parent else "",
        "budget_s": spec.budget_s,
        "batch_sizes": spec.batch_sizes,
        "time_torch": spec.torch,
    }
    return Measure.model_validate({**asked(job), **changed})


def _keep_log(item: Measure, job: Job) -> None:
    """Append what a measurement printed to the model's log."""
    own = Path(item.model_dir) / delivery.LOG
    # On a cluster none comes back from a node that was lost.
    text = own.read_bytes() if own.is_file() else b""
    log = Path(job.model_dir) / delivery.LOG
    # The model's code has run since the log was made, and may have put a link in its place.
    delivery.refuse_link(log)
    if text:
        with log.open("ab") as stream:
            stream.write(f"\n---- benchmark on {item.provider} ----\n".encode() + text)


def joined(
    before: JobResult, done: Sequence[tuple[Measure, JobResult]], optional: bool
) -> JobResult:
    """A finished job's result with its measurements.

    Args:
        before: of the conversion.
        done: each provider's job and result, in the order of the configuration.
        optional: a provider that this machine lacks does not fail the model.
    """
    latency = [entry for item, result in done for entry in _latency(item, result)]
    # A row has one error. What the other providers came to is in `latency`.
    failure = next((r for item, r in done if _fails_the_row(item, r, optional)), None)
    verify = before.verify.model_copy(
        update={
            "cases": [*before.verify.cases, *(c for _, r in done for c in r.verify.cases)],
            "providers": [*before.verify.providers, *_verdicts(done, before)],
            **_wrong(result.verify for _, result in done),
        }
    )
    error = failure.error if failure else None
    stages = {**before.stages, "benchmark": _stage(latency, done, optional)}
    return before.model_copy(
        update={
            # Without `expect`, which is applied again when this is recorded.
            "status": "ok" if error is None else "failed",
            "error": error,
            "stages": stages,
            "verify": verify,
            "latency": latency,
            "other_tries": [*before.other_tries, *_tries(done)],
        }
    )


def _tries(done: Sequence[tuple[Measure, JobResult]]) -> Iterator[Try]:
    """The processes of measurements, those that were lost too."""
    for item, result in done:
        for lost in result.other_tries:
            yield lost.model_copy(update={"provider": item.provider})
        on_gpu = providers.load(item.provider).DEVICE == "cuda"
        yield Try(
            provider=item.provider,
            attempt=result.attempts,
            node=result.node.name if result.node is not None else "",
            gpus=len(result.node.gpus) if result.node is not None else int(on_gpu),
            spent=result.spent,
        )


def _latency(item: Measure, result: JobResult) -> list[Latency]:
    """The worker's figures, and a record of what ended it where something did."""
    if result.error is None or not item.timed:
        return result.latency
    missing = result.error.code is Code.EP_UNAVAILABLE
    reason = f"{result.error.code}: {result.error.message}"
    ended = Latency(
        provider=item.provider,
        status="unavailable" if missing else "failed",
        reason=f"{reason}; {result.error.hint}" if result.error.hint else reason,
        threads=item.threads,
        budget_s=item.budget_s,
        node=result.node,
    )
    # Sizes that were timed before it ended keep their figures.
    return [*result.latency, ended]


def _verdicts(
    done: Sequence[tuple[Measure, JobResult]], before: JobResult
) -> Iterator[ProviderVerdict]:
    """What came of the file where it was verified now; also where nothing could be said."""
    known = {verdict.provider for verdict in before.verify.providers}
    for item, result in done:
        yield from result.verify.providers
        if result.error is None or result.verify.providers or item.provider in known:
            continue
        missing = result.error.code is Code.EP_UNAVAILABLE
        yield ProviderVerdict(
            provider=item.provider,
            status="unavailable" if missing else "failed",
            code=result.error.code,
            reason=result.error.message,
        )


def _fails_the_row(item: Measure, result: JobResult, optional: bool) -> bool:
    if result.error is not None and result.error.code is Code.EP_UNAVAILABLE:
        return not optional
    # Where it was to be verified, a crash is no verdict: a green row would claim one.
    known = item.provider == (item.verified_on or providers.standard())
    if result.error is not None and item.provider in item.verify.providers and not known:
        return result.verify.status != "passed"
    return result.verify.status == "failed"


def _wrong(records: Iterable[VerifyRecord]) -> dict[str, object]:
    """What the verification of a file that is wrong on some provider says."""
    wrong = next((record for record in records if record.status == "failed"), None)
    if wrong is None:
        return {}
    return {"status": "failed", "reason": wrong.reason, "faulty_stage": wrong.faulty_stage}


def _came_to(result: JobResult) -> Literal["measured", "unavailable", "failed"]:
    if result.error is None:
        return "measured"
    return "unavailable" if result.error.code is Code.EP_UNAVAILABLE else "failed"


def _stage(
    latency: list[Latency], done: Sequence[tuple[Measure, JobResult]], optional: bool
) -> StageRecord:
    records = [result.stages.get("benchmark", StageRecord()) for _, result in done]
    peaks = [record.peak_rss_bytes for record in records if record.peak_rss_bytes is not None]
    # The stage is told apart from the row: a crash fails the stage, and leaves the row `ok`.
    found: set[str] = {entry.status for entry in latency}
    # What was only verified leaves no figures.
    found |= {_came_to(result) for item, result in done if not item.timed}
    status = "ok"
    if "failed" in found or ("unavailable" in found and not optional):
        status = "failed"
    elif "measured" not in found:
        status = "skipped"
    return StageRecord.model_validate(
        {
            "status": status,
            "seconds": round(sum(record.seconds or 0.0 for record in records), 6),
            "peak_rss_bytes": max(peaks, default=None),
            "warnings": list(dict.fromkeys(w for record in records for w in record.warnings)),
        }
    )
