"""Libraries of custom operators: every session that is opened for a model loads them.

A session is opened in many places (check, verification, kernels, noise, benchmark, variants), and
a file with custom operators loads in none without its libraries. So they hold for all of a job.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Concatenate, ParamSpec, TypeVar

import onnxruntime as ort

from converter.layout import trust as policy
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.runtime.starting import RuntimeErrors, first_line

AnyJob = TypeVar("AnyJob", bound=Job)
Given = ParamSpec("Given")
Made = TypeVar("Made")

_JOB: ContextVar[Job | None] = ContextVar("_JOB", default=None)


def loaded(
    run: Callable[Concatenate[AnyJob, Given], Made],
) -> Callable[Concatenate[AnyJob, Given], Made]:
    """For the entry of a worker: within it every session loads the job's libraries."""

    @functools.wraps(run)
    def with_libraries(job: AnyJob, /, *args: Given.args, **kwargs: Given.kwargs) -> Made:
        token = _JOB.set(job)
        try:
            return run(job, *args, **kwargs)
        finally:
            _JOB.reset(token)

    return with_libraries


def require(job: Job) -> None:
    """Raise unless all libraries of a job can be loaded.

    Raises:
        StageError: LOAD, where one is missing or is no such library; TARGET_DENIED.
    """
    _register(ort.SessionOptions(), job)


def register(options: ort.SessionOptions) -> None:
    """Make a session load the libraries of the job at hand.

    Raises:
        StageError: as ``require``.
    """
    if (job := _JOB.get()) is not None:
        _register(options, job)


def _register(options: ort.SessionOptions, job: Job) -> None:
    for file in job.export.custom_ops:
        # Loading it runs its code: whose file it is counts each time.
        path = policy.trusted_file("export.custom_ops", file, job.trust)
        try:
            options.register_custom_ops_library(str(path))
        except RuntimeErrors as error:
            raise StageError(
                Code.LOAD,
                f"export.custom_ops: {file} is no library of custom operators that ONNX Runtime "
                f"loads: {first_line(error)}",
                "It must export RegisterCustomOps, and be built for this ONNX Runtime.",
            ) from error
