"""What a job may do to the process that runs it: entry points that misbehave in one way each."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from converter.model.errors import Code
from converter.model.job import Job
from converter.model.records import (
    STAGES,
    Apart,
    ErrorRecord,
    ExporterAttempt,
    FileInfo,
    JobResult,
    OnnxInfo,
    StageRecord,
    VerifyRecord,
    WorkerEvent,
)
from converter.processes import share

Emit = Callable[[WorkerEvent], None]
CONTENT = b"not a model, but a whole file"


def good(job: Job, emit: Emit) -> JobResult:
    """Stage one file and report it."""
    for stage in STAGES:
        emit(stage)
    path = Path(job.staging_dir) / f"{job.name}.onnx"
    path.write_bytes(CONTENT)
    return JobResult(
        name=job.name,
        status="ok",
        stages={stage: StageRecord(status="ok", seconds=0.1) for stage in STAGES},
        files=[
            FileInfo(path=path.name, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
        ],
        onnx=OnnxInfo(
            exporter="torchscript",
            opset=17,
            opsets={"": 17},
            ir_version=8,
            producer="pytorch",
            parameters=0,
            inputs=[],
            outputs=[],
            nodes=1,
            ops={"Conv": 1},
        ),
        verify=VerifyRecord(status="passed"),
    )


def by_tag(job: Job, emit: Emit) -> JobResult:
    """Do what the job's first tag says; without one, be good."""
    if job.tags:
        return globals()[job.tags[0]](job, emit)
    return good(job, emit)


def segfault(job: Job, emit: Emit) -> JobResult:
    emit("load")
    emit("export")
    import ctypes

    ctypes.string_at(0)
    return good(job, emit)


def _first_exporter_fails(emit: Emit) -> None:
    for stage in ("load", "reference", "export", "check", "verify"):
        emit(STAGES[STAGES.index(stage)])
    message = "case second: y is 1, PyTorch gives 2"
    emit(
        ExporterAttempt(
            exporter="torchscript", status="failed", code=Code.VERIFY_VALUE, message=message
        )
    )
    emit("export")


def second_exporter_crashes(job: Job, emit: Emit) -> JobResult:
    _first_exporter_fails(emit)
    os.abort()


def first_exporter_crashes(job: Job, emit: Emit) -> JobResult:
    emit("export")
    if job.exporters[0] == "torchscript":
        os.abort()
    result = good(job, emit)
    done = [ExporterAttempt(exporter=job.exporters[0], status="ok")]
    return result.model_copy(update={"attempts_by_exporter": done})


def first_exporter_crashes_then_all(job: Job, emit: Emit) -> JobResult:
    emit("load")
    if job.exporters[0] == "torchscript":
        emit("export")
    os.abort()


def first_exporter_crashes_late(job: Job, emit: Emit) -> JobResult:
    if job.exporters[0] == "torchscript":
        emit("verify")
        os.abort()
    emit("export")
    error = ErrorRecord(stage="export", code=Code.EXPORT, message="no", fingerprint="f" * 12)
    done = ExporterAttempt(exporter="dynamo", status="failed", code=Code.EXPORT, message="no")
    return good(job, emit).model_copy(
        update={"status": "failed", "error": error, "attempts_by_exporter": [done]}
    )


def crashes_after_an_exporter_verified(job: Job, emit: Emit) -> JobResult:
    emit("export")
    emit(ExporterAttempt(exporter="torchscript", status="ok"))
    emit("publish")
    os.abort()


def second_exporter_hangs(job: Job, emit: Emit) -> JobResult:
    _first_exporter_fails(emit)
    time.sleep(60)
    return good(job, emit)


def abort(job: Job, emit: Emit) -> JobResult:
    emit("export")
    os.abort()


def killed_once(job: Job, emit: Emit) -> JobResult:
    emit("load")
    mark = Path(job.model_dir) / "killed"
    print("this is a try", flush=True)
    if not mark.exists():
        mark.touch()
        (Path(job.staging_dir) / "left over").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    assert not list(Path(job.staging_dir).iterdir())
    return good(job, emit)


def killed(job: Job, emit: Emit) -> JobResult:
    emit("load")
    os.kill(os.getpid(), signal.SIGKILL)
    return good(job, emit)


def supervisor_killed_once(job: Job, emit: Emit) -> JobResult:
    return _supervisor_hit_once(job, emit, signal.SIGKILL)


def supervisor_stopped_once(job: Job, emit: Emit) -> JobResult:
    return _supervisor_hit_once(job, emit, signal.SIGSTOP)


