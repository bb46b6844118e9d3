"""The load stage: a model with its weights, its inputs known, ready to be run and exported."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch

from converter.model import dim_problems
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.inputs import cases, files
from converter.worker.onnxfile import inspection, structure
from converter.worker.reference import conditioning
from converter.worker.runtime import custom_ops
from converter.worker.sources import calling, data, loading
from converter.worker.sources.loading import Loaded
from converter.worker.sources.onnx_source import OnnxFile


def load(job: Job) -> tuple[Loaded, Job]:
    """Load the model of a job and condition its weights where they are random.

    Returns:
        The model, or what of it the job calls, and the job with its inputs filled in where the
        source knows them.

    Raises:
        StageError: what ``loading.load`` raises, FORWARD, or TARGET_DENIED and LOAD for the
            functions of ``data`` and ``metric``.
    """
    custom_ops.require(job)
    loaded = loading.load(job)
    # Full float32 on a device too, whatever the model's code has set when it was imported:
    # references and noise in TF32 would widen every tolerance.
    torch.backends.cuda.matmul.allow_tf32 = False
    # Not torch.backends.cudnn.allow_tf32, which torch.testing freezes when a model imports it.
    torch._C._set_cudnn_allow_tf32(False)
    job = _with_inputs(job, loaded)
    # Before the weights are conditioned, which takes longer than to find that a sample is missing.
    for path in files.downloaded(job):
        loaded.reading.leave_out(path)  # it counts by its hash
    samples, left_out = data.for_verification(job)
    loaded = replace(loaded, samples=samples, left_out=left_out, metric=data.metric(job))
    loaded = replace(loaded, conditioned=conditioning.prepare(loaded, job))
    if job.first is not None and loaded.weights_sha256 is None:
        # Of each graph: nothing else tells that the files of all have the same weights.
        loaded = replace(loaded, weights_sha256=_fingerprint(loaded.model))
    return calling.called(loaded, job), job


def _fingerprint(model: Any) -> str | None:
    """A hash of all weights of a model; ``None``: it has none that can be read."""
    if not isinstance(model, torch.nn.Module):
        return None
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        # A module may keep other things among its weights.
        if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            # As bytes: NumPy has no bfloat16.
            found.update(plain.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _with_inputs(job: Job, loaded: Loaded) -> Job:
    """An ONNX source may leave its inputs to the file; what the file calls dynamic is dynamic."""
    if not isinstance(loaded.model, OnnxFile):
        return job
    proto = loaded.model.proto
    with inspection.worded(loaded.model.path, Code.LOAD):
        inputs = structure.with_words(proto, job.inputs or structure.input_specs(proto))
        symbolic = structure.symbolic_axes(proto, job.dynamic_axes)
    dynamic = {
        name: {
            axis: symbol
            for axis, symbol in axes.items()
            # A stated shape with fewer axes than the file has is told by the interface, as
            # OUTPUT_STRUCTURE.
            if name not in inputs or axis < len(inputs[name].shape)
        }
        for name, axes in symbolic.items()
    }
    complete = job.model_copy(update={"inputs": inputs, "dynamic_axes": dynamic})
    _check_rules(complete)
    return complete


def _check_rules(job: Job) -> None:
    """Raise where ``dims`` does not fit the symbols of a file, which nobody had read before.

    Raises:
        StageError: LOAD.
    """
    places = cases.symbols(job)
    traced = {s: job.inputs[at[0][0]].shape[at[0][1]] for s, at in places.items()}
    every = {symbol for axes in job.dynamic_axes.values() for symbol in axes.values()}
    found = dim_problems.problems("dims", job.dims, traced, sorted(every - traced.keys()))
    if found:
        raise StageError(Code.LOAD, f"{found[0].key}: {found[0].message}", found[0].hint)
