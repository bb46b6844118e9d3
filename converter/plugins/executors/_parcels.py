"""What a node of a cluster is given of an attempt, whoever carries it there."""

from __future__ import annotations

import os
import sys

from converter.exchange.luggage import Luggage
from converter.model.batch import BenchmarkSpec, ExecutorSpec
from converter.processes import limits
from converter.processes.carrier import Assignment, Work
from converter.processes.daemon import Parcel


def parcel(
    spec: ExecutorSpec,
    work: Work,
    cpus: float,
    alone: BenchmarkSpec | None,
    luggage: Luggage | None = None,
) -> Parcel:
    """An attempt with the surroundings of this process.

    Args:
        cpus: cores that the cluster counts for it.
        alone: it is a latency, which has all cores of its node.
    """
    job = work.job
    if alone is None:
        # Those of this machine, shared by its workers, say nothing of a node.
        job = job.model_copy(update={"threads": max(1, int(cpus))})
    given = Assignment(
        job,
        work.attempt,
        limits.of(spec),
        work.entry,
        dict(os.environ),
        list(sys.path),
        os.getcwd(),
        luggage,
    )
    own_threads = alone is not None and alone.threads == "auto"
    return Parcel(given, spec.memory_mb == "auto", own_threads)
