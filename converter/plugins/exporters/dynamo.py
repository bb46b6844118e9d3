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
PRELOAD = ("torch._dynamo", "converter.plugins.exporters._dynamo")
TRAINING_HINT = "a layer that torch.export computes by other operators is in no graph"
ALSO_CALLED = ("onnxscript", "torch.export", "export", "torchdynamo", "torch_dynamo")


def unsuited(loaded: Loaded, job: Job) -> str | None:
    if loaded.kind == "onnx":
        return "the dynamo exporter does not take a file that is ONNX already"
    # torch.export (2.15) refuses a script. Its error names TS2EPConverter, which is internal, does
    # not take dynamic axes, and is no API of torch.
    if loaded.kind in ("script_module", "script_function"):
        return (
            "the dynamo exporter does not take TorchScript: torch.export captures Python code, of "
            "which a script has none left; name the module that the script was made of, by "
            "_target_ or file"
        )
    if names := job.export.parameter_names:
        from converter.worker.sources import parameters

        if len(names) > (count := len(parameters.of(loaded))):
            return (
                f"models.{job.name}.export.parameter_names has {len(names)} names, the model "
                f"{count} parameters: give one name for each parameter"
            )
    return None


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    # Here, since the parent process reads the constants above and imports no torch.
    from converter.plugins.exporters import _dynamo

    _dynamo.export(loaded, job, arguments, destination)
