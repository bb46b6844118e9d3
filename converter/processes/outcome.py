"""What the end of a job means when the job could not say so itself, and against `expect`."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from converter.layout import files
from converter.model import manifest
from converter.model.errors import Code
from converter.model.job import Derived, Job
from converter.model.records import (
    STAGES,
    ErrorRecord,
    ExporterAttempt,
    JobResult,
    StageName,
    StageRecord,
    Status,
    WorkerEvent,
)
from converter.model.spec import Expect
from converter.plan.alternatives import named, untried
from converter.processes.limits import Limits
from converter.processes.proctree import exit_signal

_MIB = 1 << 20
_IO_HINTS = {
    **files.DISK,
    errno.ELOOP: "A symbolic link stands where an output belongs: remove it.",
}
_NO_RESULT_HINT = (
    "The model's code ended the process: look for sys.exit, os._exit, a raised KeyboardInterrupt "
    "or closed file descriptors; the log has the rest."
)
_EXCHANGE_HINT = (
    "Files go by the store (executor.shared=false): look at store.path, at the node's way to it, "
    "and at the node's disk (executor.scratch)."
)
_NO_NODE_HINT = (
    "The cluster's own log says what became of the node; run again once there is one that has what "
    "the job asks for."
)

_NO_SANDBOX_HINT = (
    "Run it on a machine with Linux 5.19 or later, or write executor.sandbox=auto: then it runs "
    "without one."
)


@dataclass(frozen=True)
class ProcessExit:
    """How a job's process ended.

    Attributes:
        status: as ``os.wait`` gives it.
        limit: ``time`` or ``memory`` when the supervisor ended it for that, else ``None``.
        stages: each stage that was entered, with the monotonic time.
        attempts: the exporters that were done.
        ended_at: monotonic time.
        peak_bytes: most memory seen in the job's processes.
        last_words: the line of the log that says best what happened; may be empty.
    """

    status: int
    limit: str | None
    stages: tuple[tuple[StageName, float], ...]
    attempts: tuple[ExporterAttempt, ...]
    ended_at: float
    peak_bytes: int
    last_words: str


def outcome(job: Job, limits: Limits, ending: ProcessExit) -> JobResult:
    """The result of a job that ended without one, or against its limits."""
    stage = ending.stages[-1][0] if ending.stages else None
    where = f"in stage {stage}" if stage else "before its first stage"
    status: Status = "crashed"
    # The limits first: what the supervisor killed for one has ended by a signal too.
    if ending.limit == "time":
        status, code = "timeout", Code.TIMEOUT
        message = f"timed out after {limits.timeout_s:g} s {where}"
        hint = "Raise executor.timeout_s; the log shows where it hung."
    elif ending.limit == "memory":
        status, code = "oom", Code.MEM_LIMIT
        limit_mib = (limits.memory_bytes or 0) // _MIB
        message = f"used {ending.peak_bytes // _MIB} MiB {where}, the limit is {limit_mib} MiB"
        hint = "Raise executor.memory_mb, or choose smaller inputs."
    elif number := exit_signal(ending.status):
        name = number.name if isinstance(number, signal.Signals) else f"signal {number}"
        code, message = Code.SIGNAL, f"killed by {name} {where}"
        hint = _signal_hint(number, stage, job)
    else:
        code = Code.NO_RESULT
        message = f"ended with exit status {os.WEXITSTATUS(ending.status)} {where}, no result"
        hint = _NO_RESULT_HINT
    # A limit explains itself; the last line before it is by chance.
    words = ending.last_words if code in (Code.SIGNAL, Code.NO_RESULT) else ""
    return JobResult(
        name=job.name,
        artifact=job.artifact,
        status=status,
        error=_in_full(_error(stage, code, message, hint), ending.attempts, words),
        stages=_stages(job, ending),
        attempts_by_exporter=_attempts(job, stage, ending.attempts, code, message),
    )


def _in_full(
    error: ErrorRecord, attempts: Sequence[ExporterAttempt], last_words: str = ""
) -> ErrorRecord:
    """Add what differs from model to model, and must not be in the fingerprint."""
    # An exporter that failed before may be the better clue: the one that crashed was only the next.
    said = [
        f"{attempt.exporter} had failed before: {attempt.code}: {attempt.message}"
        for attempt in attempts
        if attempt.status == "failed"
    ]
    said += [f"log: {last_words}"] if last_words else []
    # Made anew: a copy would not be validated, and the log's last words are anything.
    return ErrorRecord.model_validate(dict(error) | {"message": "; ".join([error.message, *said])})


def _attempts(
    job: Job,
    stage: StageName | None,
    done: Sequence[ExporterAttempt],
    code: Code,
    message: str,
) -> list[ExporterAttempt]:
    """The exporters that were done, and the one at work when the job ended."""
    # Each exporter goes through the stages behind the export too, until its file is verified.
    exporting = stage in STAGES and STAGES.index(stage) >= STAGES.index("export")
    if (
        isinstance(job, Derived)
        or not exporting
        or len(done) == len(job.exporters)
        or any(a.status == "ok" for a in done)
    ):
        return list(done)
    # Exporters run in order and each that is done was reported, so that their number names the one
    # at work.
    now = job.exporters[len(done)]
    return [*done, ExporterAttempt(exporter=now, status="failed", code=code, message=message)]


def _signal_hint(number: int, stage: StageName | None, job: Job) -> str:
    # The supervisor's own SIGKILL is told as a limit: this one is of somebody else.
    if number == signal.SIGKILL:
        return "The kernel kills when memory runs out: try executor.workers=1."
    if stage == "export" and (others := untried(job)):
        advice = f"try {named(others[0], job.opset)}"
        return f"Native code crashed: {advice}; the log has the Python stack."
    if stage == "simplify":
        return "Native code crashed: try simplify: false; the log has the Python stack."
    return "Native code crashed: the log has the Python stack."


def _error(stage: StageName | None, code: Code, message: str, hint: str) -> ErrorRecord:
    return ErrorRecord(
        stage=stage,
        code=code,
        message=message,
        hint=hint,
        fingerprint=manifest.fingerprint(stage, code, None, message),
    )


def _stages(job: Job, ending: ProcessExit) -> dict[StageName, StageRecord]:
    """Stages that were followed by another are ok, the last one entered failed."""
    records = manifest.not_run_stages(job.STAGES)
    # A stage is reported when it begins: it ends where the next one begins, the last with the
    # process.
    marks = [*ending.stages, (None, ending.ended_at)]
    for (stage, start), (_, end) in pairwise(marks):
        assert stage is not None
        # The next exporter starts over: what the one before it made of later stages is void.
        records |= manifest.not_run_stages(job.STAGES[job.STAGES.index(stage) :])
        records[stage] = StageRecord(status="ok", seconds=round(end - start, 6))
    if ending.stages:
        last = ending.stages[-1][0]
        # The peak is that of the whole job, and is shown where the job ended.
        records[last] = records[last].model_copy(
            update={"status": "failed", "peak_rss_bytes": ending.peak_bytes}
        )
    return records


def lost(job: Job, news: Sequence[WorkerEvent], words: str = "") -> JobResult:
    """The result of a job whose supervisor was killed.

    Args:
        words: why, where it is known.
    """
    hint = _signal_hint(signal.SIGKILL, None, job)
    return _cut_short(job, news, Code.SIGNAL, words or "its supervisor was killed", hint)


def without_node(job: Job, news: Sequence[WorkerEvent], reason: str, losses: int) -> JobResult:
    """The result of a job whose nodes were lost, or that had none.

    Args:
        reason: of the last one, a clause.
        losses: how many were lost before it.
    """
    times = f"; {losses} nodes were lost before" if losses else ""
    return _cut_short(job, news, Code.NO_NODE, f"{reason}{times}", _NO_NODE_HINT)


def unsandboxed(job: Job, reason: str) -> JobResult:
    """The result of a job that was to run in a sandbox where there is none; nothing of it ran.

    Args:
        reason: a clause.
    """
    message = f"executor.sandbox is on, and {reason}"
    return _cut_short(job, [], Code.NO_NODE, message, _NO_SANDBOX_HINT)


def left(job: Job, news: Sequence[WorkerEvent], error: SystemExit | KeyboardInterrupt) -> JobResult:
    """The result of a job that asked to end the process that it shares with the runner."""
    entered = [item for item in news if isinstance(item, str)]
    where = f"in stage {entered[-1]}" if entered else "before its first stage"
    message = f"raised {error!r} {where}, no result"
    return _cut_short(job, news, Code.NO_RESULT, message, _NO_RESULT_HINT)


def _cut_short(
    job: Job, news: Sequence[WorkerEvent], code: Code, message: str, hint: str
) -> JobResult:
    """``news`` is what the job reported, in order."""
    entered = [item for item in news if isinstance(item, str)]
    done = [item for item in news if isinstance(item, ExporterAttempt)]
    stage = entered[-1] if entered else None
    stages = manifest.not_run_stages(job.STAGES)
    # No times: the supervisor took them, and is gone.
    stages |= {name: StageRecord(status="ok") for name in entered[:-1]}
    stages |= {name: StageRecord(status="failed") for name in entered[-1:]}
    return JobResult(
        name=job.name,
        artifact=job.artifact,
        status="crashed",
        error=_in_full(_error(stage, code, message, hint), done),
        stages=stages,
        attempts_by_exporter=_attempts(job, stage, done, code, message),
    )


def not_exchanged(job: Job, error: OSError, base: JobResult | None = None) -> JobResult:
    """The result of a job whose files could not be brought to its node, or from there."""
    return io_failure(job, error, base, hint=_EXCHANGE_HINT)


def io_failure(
    job: Job, error: OSError, base: JobResult | None = None, *, hint: str = ""
) -> JobResult:
    """The result of a job whose files could not be written or moved.

    Args:
        base: what the job reported before; its stages and verdicts are kept.
        hint: in place of the usual one.
    """
    file = error.filename or job.model_dir
    message = f"{error.strerror or error}: {file}"
    hint = hint or _IO_HINTS.get(error.errno or 0, "Check the folder and its owner.")
    record = ErrorRecord(
        stage="publish",
        code=Code.IO,
        type=type(error).__name__,
        message=message,
        hint=hint,
        fingerprint=manifest.fingerprint("publish", Code.IO, type(error).__name__, message),
    )
    # The file may have been verified: what is known of it stays in the row, which fails all the
    # same.
    base = base or JobResult(
        name=job.name,
        artifact=job.artifact,
        status="failed",
        stages=manifest.not_run_stages(job.STAGES),
    )
    stages = base.stages | {"publish": StageRecord(status="failed")}
    return base.model_copy(
        update={"status": "failed", "error": record, "files": [], "onnx": None, "stages": stages}
    )


def input_changed(base: JobResult, paths: Sequence[Path]) -> JobResult:
    """The refusal of a result whose files changed while the job ran: it belongs to no version."""
    named = ", ".join(str(path) for path in paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    message = f"changed while the job ran: {named}{more}"
    if base.error is not None:
        # The change may be the cause of that failure, or have nothing to do with it: both are told.
        message += f" (the job itself: {base.error.code}: {base.error.message})"
    error = ErrorRecord(
        stage="publish",
        code=Code.INPUT_CHANGED,
        message=message,
        hint="Run again when the file is at rest.",
        fingerprint=manifest.fingerprint("publish", Code.INPUT_CHANGED, None, message),
    )
    stages = base.stages | {"publish": StageRecord(status="failed")}
    return base.model_copy(
        update={"status": "failed", "error": error, "files": [], "onnx": None, "stages": stages}
    )


def not_run(job: Job) -> JobResult:
    """The result of a job that was never finished."""
    return JobResult(
        name=job.name,
        artifact=job.artifact,
        status="not_run",
        attempts=0,
        stages=manifest.not_run_stages(job.STAGES),
    )


def apply_expect(result: JobResult, expect: Expect | None) -> JobResult:
    """Turn a result into ``xfail`` or ``xpass`` where the configuration expects a failure.

    The same status and the same code are expected failure; success is ``xpass``, which fails
    the run; anything else stays what it is.
    """
    if expect is None:
        return result
    if result.status == "ok":
        return result.model_copy(update={"status": "xpass"})
    # Another code is another failure than the one that is known.
    code = result.error.code if result.error else None
    if (result.status, code) == (expect.status, expect.code):
        return result.model_copy(update={"status": "xfail"})
    return result
