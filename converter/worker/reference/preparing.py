"""The load stage: a model with its weights, its inputs known, ready to be run and exported."""

from __future__ import annotations

from dataclasses import replace

import torch

from converter.model.job import Job
from converter.worker.onnxfile import structure
from converter.worker.reference import conditioning
from converter.worker.runtime import custom_ops
from converter.worker.sources import loading
from converter.worker.sources.loading import Loaded
from converter.worker.sources.onnx_source import OnnxFile


def load(job: Job) -> tuple[Loaded, Job]:
    """Load the model of a job and condition its weights where they are random.

    Returns:
        The model, and the job with its inputs filled in where the source knows them.

    Raises:
        StageError: what ``loading.load`` raises, or FORWARD.
    """
    custom_ops.require(job)
    loaded = loading.load(job)
    # Full float32 on a device too, whatever the model's code has set when it was imported:
    # references and noise in TF32 would widen every tolerance.
    torch.backends.cuda.matmul.allow_tf32 = False
    # Not torch.backends.cudnn.allow_tf32, which torch.testing freezes when a model imports it.
    torch._C._set_cudnn_allow_tf32(False)
    job = _with_inputs(job, loaded)
    return replace(loaded, conditioned=conditioning.prepare(loaded, job)), job


def _with_inputs(job: Job, loaded: Loaded) -> Job:
    """An ONNX source may leave its inputs to the file; what the file calls dynamic is dynamic."""
    if not isinstance(loaded.model, OnnxFile):
        return job
    proto = loaded.model.proto
    inputs = job.inputs or structure.input_specs(proto)
    dynamic = {
        name: {
            axis: symbol
            for axis, symbol in axes.items()
            # A stated shape with fewer axes than the file has is told by the interface, as
            # OUTPUT_STRUCTURE.
            if name not in inputs or axis < len(inputs[name].shape)
        }
        for name, axes in structure.symbolic_axes(proto, job.dynamic_axes).items()
    }
    return job.model_copy(update={"inputs": inputs, "dynamic_axes": dynamic})
