"""Record the stages of one job. The only module that catches every exception."""

from __future__ import annotations

import bdb
import errno
import os
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.layout import files
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.manifest import fingerprint
from converter.model.records import ErrorRecord, StageName, StageRecord
from converter.worker.inputs.inputs import integer_range
from converter.worker.recording import coverage, refusals

_DEFAULT_CODES: dict[StageName, Code] = {
    "load": Code.LOAD,
    "reference": Code.FORWARD,
    "export": Code.EXPORT,
    "derive": Code.DERIVE,
    "check": Code.CHECKER,
    "simplify": Code.SIMPLIFY,
    "verify": Code.SESSION,
    "benchmark": Code.INTERNAL,
    "publish": Code.IO,
}
# A row stands in the manifest; the log has all of them.
_MAX_WARNINGS = 20
_MAX_MESSAGE = 400
# What torch says of values of a tensor that a table or a list of classes does not have: not of an
# axis, a position or a number of steps that code computed from a shape.
_BAD_VALUE = re.compile(
    r"index out of range in self|target out of range|Class values must be|bincount only supports|"
    r"(?:index|Target|tried to access index|takes value) (-?\d+) "
    r"(?:is out of bounds|on a tensor of|which is not in the valid range)"
)
_LOG = "the traceback is in the log"
# Stages of the converter's own: where code of the user runs, it may be that which writes.
_OWN_STAGES = ("export", "derive", "check", "simplify", "verify", "publish")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
# What torch, ONNX Runtime and NumPy say when an allocation fails.
_NO_MEMORY = ("can't allocate memory", "bad_alloc", "Unable to allocate", "CUDA out of memory")


class StageFailedError(Exception):
    """A stage failed and has been recorded; ``error`` is what goes into the row."""

    def __init__(self, error: ErrorRecord) -> None:
        super().__init__(error.message)
        self.error = error


Describe = Callable[[Exception, Job], tuple[Code, str, str]]
OnError = Callable[[Exception], None]


@contextmanager
def _catching() -> Iterator[list[Exception]]:
    """Within it whatever is raised ends in the list: the one place that catches everything."""
    found: list[Exception] = []
    try:
        yield found
    # SystemExit and KeyboardInterrupt pass: what ends a process is told as NO_RESULT.
    except Exception as error:  # noqa: BLE001 - the one place
        found.append(_with_words(error))


def _with_words(error: Exception) -> Exception:
    """The exception, or one of its name where its own ``__str__`` raises: everybody asks for it."""
    try:
        str(error)
    except Exception as of_text:  # noqa: BLE001 - code of the user's, as what raised it
        kind = type(error)
        words = f"its message cannot be read: __str__ raises {type(of_text).__name__}"
        instead: Exception = type(kind.__name__, (Exception,), {"__module__": kind.__module__})(
            words
        )
        instead.__cause__ = error.__cause__
        return instead.with_traceback(error.__traceback__)
    return error


def refusal(call: Callable[[], object]) -> Exception | None:
    """What a call raises whose inputs nobody has promised it, or ``None``."""
    with _catching() as found:
        call()
    return found[0] if found else None


