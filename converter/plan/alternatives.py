"""Exporters that a job leaves out, and how a hint names them."""

from __future__ import annotations

from converter.model.job import Job
from converter.plan import opsets, request


def named(exporter: str, opset: int | None) -> str:
    """An exporter in a hint, with the opsets to ask for where it cannot do the one asked for."""
    if opset is None or opsets.supporting([exporter], opset, opsets.installed_torch()):
        return f"exporter: {exporter}"
    low, high = opsets.span(exporter, opsets.installed_torch())
    return f"exporter: {exporter} with an opset from {low} to {high}"


def untried(job: Job) -> list[str]:
    """The exporters that the job leaves out; none where ``auto`` tries every one that can do it."""
    if job.exporter == "auto" or job.source.kind == "onnx":
        return []
    return [name for name in request.exporters() if name not in job.exporters]
