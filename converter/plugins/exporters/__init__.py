"""Exporters: one file each, whose name is its configuration name.

An exporter is a module with ``export(loaded, job, arguments, destination) -> None``. It writes
``destination`` (and external data beside it) and raises ``StageError`` with
EXPORT_UNSUPPORTED where the model has no ONNX form; what else it raises becomes EXPORT.
What the exporters can do at which opset stands in ``converter.plan.opsets``.

Their hints say what to do about the model. That another exporter is left to try is added in one
place, ``converter.worker.pipeline.remedy``, which knows whether one is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from converter.model.job import Job
    from converter.worker.sources.loading import Loaded


class Exporter(Protocol):
    """What a module in this package offers."""

    def unsuited(self, loaded: Loaded, job: Job) -> str | None:
        """Why it takes no such source or option at all; ``None``: it tries."""

    def export(
        self, loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path
    ) -> None:
        """Write the ONNX file; ``arguments`` are the tensors of the traced example."""
