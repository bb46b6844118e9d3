"""On which providers a file runs once it is made: to be timed, or only to be verified there."""

from __future__ import annotations

from converter.model.batch import BenchmarkSpec
from converter.model.job import Job
from converter.plugins import providers


def of(job: Job, spec: BenchmarkSpec) -> list[str]:
    """The providers that a file is timed on, then those that it is only verified on.

    Of the providers that are asked for those that read its format; where none does it is timed on
    the one that verified it.
    """
    timed = [name for name in spec.providers if _reads(name, job)]
    if spec.providers and not timed:
        timed = [job.provider]
    verified = [name for name in job.verify.providers if _reads(name, job)]
    known = {*timed, job.provider or providers.standard()}
    return timed + [name for name in verified if name not in known]


def _reads(provider: str, job: Job) -> bool:
    return job.format in providers.formats(providers.load(provider))
