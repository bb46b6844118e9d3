"""The stage `load`: from a job to a model in memory, with its weights, on its device."""

from __future__ import annotations

import errno
import inspect
import random
import sys
import traceback
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

import registry
from converter.layout import trust as policy
from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.model.records import WeightsOrigin
from converter.model.source import UNTRAINED, Checkpoint
from converter.plan import foresight
from converter.worker.inputs.cases import Sample
from converter.worker.recording.reading import Reading
from converter.worker.sources import (
    checkpoint,
    freshcode,
    importing,
    onnx_source,
    published,
    values,
    weightguard,
    weights,
)
from converter.worker.sources.onnx_source import OnnxFile

Kind = Literal["module", "script_module", "script_function", "exported_program", "onnx"]
Model = (
    torch.nn.Module
    | torch.jit.ScriptModule
    | torch.jit.ScriptFunction  # type: ignore[type-arg]
    | torch.export.ExportedProgram
    | OnnxFile
)


@dataclass
class Loaded:
    """A model that is ready to run.

    Attributes:
        device: where it is; an ONNX file and a script function stay on the CPU.
        weights_sha256: of the checkpoint, the downloaded file or the source file itself.
        weights_origin: what the library that published them says of them.
        conditioned: the random weights were conditioned.
        reading: notes the files that the user's code reads, until it is stopped.
        structured: its results hold more than tensors and lists of them; known once it has run.
        samples: real ones, of the job's ``data``.
        left_out: of ``data``, what was not read, in words.
        metric: what the job's ``metric`` names.
    """

    model: Model
    kind: Kind
    device: torch.device
    weights_sha256: str | None
    weights_origin: WeightsOrigin | None = None
    conditioned: bool = False
    reading: Reading = field(default_factory=Reading)
    structured: bool = False
    samples: list[Sample] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    metric: Callable[..., Any] | None = None

    @property
    def torch_model(self) -> Any:
        """The model as torch's functions take it (their annotations do not agree on one type).

        Raises:
            StageError: EXPORT_UNSUPPORTED, for an ONNX source.
        """
        if isinstance(self.model, OnnxFile):
            raise StageError(Code.EXPORT_UNSUPPORTED, "the source is ONNX, not a PyTorch model")
        return self.model


def load(job: Job) -> Loaded:
    """Build or read the model of a job, and give it its weights, mode and device.

    Raises:
        StageError: TARGET_DENIED, LOAD, DEVICE_UNAVAILABLE, EXTERNAL_DATA or a WEIGHTS code.
            What the model's own code raises passes through: `describe` words it.
    """
    freshcode.install()  # also for what a model imports when it is run
    device = _device(job.device)
    # A builder may draw its weights from any of the three.
    random.seed(job.seed)
    np.random.seed(job.seed)
    torch.manual_seed(job.seed)
    # The other sources are files with a whole model in them.
    has_builder = job.source.kind in ("registry", "target", "file")
    reading = Reading()
    model, sha256, origin = _build(job, reading) if has_builder else (*_read(job), None)
    kind = _kind(model, job)
    if job.weights == "conditioned" and kind != "module":
        raise _carries_its_own(job)
    _check_mode(kind, job)
    if isinstance(model, torch.nn.Module | torch.export.ExportedProgram):
        # Before it runs: later NaN would be told of an output, and not of the weight.
        weights.check_finite(model)
    if isinstance(model, torch.nn.Module):
        model.train(job.training == "train").to(device)
    elif isinstance(model, torch.export.ExportedProgram):
        if device.type != "cpu":
            # A program has no `to`: devices are also named in its graph.
            model = move_to_device_pass(model, device)
    else:
        device = torch.device("cpu")
    return Loaded(model, kind, device, sha256, weights_origin=origin, reading=reading)


def describe(error: Exception, job: Job) -> tuple[Code, str, str]:
    """Word an exception that `load` let through: code, message and hint.

    The message names the innermost line of the user's own code on the way to the error.
    """
    what = _one_line(error)
    # The run must stop on a full disk, whatever code of the user's met it.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Code.IO, f"{what} ({error.filename})", "Free some space and run again."
    place = _place(error, job)
    message = f"{place}: {what}" if place else f"{job.source} failed to load: {what}"
    if isinstance(error, SyntaxError):
        return Code.LOAD, message, "Correct the file."
    if isinstance(error, ImportError):
        missing = f"Install '{error.name}'" if error.name else "Install what it needs"
        return Code.LOAD, message, f"{missing}, or list its folder in {policy.VARIABLE}."
    return Code.LOAD, message, "Correct the model's code, or its kwargs in the configuration."


def _check_mode(kind: Kind, job: Job) -> None:
    """A run may ask for training mode, and a source may have had it fixed."""
    source = {"exported_program": "an exported program", "onnx": "an ONNX file"}.get(kind)
    if source and job.training == "train":
        raise StageError(
            Code.TRAINING_IGNORED,
            f"training: train was asked for, the mode of {source} was fixed when it was exported",
            f"state {job.key}.training: eval, or build the module itself",
        )


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise StageError(
            Code.DEVICE_UNAVAILABLE,
            "device: cuda is requested, but torch sees no CUDA device",
            "Use device: auto, or a machine with a GPU and a driver that fits this torch.",
        )
    return torch.device("cpu" if name == "cpu" or not available else "cuda")