class Recorder:
    """Times stages, collects their warnings, and turns exceptions into error records.

    Args:
        emit: called with the name of each stage as it begins.
        describe: words for an exception of the user's code while loading.
        on_error: called with what a stage raised, while its frames are still alive.

    Attributes:
        records: of all stages.
        caught: the warnings of each stage that has run, with file and line.
    """

    def __init__(
        self,
        job: Job,
        emit: Callable[[StageName], None],
        describe: Describe,
        on_error: OnError | None = None,
    ) -> None:
        self._job = job
        self._emit = emit
        self._describe = describe
        self._on_error = on_error
        self.caught: dict[StageName, list[warnings.WarningMessage]] = {}
        self.records: dict[StageName, StageRecord] = {name: StageRecord() for name in job.STAGES}
        self.records["benchmark"] = StageRecord(status="not_requested")
        if job.simplifier is None and "simplify" in self.records:
            self.records["simplify"] = StageRecord(status="not_requested")

    @contextmanager
    def stage(self, name: StageName) -> Iterator[list[str]]:
        """Run a stage; the list that it gives takes warnings.

        Raises:
            StageFailedError: the stage raised anything.
        """
        self._emit(name)
        notes: list[str] = []
        _reset_peak()
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            # Once for each line, whatever the environment has set.
            warnings.simplefilter("default")
            with _catching() as found:
                yield notes
            for failure in found:
                # To the log, where tracebacks belong; the row has one line.
                traceback.print_exception(failure)
                # Here the frames are alive, which a debugger needs; the error that is raised below
                # has others.
                if self._on_error is not None:
                    self._on_error(failure)
        seconds = time.perf_counter() - start
        self.caught[name] = list(caught)
        for warning in caught:
            text = f"{warning.category.__name__}: {warning.message}"
            # Recorded warnings are not printed, and the log should have them with their line.
            sys.stderr.write(f"{warning.filename}:{warning.lineno}: {text}\n")
            notes.append(_told(text)[:_MAX_MESSAGE])
        self.records[name] = StageRecord(
            status="failed" if found else "ok",
            seconds=round(seconds, 6),
            peak_rss_bytes=_peak_bytes(),
            warnings=list(dict.fromkeys(notes))[:_MAX_WARNINGS],
        )
        for failure in found:
            raise StageFailedError(self._error(name, failure)) from failure

    def _error(self, stage: StageName, error: Exception) -> ErrorRecord:
        code, message, hint = self._words(stage, error)
        # One line, for a table and a terminal.
        message = _told(message)[: 2 * _MAX_MESSAGE]
        kind = None if isinstance(error, StageError) else type(error).__name__
        return ErrorRecord(
            stage=stage,
            code=code,
            type=kind,
            message=message,
            hint=hint,
            fingerprint=fingerprint(stage, code, kind, message),
        )

    def _words(self, stage: StageName, error: Exception) -> tuple[Code, str, str]:
        # Before the stage's own code: memory and disk run out in any of them.
        if (number := _of_disk(stage, error)) is not None:
            return Code.IO, f"{os.strerror(number)}: {self._job.staging_dir}", files.DISK[number]
        if isinstance(error, StageError):
            return error.code, error.message, error.hint
        text = str(error).strip()
        if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
            return Code.MEM_LIMIT, f"out of memory: {text}", "raise executor.memory_mb"
        # Without a keyboard breakpoint() ends with BdbQuit and input() with EOFError.
        if isinstance(error, bdb.BdbQuit) or (
            isinstance(error, EOFError) and "reading a line" in text
        ):
            return (
                Code.STDIN,
                "the model's code asks for keyboard input, and there is none in a batch",
                "remove the call of input() or breakpoint(); the log has its line",
            )
        # In `load` it is mostly the code of the user that raises: `describe` names its line.
        if stage == "load":
            return self._describe(error, self._job)
        if stage == "export":  # passes over a graph wrap what went wrong in what they are
            while error.__cause__ is not None and isinstance(error.__cause__, Exception):
                error = _with_words(error.__cause__)
        lines = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        hint = _LOG
        if stage == "reference":
            hint = refusals.of_inputs(text, self._job)
            hint = f"{hint}; {_LOG}" if hint else _LOG
            message += _place(error)
            if found := _BAD_VALUE.search(text):
                hint = _ranges(self._job, found[1]) or hint
        return _DEFAULT_CODES[stage], message, hint


def _of_disk(stage: StageName, error: Exception) -> int | None:
    """What the disk did, whatever library says it, and whichever exception carries it."""
    # What has been looked at says more, but not where a failure of the disk made another of it.
    if isinstance(error, StageError) and (error.code is Code.IO or stage not in _OWN_STAGES):
        return None
    said = [number for number in files.DISK if os.strerror(number) in str(error)]
    if stage not in _OWN_STAGES:  # a model may write where it must not, each time
        return errno.ENOSPC if errno.ENOSPC in said else None
    return files.of_disk(error) or next(iter(said), None)


def _told(text: str) -> str:
    """One line, the same each night: where an object lies in memory is not."""
    return _ADDRESS.sub("0x…", " ".join(text.split()))


def _place(error: Exception) -> str:
    """`` (head.py:41)``, the innermost line of the model's own code; empty where there is none."""
    # From the inside out: the innermost line of the model, not of torch below it.
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if coverage.watched(frame.filename):
            return f" ({Path(frame.filename).name}:{frame.lineno})"
    return ""


def _ranges(job: Job, value: str | None) -> str:
    """From which range each input of whole numbers is sampled, and how to state another.

    Args:
        value: the one that torch refuses, where it says so: the inputs that cannot hold it are
            not to blame, as where code indexes an axis that is too short.
    """
    ranges = {name: integer_range(name, spec) for name, spec in job.inputs.items()}
    sampled = [
        f"`{name}` is sampled from {bounds[0]} to {bounds[1]}"
        for name, bounds in ranges.items()
        if bounds is not None and (value is None or bounds[0] <= int(value) <= bounds[1])
    ]
    return f"{', '.join(sampled)}; set `low` and `high` (exclusive)" if sampled else ""


def _reset_peak() -> None:
    """Start a new high-water mark of resident memory, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # 5: the peak alone, see proc(5)
    except OSError:
        return


def _peak_bytes() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # The peak of the whole process, where that of the stage is not to be had.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
