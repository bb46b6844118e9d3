"""The jobs that time files which exist: what crosses the boundary for them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from converter.model.job import Job


class Measure(Job):
    """A job whose file exists: ``file``, absolute, is timed on one execution provider.

    Attributes:
        provider: name of a module of ``converter.plugins.providers``.
        verified_on: the one that it was verified on when it was made; empty: the standard one.
        timed: else it is verified there, and no more.
        parent_file: the ONNX file that it was made from, where it was; absolute.
        references: the file with the cases that the model was run on, where there is one;
            ``references_sha256`` is its hash.
        budget_s: seconds for the file, and again for PyTorch.
        batch_sizes: further sizes of a dynamic batch axis.
        time_torch: time the PyTorch model too.
    """

    ENTRY: ClassVar[str] = "converter.worker.benchmark.benchmarking:run"

    file: str
    verified_on: str = ""
    timed: bool = True
    parent_file: str = ""
    references: str = ""
    references_sha256: str = ""
    budget_s: float
    batch_sizes: list[int] = Field(default_factory=list)
    time_torch: bool = True


class PairedBenchmark(Job):
    """A job whose file is timed again beside the baseline's; ``inputs`` has what to feed.

    Attributes:
        baseline_file, file: absolute.
        baseline_source, source_file: the ONNX files that they were made from, or are.
        provider: name of a module of ``converter.plugins.providers``.
    """

    ENTRY: ClassVar[str] = "converter.worker.benchmark.paired:run"

    baseline_file: str
    baseline_source: str
    file: str
    source_file: str
    provider: str