def _build(job: Job, reading: Reading) -> published.Built:
    """Call the builder that the source names; what the user's own code reads is noted."""
    reading.start()  # a module may read weights when it is imported
    builder, fixed = _builder(job)
    if isinstance(builder, importing.MODELS):  # already built, at module level
        if job.kwargs or job.weights != "random":
            raise StageError(
                Code.LOAD,
                f"{job.source} is a ready {type(builder).__name__}: it takes no kwargs or weights",
                "Remove them, or name the function or class that builds it.",
            )
        return builder, None, None
    key = f"{job.key}.kwargs"
    kwargs = {**fixed, **values.resolved(job.kwargs, job.trust, key)}
    _check_kwargs(builder, kwargs, job)
    if isinstance(job.weights, str) and job.weights not in UNTRAINED:
        reading.stop()  # they count by their name and the version of the library
        return published.build(builder, kwargs, job.weights)
    # Weights come from `weights:` only, where they are checked; a builder of a library loads none.
    with weightguard.guarded(builder, job):
        model = builder(**kwargs)
    if not isinstance(job.weights, Checkpoint):
        return model, None, None
    if not isinstance(model, torch.nn.Module):
        raise _carries_its_own(job)
    if job.weights.is_url:  # it counts by its hash
        reading.leave_out(weights.local(job.weights))
    return model, weights.load_checkpoint(model, job.weights), None


def _builder(job: Job) -> tuple[Any, Mapping[str, Any]]:
    """What builds the model, and the arguments it is always given."""
    source = job.source
    if source.target is not None:
        builder = importing.from_target(source.target, job.trust)
        return builder, _without_backbone(builder)
    if source.file is not None and source.name is not None:
        return importing.from_file(source.file, source.name, job.trust), {}
    name = str(source.registry)
    if (entry := registry.find(name)) is None:
        raise foresight.no_entry(name)
    return importing.from_registry(entry), entry.kwargs


def _without_backbone(builder: Any) -> dict[str, Any]:
    """Torchvision's builders with a backbone download its weights even with ``weights=None``."""
    if not (getattr(builder, "__module__", None) or "").startswith("torchvision."):
        return {}
    # Only where it is a parameter: through `**kwargs` it would reach the network itself.
    takes_one = "weights_backbone" in inspect.signature(builder).parameters
    return {"weights_backbone": None} if takes_one else {}


def _check_kwargs(builder: Any, kwargs: Mapping[str, Any], job: Job) -> None:
    try:
        signature = inspect.signature(builder)
    except ValueError:  # a builder written in C has none
        return
    try:
        # Before the builder runs, whose own TypeErrors are those of its code.
        signature.bind(**kwargs)
    except TypeError as error:
        raise StageError(
            Code.LOAD,
            f"kwargs do not fit {job.source}: {error}",
            f"It takes: {', '.join(signature.parameters) or 'nothing'}.",
        ) from None


def _read(job: Job) -> tuple[Any, str]:
    """Read a source that is a file with a whole model in it."""
    source = job.source
    if job.kwargs:
        raise StageError(
            Code.LOAD, f"kwargs: {job.source} has no builder to give them to", "Remove kwargs."
        )
    if source.onnx is not None:
        if job.weights != "random":
            raise _carries_its_own(job)
        found = onnx_source.load(Path(source.onnx))
        return found, checkpoint.hash_of(found.path)
    # Loading either format may run code. An ONNX file runs none, and needs no trust.
    path = policy.trusted_file(f"source.{source.kind}", str(source.path), job.trust)
    sha256 = checkpoint.hash_of(path)
    try:
        if source.torchscript is not None:
            model: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        else:
            model = torch.export.load(path)
    except (RuntimeError, ValueError, zipfile.BadZipFile) as error:
        form = "TorchScript archive" if source.torchscript else "saved torch.export program"
        raise StageError(
            Code.LOAD,
            f"source.{source.kind}: {path} is not a {form} that this torch reads: "
            f"{_one_line(error)}",
            "Save it again, with torch.jit.save (.pt) or torch.export.save (.pt2).",
        ) from error
    # A script module is a torch.nn.Module too, and takes a checkpoint. A program is none.
    if isinstance(job.weights, Checkpoint) and isinstance(model, torch.nn.Module):
        return model, weights.load_checkpoint(model, job.weights)
    if job.weights != "random":
        raise _carries_its_own(job)
    return model, sha256


def _carries_its_own(job: Job) -> StageError:
    return StageError(
        Code.LOAD,
        f"weights: {job.source} carries its own; they cannot be replaced",
        "Remove weights, or use a source that builds a torch.nn.Module.",
    )


def _kind(model: object, job: Job) -> Kind:
    if isinstance(model, OnnxFile):
        return "onnx"
    # The narrower kinds first: a script module is a module as well.
    if isinstance(model, torch.jit.ScriptFunction):
        return "script_function"
    if isinstance(model, torch.jit.ScriptModule):
        return "script_module"
    if isinstance(model, torch.export.ExportedProgram):
        return "exported_program"
    if isinstance(model, torch.nn.Module):
        return "module"
    kind = type(model)
    raise StageError(
        Code.LOAD,
        f"{job.source} returned a {kind.__module__}.{kind.__qualname__}, not a model",
        "It must return a torch.nn.Module, a script module or function, or an ExportedProgram.",
    )


def _one_line(error: BaseException) -> str:
    name = type(error).__name__
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{name}: {first[:300]}" if first else name


def _place(error: Exception, job: Job) -> str | None:
    """``file:line`` of the innermost frame in the user's own code."""
    # A file that does not parse has no frame in the traceback.
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    roots = [*policy.folders(job.trust)]
    if job.source.target is not None:
        top = sys.modules.get(job.source.target.partition(".")[0])
        file = getattr(top, "__file__", None)
        places = [*getattr(top, "__path__", ())] or ([file] if file else [])
        # A trusted module may lie anywhere on the path, outside of all trusted folders.
        roots += [Path(place).resolve() for place in places]
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if any(path.resolve().is_relative_to(root) for root in roots):
            return f"{path}:{frame.lineno}"
    return None