def _supervisor_hit_once(job: Job, emit: Emit, number: signal.Signals) -> JobResult:
    emit("load")
    mark = Path(job.model_dir) / "hit"
    if not mark.exists():
        mark.touch()
        _sleeper(job)
        os.kill(os.getppid(), number)
        time.sleep(60)
    return good(job, emit)


def exits_0(job: Job, emit: Emit) -> JobResult:
    emit("load")
    os._exit(0)


def sys_exits_0(job: Job, emit: Emit) -> JobResult:
    emit("load")
    sys.exit(0)


def raises(job: Job, emit: Emit) -> JobResult:
    raise LookupError("a bug outside of every stage")


def too_much(job: Job, emit: Emit) -> JobResult:
    emit("load")
    held: list[bytes] = []
    while len(held) < 64:
        held.append(b"x" * (64 << 20))
    return good(job, emit)


def too_much_in_children(job: Job, emit: Emit) -> JobResult:
    emit("reference")
    code = "import time; held = b'x' * (300 << 20); time.sleep(60)"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    children[0].wait()
    return good(job, emit)


def hangs(job: Job, emit: Emit) -> JobResult:
    emit("load")
    time.sleep(60)
    return good(job, emit)


def keeps_a_file(job: Job, emit: Emit) -> JobResult:
    Path(os.environ["TMPDIR"], "kept").touch()
    return hangs(job, emit)


def makes_others(job: Job, emit: Emit) -> JobResult:
    """Take longer for what is not its own than it has for itself."""
    emit("load")
    for _ in job.siblings:
        emit(Apart(begins=True))
        time.sleep(1.0)
        emit(Apart(begins=False))
    return good(job, emit)


def hangs_behind_others(job: Job, emit: Emit) -> JobResult:
    makes_others(job, emit)
    return hangs(job, emit)


def hangs_at_others(job: Job, emit: Emit) -> JobResult:
    emit("load")
    emit(Apart(begins=True))
    time.sleep(60)
    return good(job, emit)


def hangs_hard(job: Job, emit: Emit) -> JobResult:
    emit("load")
    emit("reference")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def _sleeper(job: Job) -> None:
    """A process in a session of its own, that ignores SIGTERM."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", code, job.model_dir], start_new_session=True)


def hangs_with_grandchild(job: Job, emit: Emit) -> JobResult:
    _sleeper(job)
    if os.fork() == 0:  # an orphan that has left the group as well
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    return hangs_hard(job, emit)


def leaves_a_child(job: Job, emit: Emit) -> JobResult:
    _sleeper(job)
    return good(job, emit)


def floods(job: Job, emit: Emit) -> JobResult:
    """1 GB of output, by a program that writes to the descriptor itself."""
    print("first words", flush=True)
    subprocess.run(["head", "-c", "1000000000", "/dev/zero"], check=True)
    print("last words", flush=True)
    return good(job, emit)


def asks(job: Job, emit: Emit) -> JobResult:
    emit("load")
    input("name? ")
    return good(job, emit)


def surroundings(job: Job, emit: Emit) -> JobResult:
    print(os.environ.get("CONVERTER_PROBE"), os.getcwd(), flush=True)
    return good(job, emit)


def shares(job: Job, emit: Emit) -> JobResult:
    """Says how many threads it may use beside another job, and alone."""
    found = [share.threads(1)]
    end = time.monotonic() + 30
    while share.threads(1) == found[0] and time.monotonic() < end:
        time.sleep(0.02)
    print(*found, share.threads(1))
    return good(job, emit)


def naps(job: Job, emit: Emit) -> JobResult:
    time.sleep(1)
    return good(job, emit)


def lies(job: Job, emit: Emit) -> JobResult:
    """Change the file after it was hashed."""
    result = good(job, emit)
    (Path(job.staging_dir) / f"{job.name}.onnx").write_bytes(CONTENT[::-1])
    return result


def slow_at_first(job: Job, emit: Emit) -> JobResult:
    """Hang in the first of several tries; each has a folder of its own on several nodes."""
    emit("load")
    mark = Path(job.staging_dir).parent / "begun"
    if not mark.exists():
        mark.touch()
        time.sleep(60)
    print("the second", flush=True)
    return good(job, emit)


def waits_for_go(job: Job, emit: Emit) -> JobResult:
    emit("load")
    while not (Path(job.model_dir).parent / "go").exists():
        time.sleep(0.05)
    return good(job, emit)


def leaks(job: Job, emit: Emit) -> JobResult:
    os.environ["CONVERTER_LEAK"] = "yes"
    return good(job, emit)


def seen(job: Job, emit: Emit) -> JobResult:
    print(os.environ.get("CONVERTER_LEAK"), os.environ.get("CONVERTER_PROBE"), flush=True)
    return good(job, emit)
