"""On which providers a file runs once it is made: to be timed, or only to be verified there."""

from __future__ import annotations

from collections.abc import Iterable

from converter.layout import environment
from converter.model.batch import BenchmarkSpec
from converter.model.job import Job
from converter.model.manifest import RuntimeInfo
from converter.plan import variants
from converter.plugins import loader, providers


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


def runtimes_of(job: Job, spec: BenchmarkSpec) -> list[str]:
    """All providers that a file runs on, the one that verifies it when it is made first."""
    first = job.provider or providers.standard()
    return list(dict.fromkeys([first, *of(job, spec)]))


def runtimes(jobs: Iterable[Job], spec: BenchmarkSpec) -> list[RuntimeInfo]:
    """Where the files of a run go: the standard provider, then the others as they are asked for."""
    names = [providers.standard(), *spec.providers]
    for job in jobs:
        for each in (job, *variants.jobs_of(job)):
            names += runtimes_of(each, spec)
    return [_described(name) for name in dict.fromkeys(names)]


def notes(jobs: Iterable[Job], spec: BenchmarkSpec) -> list[str]:
    """What to say before a run of runtimes that are not there: a sentence each."""
    return [
        f"{info.name}: {info.missing}; its cells will be `unavailable`"
        for info in runtimes(jobs, spec)
        if info.missing
    ]


def _described(name: str) -> RuntimeInfo:
    plugin = providers.load(name)
    return RuntimeInfo(
        provider=name,
        name=getattr(plugin, "TITLE", name),
        session=plugin.NAME,
        missing=missing(name) or None,
        lacks=dict(getattr(plugin, "LACKS", {})),
    )


def missing(name: str) -> str:
    """Why a runtime is not installed, and what to do; empty: it is, or only a worker can tell.

    Read from the metadata of installed distributions: nothing is imported here. What the machine
    itself lacks, such as a GPU, shows when a worker asks for it, and so does what is in another
    Python.
    """
    plugin = providers.load(name)
    # ONNX Runtime knows its execution providers; `missing` is what a runtime elsewhere has.
    if not providers.is_runtime(plugin) or hasattr(plugin, "missing"):
        return ""
    packages = loader.packages_of(plugin)
    # Some runtimes have several distributions, of which one is enough.
    if not packages or any(environment.version(part) is not None for part in packages):
        return ""
    return f"{' or '.join(packages)} is not installed: {plugin.INSTALL}"
