"""The jobs that time files which exist: what crosses the boundary for them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from converter.model.job import Job


class Measure(Job):
    """A job whose file exists: ``file``, absolute, is timed on one execution provider.

    Attributes:
        provider: name of a module of ``converter.plugins.providers``.
        budget_s: seconds for the file, and again for PyTorch.
        batch_sizes: further sizes of a dynamic batch axis.
        time_torch: time the PyTorch model too.
    """

    ENTRY: ClassVar[str] = "converter.worker.benchmark.benchmarking:run"

    file: str
    provider: str
    budget_s: float
    batch_sizes: list[int] = Field(default_factory=list)
    time_torch: bool = True


class PairedBenchmark(Job):
    """A job whose file is timed again beside the baseline's; ``inputs`` has what to feed.

    Attributes:
        baseline_file: absolute.
        file: absolute.
        provider: name of a module of ``converter.plugins.providers``.
    """

    ENTRY: ClassVar[str] = "converter.worker.benchmark.paired:run"

    baseline_file: str
    file: str
    provider: str
