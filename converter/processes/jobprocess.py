"""The process of one job: redirect, run the pipeline, hand over the result, end at once."""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from converter.model.job import Job
from converter.model.records import Apart, ExporterAttempt, JobResult, WorkerEvent
from converter.processes import sandbox
from converter.processes.proctree import die_with_parent


def main(
    job: Job,
    entry: str,
    messages: int,
    output: int,
    supervisor: int,
    rules: sandbox.Rules | None,
) -> NoReturn:
    """Run a job in a freshly forked process. Never returns to the code that forked.

    Args:
        entry: ``module:function``; called with the job and a function that takes its news.
        messages: descriptor of a pipe that takes JSON lines: stages and what came of exporters,
            then the result.
        output: descriptor that takes all that the job prints.
        supervisor: process id of the parent.
        rules: of its sandbox; ``None``: it has none.
    """
    status = 1
    try:
        _settle(output, supervisor)
        # Before anything of the job is imported, its pipeline included.
        if rules is not None:
            sandbox.enter(rules)
        module, _, function = entry.partition(":")

        def emit(news: WorkerEvent) -> None:
            if isinstance(news, ExporterAttempt):
                _send(messages, {"attempt": news.model_dump(mode="json")})
            elif isinstance(news, Apart):
                _send(messages, {"apart": news.begins})
            else:
                _send(messages, {"stage": news})

        result: JobResult = getattr(importlib.import_module(module), function)(job, emit)
        if rules is not None:
            result = sandbox.explained(result, rules)
        _send(messages, {"result": result.model_dump(mode="json")})
        status = 0
    finally:
        _leave(status)


def _settle(output: int, supervisor: int) -> None:
    # SIGKILL, where a supervisor gets SIGTERM: once the supervisor is gone, nobody is left to end a
    # job that ignores SIGTERM.
    die_with_parent(signal.SIGKILL)
    if os.getppid() != supervisor:  # it ended before the kernel knew our wish
        os._exit(1)
    # At its end at once: a model that calls `input()` fails, instead of waiting for its time limit.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # By descriptor: native code and what the model starts do not write through `sys.stdout`.
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(null)
    os.close(output)
    # New objects: those of the server may hold text in their buffers, which a fork copies.
    # `closefd=False`: a model that closes `sys.stdout` must not free the descriptor for another
    # file.
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    # A fork inherits that the server ignores SIGINT and that the supervisor only notes SIGTERM.
    # Before faulthandler, whose `chain` goes on to the handler that it finds.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.enable(file=2)  # a native crash, or SIGTERM at the time limit,
    faulthandler.register(signal.SIGTERM, file=2, chain=True)  # leaves a Python stack in the log
    try:  # where memory is short, the kernel should end this process and not the runner
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        pass


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    # By line: what is in a buffer is lost when the process is killed.
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", line_buffering=True)


def _send(messages: int, message: dict[str, Any]) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    # A pipe takes less than a large result at once.
    while data:
        data = data[os.write(messages, data) :]


def _leave(status: int) -> NoReturn:
    """End without the interpreter's own end, which a model's threads or libraries can hang."""
    error = sys.exception()
    if isinstance(error, SystemExit):
        # As Python has it: no code is success, a message is 1.
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
    # `os._exit` flushes nothing.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the model closed it
            pass
    # `sys.exit` takes any number, and `os._exit` raises for one beyond a C int. The kernel keeps
    # eight bits in any case.
    os._exit(status & 0xFF)
