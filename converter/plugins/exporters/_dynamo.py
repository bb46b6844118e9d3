"""What the exporter ``dynamo`` does in a worker."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch.onnx import errors as onnx_errors

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.plugins.exporters import _parameters, _shapes, _translations
from converter.worker.sources import importing
from converter.worker.sources.loading import Loaded

# How torch.export says that the code needs one size of an axis that was declared dynamic.
_FIXED = ("inferred a static shape", "specialized it to be a constant")

_NO_FORM = (
    "rewrite it with other operators, or leave it to what comes before or after the model (its "
    "result as an input, its operand as an output), or state its ONNX form: export.translations"
)


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    """Write ``destination`` and, beside it, its external data.

    Raises:
        StageError: EXPORT_UNSUPPORTED, for an operator, a source or an option that it cannot do;
            DIM_SPECIALISED, for a dynamic axis that the code fixes; TARGET_DENIED or LOAD, for a
            table of translations.
    """
    table = _table(job)
    shapes = _dynamic_shapes(loaded, job)
    ruled = _shapes.ruled(job) if shapes is not None else None
    if ruled is None:
        _export(loaded, job, arguments, destination, shapes, table)
        return
    try:
        _export(loaded, job, arguments, destination, ruled, table)
    except StageError as refused:
        # torch refuses a named range that it cannot hold, although other sizes are of no concern
        # here: without names it finds the sizes itself, and the cases judge the file.
        print(f"torch.export does not take the rules of dims: {refused.message}")
        try:
            _export(loaded, job, arguments, destination, _shapes.open_(job), table)
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
    table: dict[Any, Any],
) -> None:
    try:
        with warnings.catch_warnings():
            # It was asked for.
            warnings.filterwarnings("ignore", "Exporting a model while it is in training mode")
            # No `training`, which torch 2.15 ignores here: the module's own mode decides. No
            # `verify`: it only warns.
            program = torch.onnx.export(
                loaded.torch_model,
                arguments,
                dynamo=True,
                input_names=list(job.inputs),
                output_names=job.outputs or None,
                opset_version=job.opset,
                dynamic_shapes=shapes,
                optimize=_optimizes(job),
                custom_translation_table=table,
                verbose=False,
            )
    except onnx_errors.OnnxExporterError as error:
        raise _refusal(error) from error
    assert program is not None, "dynamo=True gives a program"
    _parameters.arrange(program.model, loaded, job)
    # torch writes weights beside the file even for tiny models; how they ship is decided when the
    # file is sealed.
    keep = job.export.keep_initializers_as_inputs
    program.save(destination, keep_initializers_as_inputs=keep, external_data=True)


def _optimizes(job: Job) -> bool:
    # Folding would merge parameters that are to be fed one by one. In training mode onnxscript
    # (0.7.2) folds a BatchNormalization into the layer before it, as if it had fixed statistics.
    folds = job.export.constant_folding
    return folds and job.export.export_params and job.training != "train"


def _table(job: Job) -> dict[Any, Any]:
    """The project's own translations, and over them those of the job."""
    table: dict[Any, Any] = _translations.table()
    if job.training == "train":
        table |= _translations.training()
    for reference in job.export.translations:
        for operator, function in importing.translations(reference, job.trust).items():
            table[operator] = _checked(reference, operator, function)
    return table


def _checked(reference: str, operator: object, function: object) -> object:
    """One entry of a table of translations, whose form torch would answer with a traceback."""
    what = f"export.translations '{reference}'"
    # Also functions of Python, such as operator.add; a packet (`torch.ops.ns.op`) stands for
    # several operators, and torch looks up one.
    if isinstance(operator, torch._ops.OpOverloadPacket):
        raise StageError(
            Code.LOAD,
            f"{what} has {operator}, a packet of operators",
            f"Name one of it: torch.ops.{str(operator).replace('::', '.')}.default.",
        )
    # torch 2.15 does not choose among several.
    if isinstance(function, list | tuple) and len(function) == 1:
        function = function[0]
    if not callable(operator) or not callable(function):
        raise StageError(
            Code.LOAD,
            f"{what} has {operator!r}: {function!r}",
            "Write {torch.ops.NAMESPACE.OPERATOR.default: FUNCTION}, one function for each.",
        )
    return function


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
