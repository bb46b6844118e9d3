"""What the exporter ``torchscript`` does in a worker."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.onnx import TrainingMode, errors

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.plugins.exporters import _apart, _symbolics
from converter.worker.sources.loading import Loaded

# What a plain RuntimeError of torch says, and what to do about it.
_REFUSALS = {
    "Couldn't export Python operator": "give the autograd function a `symbolic` method",
    "Unsupported onnx_opset_version": "request another opset",
    "Couldn't lower all tuples": "a script keeps a list of tuples, and ONNX has no such sequence: "
    "fill one list for each item of the tuple, or trace the module instead of scripting it",
}
# What torch 2.15 says of every export, or of the way in which this exporter calls it.
_USUAL = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
    "Setting `training` to something other than default is deprecated",
)


def export(loaded: Loaded, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    """Write ``destination``; parameters over 2 GB go into files beside it.

    Raises:
        StageError: EXPORT_UNSUPPORTED, for an operator or a source without ONNX form here.
    """
    # The fused attention of the eval fast path has no ONNX form; it is the same mathematics.
    fastpath = torch.backends.mha.get_fastpath_enabled()
    # Without gradients, as below, `nn.MultiheadAttention` would take it: the export of a ViT then
    # fails with `aten::_native_multi_head_attention` (torch 2.15).
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Tracing with gradients keeps every activation: over 20 GB for mvit_v2_s.
        with warnings.catch_warnings(), torch.no_grad():
            for text in _USUAL:
                warnings.filterwarnings("ignore", re.escape(text), DeprecationWarning)
            _export(loaded.torch_model, job, arguments, destination)
    except (errors.UnsupportedOperatorError, errors.SymbolicValueError) as error:
        raise StageError(
            Code.EXPORT_UNSUPPORTED, _first_line(error), _advice(str(error), job)
        ) from error
    except ValueError as error:
        if "is not a valid JitScalarType" not in str(error):
            raise
        # By its number is all that torch says of one that it has no table for (2.15).
        raise StageError(
            Code.EXPORT_UNSUPPORTED, "the torchscript exporter has no float8", "cast it in forward"
        ) from error
    except RuntimeError as error:
        # A plain RuntimeError as well: only its text tells it from a crash of the model.
        if job.export.parameter_names and "number of input names provided" in str(error):
            raise _too_many_names(error, job) from error
        hint = next((hint for words, hint in _REFUSALS.items() if words in str(error)), None)
        if hint is None:
            raise
        raise StageError(Code.EXPORT_UNSUPPORTED, _first_line(error), hint) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def _export(model: Any, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    _symbolics.register()
    with _apart.weights(destination):
        _exported(model, job, arguments, destination)


def _exported(model: Any, job: Job, arguments: tuple[Any, ...], destination: Path) -> None:
    torch.onnx.export(
        model,
        arguments,
        str(destination),  # torch writes external data only for a path of type str
        dynamo=False,
        input_names=[*job.inputs, *job.export.parameter_names],
        output_names=job.outputs or None,
        opset_version=job.opset,
        dynamic_axes=job.dynamic_axes or None,
        training=TrainingMode.TRAINING if job.training == "train" else TrainingMode.EVAL,
        # Folding would merge parameters that are to be fed one by one.
        do_constant_folding=job.export.constant_folding and job.export.export_params,
        export_params=job.export.export_params,
        keep_initializers_as_inputs=job.export.keep_initializers_as_inputs,
        custom_opsets=job.export.custom_opsets or None,
    )


def _too_many_names(error: RuntimeError, job: Job) -> StageError:
    """Torch counts inputs and parameters together."""
    names = job.export.parameter_names
    return StageError(
        Code.EXPORT,
        f"{job.key}.export.parameter_names has {len(names)} names, the inputs "
        f"{len(job.inputs)}: {_first_line(error)}",
        "give one name for each parameter",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].strip()


def _advice(message: str, job: Job) -> str:
    """Torch says which opset has the operator, where one has it."""
    if "opset version" in message and "Support for this operator was added in version" in message:
        version = message.split("was added in version")[1].split(",")[0].strip()
        return f"opset {version} has it; this run requests {job.opset}"
    return (
        "rewrite it with other operators, or leave it to what comes before or after the model (its "
        "result as an input, its operand as an output); an ONNX form of your own is registered "
        "where the model's code is: torch.onnx.register_custom_op_symbolic"
    )
