"""Files of formats that runtimes of their own read."""

from __future__ import annotations

from pathlib import Path

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import CheckRecord
from converter.plugins import providers
from converter.worker.runtime import starting


def check(file: Path, parent: Path, job: Job) -> CheckRecord:
    """Whether a file is sound and of its precision, as the runtime of its format tells.

    Args:
        parent: the ONNX file that it was made from.

    Raises:
        StageError: EP_UNAVAILABLE, where the runtime is not there; CHECKER and others;
            PRECISION_NOT_REACHED.
    """
    runtime = starting.require(job.provider, job.provider_options)
    if not providers.checks(runtime):
        hint = "a plugin whose FORMAT is not onnx has to name a PROVIDER that has `check`"
        raise StageError(Code.CHECKER, f"{job.provider} checks no files of {job.format}", hint)
    runtime.prepare()
    return runtime.check(file, parent, job.precision)
