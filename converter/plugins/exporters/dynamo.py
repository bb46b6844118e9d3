"""The dynamo exporter: ``torch.onnx.export(dynamo=True)``, through ``torch.export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.model.job import Job

if TYPE_CHECKING:
    from converter.worker.sources.loading import Loaded

SOURCES = "pytorch"
CAPTURE = "graph"
# onnxscript, which converts what dynamo builds at opset 18, states the highest. The lowest is
# stated nowhere, tried with torch 2.15: 16 and 17 are reached for many models, and below 16 the
# file of most stays at 18.
OPSETS = (((2, 0), 16, 25),)
NATIVE_OPSET: int | None = 18
TRAINING_HINT = ""
ALSO_CALLED = ("onnxscript", "torch.export", "export", "torchdynamo", "torch_dynamo")


def unsuited(loaded: Loaded, job: Job) -> str | None:
    if loaded.kind == "onnx":
        return "the dynamo exporter does not take a file that is ONNX already"
    if loaded.kind in ("script_module", "script_function"):
        return "the dynamo exporter does not take TorchScript"
    if ignored := _ignored(job):
        return f"the dynamo exporter does not support export.{' and export.'.join(ignored)}"
    return None


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    # Here, since the parent process reads the constants above and imports no torch.
    from converter.plugins.exporters import _dynamo

    _dynamo.export(loaded, job, arguments, destination)


def _ignored(job: Job) -> list[str]:
    """Options that torch 2.15 drops in silence, or (export_params) answers with a broken file."""
    asked = {
        "export_params: false": not job.export.export_params,
        "parameter_names": bool(job.export.parameter_names),
        "custom_opsets": bool(job.export.custom_opsets),
    }
    return [option for option, stated in asked.items() if stated]
