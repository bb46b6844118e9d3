"""The threads of a stage: those of the job, or of all cores that no other job uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from converter.model.job import Job
from converter.processes import share


def widen(job: Job) -> None:
    """Give PyTorch the cores that no other job uses, from here to the end of the job.

    Once, before the references: what it computes again is compared with them to the last bit, and a
    sum has other last bits with other threads.
    """
    torch.set_num_threads(share.threads(job.threads))


def of_runtime(job: Job) -> Job:
    """The job with the threads that ONNX Runtime may use now."""
    return job.model_copy(update={"threads": share.threads(job.threads)})


@contextmanager
def own(job: Job) -> Iterator[None]:
    """Within it PyTorch has no more than the job's own threads, whatever else runs.

    For what becomes part of a file, which would have other last bits, too.
    """
    before = torch.get_num_threads()
    # A fork, which has one, must not get more: those of its parent are not there.
    torch.set_num_threads(min(job.threads, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
