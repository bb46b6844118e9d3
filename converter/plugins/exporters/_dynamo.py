"""What the exporter ``dynamo`` does in a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.onnx import errors as onnx_errors

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.plugins.exporters import _shapes, _translations
from converter.worker.sources.loading import Loaded

# How torch.export says that the code needs one size of an axis that was declared dynamic.
_FIXED = ("inferred a static shape", "specialized it to be a constant")

_NO_FORM = (
    "rewrite it with other operators, or leave it to what comes before or after the model (its "
    "result as an input, its operand as an output)"
)


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    """Write ``destination`` and, beside it, its external data.

    Raises:
        StageError: EXPORT_UNSUPPORTED, for an operator, a source or an option that it cannot do;
            DIM_SPECIALISED, for a dynamic axis that the code fixes.
    """
    shapes = _dynamic_shapes(loaded, job)
    ruled = _shapes.ruled(job) if shapes is not None else None
    if ruled is None:
        _export(loaded, job, arguments, destination, shapes)
        return
    try:
        _export(loaded, job, arguments, destination, ruled)
    except StageError as refused:
        # torch refuses a named range that it cannot hold, although other sizes are of no concern
        # here: without names it finds the sizes itself, and the cases judge the file.
        print(f"torch.export does not take the rules of dims: {refused.message}")
        try:
            _export(loaded, job, arguments, destination, _shapes.open_(job))
        except StageError:
            raise refused from None
        if _shapes.fixed(destination, job):
            raise refused from None


def _export(
    loaded: Loaded,
    job: Job,
    arguments: tuple[Any, ...],
    destination: Path,
    shapes: tuple[Any, ...] | None,
) -> None:
    try:
        # No `training`: torch 2.15 ignores it here and writes an eval graph, which the pipeline
        # finds (TRAINING_IGNORED). No `verify`: it only warns.
        torch.onnx.export(
            loaded.torch_model,
            arguments,
            destination,
            dynamo=True,
            input_names=list(job.inputs),
            output_names=job.outputs or None,
            opset_version=job.opset,
            dynamic_shapes=shapes,
            keep_initializers_as_inputs=job.export.keep_initializers_as_inputs,
            optimize=job.export.constant_folding,
            # torch writes weights beside the file even for tiny models; how they ship is decided
            # when the file is sealed.
            external_data=True,
            custom_translation_table=_translations.table(),
            verbose=False,
        )
    except onnx_errors.OnnxExporterError as error:
        raise _refusal(error) from error


def _refusal(error: BaseException) -> StageError:
    """What the first cause of an exporter's error says."""
    # torch wraps each step that failed in an error with a long report: the cause has the one line.
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    if suggested := _shapes.suggested(str(error)):
        return StageError(
            Code.DIM_SPECIALISED,
            f"torch.export needs other sizes than were declared: {suggested}",
            f"state them: dims: {{{suggested}}}, or rewrite the code that asks for them",
        )
    for line in lines:
        if any(words in line for words in _FIXED):
            hint = "the model's code fixes this axis; rewrite it, or remove the axis"
            return StageError(Code.DIM_SPECIALISED, line, hint)
    message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    hint = "the log has torch.export's report"
    if "No ONNX function found" in message:
        hint = f"{_NO_FORM}; {hint}"
    return StageError(Code.EXPORT_UNSUPPORTED, message, hint)


def _dynamic_shapes(loaded: Loaded, job: Job) -> tuple[Any, ...] | None:
    """``dynamic_axes`` in the terms of ``torch.export``: a mapping for each argument."""
    # An exported program has had its dynamic axes since it was captured.
    if loaded.kind == "exported_program" or not any(n in job.dynamic_axes for n in job.inputs):
        return None
    # By position, one for each argument; ``None``: all its axes are fixed.
    return tuple(job.dynamic_axes.get(name) or None for name in job.inputs)
