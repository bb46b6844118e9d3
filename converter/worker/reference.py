"""Reference outputs: what the PyTorch model computes, before any exporter has touched it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

from converter.errors import Code, StageError
from converter.job import Job
from converter.worker import cases
from converter.worker.cases import Case
from converter.worker.inputs import Array
from converter.worker.loading import Loaded
from converter.worker.onnx_source import OnnxFile
from converter.worker.session import RuntimeErrors, Session, first_line

# What a model raises at a size that it does not accept.
_REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError, TypeError, ArithmeticError)
_OTHER_SIZES = 2


@dataclass(frozen=True)
class Reference:
    """One case with its inputs and the model's outputs, in the order of ``forward``."""

    case: Case
    inputs: dict[str, Array]
    outputs: list[Array]


@dataclass
class References:
    """All cases of a job.

    Attributes:
        warnings: what the model did to its inputs or its state.
    """

    cases: list[Reference] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add_warning(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def compute(loaded: Loaded, job: Job) -> References:
    """Run the model on every case.

    Raises:
        StageError: FORWARD (with the model's exception), OUTPUT_STRUCTURE, or
            DIM_SPECIALISED when the model itself accepts no other size of a dynamic axis.
    """
    found = References()
    run = _runner(loaded, job, found)
    for case in cases.fixed(job):
        inputs = case.draw(job.seed)
        found.cases.append(Reference(case, inputs, run(inputs)))
    expected = len(found.cases[0].outputs)
    if job.outputs and len(job.outputs) != expected:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"outputs names {len(job.outputs)} ({', '.join(job.outputs)}), "
            f"forward returns {expected} tensor{'s' * (expected != 1)}",
            "name each output once",
        )
    found.cases += _other_sizes(job, run)
    return found


def _other_sizes(job: Job, run: Callable[[Mapping[str, Array]], list[Array]]) -> list[Reference]:
    """Two other sizes for each dynamic symbol, and for all of them together."""
    every = list(cases.symbols(job))
    kept: list[Reference] = []
    refused: dict[str, str] = {}
    for moved in [[symbol] for symbol in every] + ([every] if len(every) > 1 else []):
        count = 0
        for case in cases.candidates(job, moved):
            inputs = case.draw(job.seed)
            try:
                outputs = run(inputs)
            except _REFUSALS as error:
                refused.setdefault(moved[0], f"at {case.label}: {first_line(error)}")
                continue
            if all(output.size and np.isfinite(output).all() for output in outputs):
                kept.append(Reference(case, inputs, outputs))
                count += 1
            if count == _OTHER_SIZES:
                break
    reached = {symbol for reference in kept for symbol in reference.case.sizes}
    for symbol in every:
        if symbol not in reached:
            raise StageError(
                Code.DIM_SPECIALISED,
                f"axis {symbol} is declared dynamic, but the PyTorch model runs at no other size "
                f"({refused.get(symbol, 'its outputs are empty or not finite there')})",
                f"remove {symbol} from dynamic_axes, or give axes that change together one name",
            )
    return kept


def _runner(
    loaded: Loaded, job: Job, found: References
) -> Callable[[Mapping[str, Array]], list[Array]]:
    if isinstance(loaded.model, OnnxFile):
        session = Session(loaded.model.path, optimise=False, threads=job.threads)

        def run_onnx(inputs: Mapping[str, Array]) -> list[Array]:
            try:
                return session.run(inputs)
            except RuntimeErrors as error:
                raise StageError(
                    Code.FORWARD, f"the original file does not run: {first_line(error)}"
                ) from error

        return run_onnx

    # Modules, scripts, functions and programs are called alike; torch's types do not say so.
    model: Any = loaded.model
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()

    def run_torch(inputs: Mapping[str, Array]) -> list[Array]:
        arguments = tensors(inputs, loaded.device)
        state = _buffers(model)
        torch.manual_seed(job.seed)
        with torch.no_grad(), _in_export(job.verify.reference == "export"):
            result = model(*arguments, **job.constants)
        outputs = [tensor.detach().cpu().numpy().copy() for tensor in flatten(result)]
        for name, argument, array in zip(inputs, arguments, inputs.values(), strict=True):
            if not np.array_equal(argument.cpu().numpy(), array, equal_nan=array.dtype.kind == "f"):
                found.add_warning(f"INPUT_MUTATED: forward changes its argument {name} in place")
        _restore(model, state, found if job.training == "eval" else None)
        return outputs

    return run_torch


def tensors(inputs: Mapping[str, Array], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Fresh tensors: nothing done to them reaches the arrays."""
    return tuple(torch.from_numpy(array.copy()).to(device) for array in inputs.values())


def flatten(result: Any) -> list[torch.Tensor]:
    """Tensors of a model's result in the exporters' order: nested, mappings by insertion, no None.

    Raises:
        StageError: OUTPUT_STRUCTURE, when something in it is not a tensor.
    """
    found: list[torch.Tensor] = []
    _collect(result, found)
    if not found:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"forward returns no tensor but {type(result).__name__}",
            "an ONNX model has tensors as outputs",
        )
    return found


def _collect(value: Any, found: list[torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found)
    elif value is not None:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"forward returns {type(value).__name__}, expected tensors",
            "return tensors, or tuples, lists and dicts of them",
        )


def _buffers(model: Any) -> dict[str, torch.Tensor]:
    """Copies of what forward may change: exporters would bake the changed values in."""
    if not isinstance(model, torch.nn.Module):
        return {}
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _restore(model: Any, state: dict[str, torch.Tensor], found: References | None) -> None:
    if not isinstance(model, torch.nn.Module):
        return
    now = dict(model.named_buffers())
    for name, before in state.items():
        if name in now and not torch.equal(now[name], before):
            if found is not None:
                found.add_warning(f"STATE_MUTATED: forward changes the buffer {name}")
            with torch.no_grad():
                now[name].copy_(before)


@contextmanager
def _in_export(active: bool) -> Iterator[None]:
    """``torch.onnx.is_in_onnx_export()`` is true inside, where ``active``."""
    before = GLOBALS.in_onnx_export
    GLOBALS.in_onnx_export = active
    try:
        yield
    finally:
        GLOBALS.in_onnx_export = before
