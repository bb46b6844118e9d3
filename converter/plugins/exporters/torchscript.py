"""The TorchScript exporter: ``torch.onnx.export(dynamo=False)``, by tracing or from a script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.model.job import Job

if TYPE_CHECKING:
    from converter.worker.sources.loading import Loaded

SOURCES = "pytorch"
CAPTURE = "trace"
# torch states them.
OPSETS = (((2, 0), 7, 23),)
ALSO_CALLED = ("jit", "trace", "script", "legacy", "torch.jit")
NATIVE_OPSET: int | None = None
# torch imports the tables of all opsets with the first export.
PRELOAD = (
    "converter.plugins.exporters._torchscript",
    *(f"torch.onnx._internal.torchscript_exporter.symbolic_opset{n}" for n in range(7, 21)),
)
TRAINING_HINT = "a dropout whose result nobody uses is in no graph: take it out of forward"


def unsuited(loaded: Loaded, job: Job) -> str | None:
    if loaded.kind == "onnx":
        return "the torchscript exporter does not take a file that is ONNX already"
    if loaded.kind == "exported_program":
        return "the torchscript exporter does not take an exported program"
    if job.export.translations:
        return (
            "the torchscript exporter has no use for export.translations, functions of onnxscript; "
            "what it uses is registered where the model's code is: "
            "torch.onnx.register_custom_op_symbolic"
        )
    return None


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    from converter.plugins.exporters import _torchscript

    _torchscript.export(loaded, job, arguments, destination)
