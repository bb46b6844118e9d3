"""The dynamo exporter: ``torch.onnx.export(dynamo=True)``, through ``torch.export``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch.onnx import errors as onnx_errors

from converter.errors import Code, StageError
from converter.job import Job
from converter.worker.loading import Loaded


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    """Write ``destination`` and, beside it, its external data.

    Raises:
        StageError: EXPORT_UNSUPPORTED, for an operator or a source without ONNX form here.
    """
    if loaded.kind in ("script_module", "script_function"):
        raise StageError(
            Code.EXPORT_UNSUPPORTED,
            "the dynamo exporter does not take TorchScript",
            "use exporter: torchscript",
        )
    if job.export.custom_opsets:
        raise StageError(
            Code.EXPORT_UNSUPPORTED,
            "the dynamo exporter ignores export.custom_opsets",
            "use exporter: torchscript",
        )
    try:
        torch.onnx.export(
            loaded.torch_model,
            arguments,
            destination,
            kwargs=job.constants or None,
            dynamo=True,
            input_names=list(job.inputs),
            output_names=job.outputs or None,
            opset_version=job.opset,
            dynamic_shapes=_dynamic_shapes(loaded, job),
            export_params=job.export.export_params,
            keep_initializers_as_inputs=job.export.keep_initializers_as_inputs,
            optimize=job.export.constant_folding,
            external_data=True,
            verbose=False,
        )
    except onnx_errors.OnnxExporterError as error:
        cause = _root(error)
        raise StageError(
            Code.EXPORT_UNSUPPORTED,
            f"{type(cause).__name__}: {_first_line(cause)}",
            "the log has torch.export's report; try exporter: torchscript",
        ) from error


def _dynamic_shapes(loaded: Loaded, job: Job) -> dict[str, Any] | tuple[Any, ...] | None:
    """``dynamic_axes`` in the terms of ``torch.export``: a mapping for each argument."""
    if loaded.kind == "exported_program" or not any(n in job.dynamic_axes for n in job.inputs):
        return None
    shapes = tuple(job.dynamic_axes.get(name) or None for name in job.inputs)
    if not job.constants:
        return shapes
    # With keyword arguments torch.export wants the shapes by the names that forward gives.
    names = list(inspect.signature(loaded.torch_model.forward).parameters)
    return {**dict(zip(names, shapes, strict=False)), **dict.fromkeys(job.constants)}


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
