"""An exporter: TorchScript, with a name of the company's own in ``producer_name``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.model.base import Frozen

if TYPE_CHECKING:
    from converter.model.job import Job
    from converter.worker.sources.loading import Loaded

SOURCES = "pytorch"
CAPTURE = "trace"
OPSETS = (((2, 0), 13, 18),)
NATIVE_OPSET: int | None = None
TRAINING_HINT = ""


class Options(Frozen):
    """What it may be told.

    Attributes:
        producer: what the file says of its maker.
    """

    producer: str = "acme"


def unsuited(loaded: Loaded, job: Job) -> str | None:
    return None if loaded.kind == "module" else "acme_trace takes modules only"


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    import onnx
    import torch

    torch.onnx.export(
        loaded.torch_model,
        arguments,
        str(destination),
        dynamo=False,
        input_names=list(job.inputs),
        output_names=job.outputs,
        opset_version=job.opset,
        dynamic_axes=job.dynamic_axes,
    )
    model = onnx.load(destination)
    model.producer_name = job.exporter_options["acme_trace"]["producer"]
    onnx.save_model(model, destination)
