"""The threads of a stage: those of the job, or of all cores that no other job uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from converter.model.job import Job
from converter.processes import share


@contextmanager
def spare(job: Job) -> Iterator[Job]:
    """Within it PyTorch may use what no other job does; gives the job with as many threads."""
    found = share.threads(job.threads)
    with _of_torch(found):
        yield job.model_copy(update={"threads": found})


@contextmanager
def own(job: Job) -> Iterator[None]:
    """Within it PyTorch has the job's own threads, whatever else runs.

    A sum has other last bits with other threads: for what becomes part of a file.
    """
    with _of_torch(job.threads):
        yield


@contextmanager
def _of_torch(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
