"""Run the source model: PyTorch, or the original file of an ONNX source."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import UninitializedParameter
from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.inputs import dtypes
from converter.worker.inputs import tensors as torch_arrays
from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import checking
from converter.worker.recording import refusals
from converter.worker.reference import budget, naming
from converter.worker.reference.arguments import Arguments
from converter.worker.reference.budget import Work
from converter.worker.runtime import runtime_errors
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors, first_line
from converter.worker.sources.loading import Loaded
from converter.worker.sources.onnx_source import OnnxFile

Warn = Callable[[str], None]
Path = tuple[str | int, ...]
"""The keys and the places that lead to a tensor, outermost first."""
# What a model raises at a size or in a precision that it does not accept.
REFUSALS = (
    RuntimeError, ValueError, LookupError, AssertionError, TypeError, ArithmeticError,
    AttributeError, NameError,
)  # fmt: skip


# A context that holds nothing can be entered any number of times.
_NOTHING: AbstractContextManager[None] = nullcontext()


class Runner:
    """Calls the model as ``forward`` would be called, leaving it and its inputs as they were.

    Attributes:
        model: the callable PyTorch model as it was loaded, or ``None`` for an ONNX source. Calls
            go to replicas of it, so that none sees what an earlier one left behind.
        used: the replica of the last call, with what that call left in it.
        device: where it runs.
        counts: whether the next calls are counted; their errors come from deeper in torch then.
        work: what those did; nothing for an ONNX source.
        arguments: makes forward's arguments of tensors; not there for an ONNX source.
        paths: where each output of the last call stood in what forward returned.
    """

    arguments: Arguments

    def __init__(self, loaded: Loaded, job: Job, warn: Warn) -> None:
        self._job = job
        self.device = loaded.device
        self._warn = warn
        self._session: Session | None = None
        self.used: Any = None
        self.counts = False
        self.work = Work()
        self.paths: list[Path] = []
        # Modules, scripts, functions and programs are called alike; torch's types do not say so.
        self.model: Any = None
        if isinstance(loaded.model, OnnxFile):
            # Optimisations are on trial in the file that ships: the reference goes without them.
            self._session = _session(loaded.model, job)
        elif isinstance(loaded.model, torch.export.ExportedProgram):
            # torch refuses to call an exported program itself (2.15).
            self.model = loaded.model.module()
        else:
            self.model = loaded.model
        if self.model is not None:
            self.arguments = Arguments(job, self.model, loaded.kind)
            naming.check_inputs(self.model, loaded.kind, job)
        self._loaded = loaded

    def __call__(
        self,
        inputs: Mapping[str, Array],
        *,
        draw: int = 0,
        used: bool = False,
        within: AbstractContextManager[Any] = _NOTHING,
    ) -> list[Array]:
        """Outputs for one set of inputs.

        Args:
            draw: another one gives random operators other numbers.
            used: run the replica of the last call once more, with what that call left in it, where
                there is one.
            within: where forward runs, and nothing else does: watching Python code costs.
        """
        if self._session is not None:
            return self._of_file(self._session, inputs)
        arguments = tensors(inputs, self.device)
        model = self.used = self.used if used and self.used is not None else replica(self.model)
        # Parameters are watched by their version counters: copies would take as much memory again.
        buffers, versions = _buffers(model), _versions(model)
        with within:
            result = self.forward(arguments, draw=draw, model=model)
        outputs = self._arrays(result)
        self._check_state(model, buffers, versions)
        for name, argument, array in zip(inputs, arguments, inputs.values(), strict=True):
            now = torch_arrays.array(argument)
            if not np.array_equal(now, array, equal_nan=dtypes.is_float(array)):
                self._warn(f"INPUT_MUTATED: forward changes its argument {name} in place")
        return outputs

    def _of_file(self, session: Session, inputs: Mapping[str, Array]) -> list[Array]:
        """Outputs of an ONNX source.

        Raises:
            StageError: FORWARD, where it does not run; OUTPUT_STRUCTURE, for an output that is no
                tensor of numbers.
        """
        try:
            outputs = session.run(inputs)
        except RuntimeErrors as error:
            why = first_line(error)
            raise StageError(
                Code.FORWARD,
                f"the original file does not run: {why}",
                refusals.of_inputs(why, self._job) or runtime_errors.hint(why),
            ) from error
        for name, array in zip(session.outputs, outputs, strict=True):
            kind = session.types[name]
            # Strings, such as the labels of a classifier, are compared too.
            known = array.dtype.kind in "biufcO" or dtypes.is_float(array)
            if not known or kind.startswith(("seq(", "map(")):
                raise _not_numbers(name, kind)
        return outputs

    def _arrays(self, result: Any) -> list[Array]:
        found = _leaves(result)
        if self._job.complex == "pairs":
            found = [(path, real(tensor)) for path, tensor in found]
        names = self._job.outputs
        self.paths = [path for path, _ in found]
        naming.check_outputs(self.paths, names)
        if len(names) != len(found):
            names = [f"#{index}" for index in range(len(found))]
        return [_array(name, tensor) for name, (_, tensor) in zip(names, found, strict=True)]

    def _check_state(
        self, model: Any, buffers: dict[str, torch.Tensor], versions: dict[str, int]
    ) -> None:
        now = dict(model.named_buffers()) if buffers else {}
        changed = [
            name for name, old in buffers.items() if name in now and not torch.equal(now[name], old)
        ]
        # In training mode batch normalisation changes its statistics by right.
        if changed and self._job.training == "eval":
            self._warn(f"STATE_MUTATED: forward changes the buffer {', '.join(changed)}")
        after = _versions(model)
        parameters = [name for name, version in versions.items() if after.get(name) != version]
        if parameters:
            raise StageError(
                Code.STATE_MUTATED,
                f"forward changes the parameter {', '.join(parameters[:5])} in place",
                "take the update out of forward",
            )

    def forward(
        self, arguments: tuple[torch.Tensor, ...], *, draw: int = 0, model: Any = None
    ) -> Any:
        """The model's own result, or that of a variant; what it does to its state stays."""
        # Before each call, so that a random operator repeats itself unless another draw is asked
        # for.
        _seed(self._job.seed + draw, self.device)
        counting = budget.counting(self.work) if self.counts else nullcontext()
        # A graph of gradients would hold every intermediate result: a trace of mvit_v2_s took 20
        # GB.
        with torch.no_grad(), _in_export(self._job.verify.reference == "export"), counting:
            # Not by its truth: a module may have a length, and be empty.
            run = self.model if model is None else model
            placed, named = self.arguments(arguments)
            result = run(*placed, **named)
        # Exporters know no other containers, and are told by now.
        self._loaded.structured = self._loaded.structured or not _plain(result)
        return result


def _session(file: OnnxFile, job: Job) -> Session:
    try:
        return Session(file.path, optimise=False, threads=job.threads)
    except StageError as error:
        raise checking.without_kernel(error, file.proto, job) or error from error


def _not_numbers(name: str, kind: str) -> StageError:
    """The refusal of an output that has maps (of a ZipMap), or is a sequence."""
    hint = "compute only the numbers: cut it off with onnx.utils.extract_model"
    if "map(" in kind:
        hint += ", or convert the classifier without it (skl2onnx: options={'zipmap': False})"
    return StageError(
        Code.OUTPUT_STRUCTURE,
        f"output {name} of the file is {kind}: only tensors are compared",
        hint,
    )


def _seed(seed: int, device: torch.device) -> None:
    """Seed torch where the model runs.

    ``torch.manual_seed`` also seeds devices that were never used, by noting the call with its
    stack for later (torch 2.15): that takes longer than a small model.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


@contextmanager
def bound(loaded: Loaded, job: Job, example: tuple[torch.Tensor, ...]) -> Iterator[Loaded]:
    """Within it ``forward`` takes the flat inputs alone, and returns flat tensors.

    As keyword arguments the TorchScript exporter would make numbers graph inputs, and dynamo
    would lose the names of dynamic axes. Numbers that are defaults of ``forward`` are constants
    too: the TorchScript exporter would pass them as tensors.

    Args:
        example: the flat inputs of the traced example.

    Yields:
        What is to be exported: the model itself with another ``forward``, or one around it.
    """
    if loaded.kind in ("onnx", "exported_program"):  # nothing of a program can be changed
        yield loaded
        return
    model = loaded.torch_model
    arguments = Arguments(job, model, loaded.kind)
    if loaded.kind != "module":
        if not (job.constants or job.arguments or job.complex or loaded.structured):
            yield loaded
            return
        # A script inside of a trace stays a script, with its branches and loops. The exporter's own
        # trace would refuse it (torch 2.15: "not part of the active trace").
        around = _Around(model, _flat(model, arguments, job))
        traced = torch.jit.trace(around, example, check_trace=False)  # type: ignore[no-untyped-call]
        yield replace(loaded, model=traced, kind="script_module")
        return
    own = model.forward
    signature = inspect.signature(own)
    numbers = _numbers(signature, arguments, job)
    if not (numbers or job.constants or job.arguments or job.complex or loaded.structured):
        yield loaded
        return
    arguments.constants = {**numbers, **arguments.constants}
    before = vars(model).get("forward")
    model.forward = _flat(own, arguments, job)
    try:
        yield loaded
    finally:
        # The class's own method was hidden by it, and shows again.
        del model.forward
        if before is not None:  # the model had one of its own
            model.forward = before


def in_order(loaded: Loaded, job: Job) -> Job:
    """The job with its inputs in the order of the graph: a program was captured in its own."""
    if not isinstance(loaded.model, torch.export.ExportedProgram) or not job.arguments:
        return job
    names = Arguments(job, loaded.model, loaded.kind).in_order(loaded.model)
    return job.model_copy(update={"inputs": {name: job.inputs[name] for name in names}})


class _Around(torch.nn.Module):
    """A module around a script, whose own forward cannot be replaced."""

    def __init__(self, inner: Any, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner
        self.forward = forward


def _flat(own: Callable[..., Any], arguments: Arguments, job: Job) -> Callable[..., Any]:
    """``forward`` of flat tensors."""

    def forward(*tensors: torch.Tensor) -> Any:
        placed, named = arguments(tensors)
        result = own(*placed, **named)
        if job.complex == "pairs":
            return tuple(map(real, flatten(result)))
        return result if _plain(result) else tuple(flatten(result))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [f"input_{place}" for place in range(len(job.inputs))]
    if not job.arguments:  # as forward calls them: dynamo names what it makes after them
        known = [n for n in inspect.signature(own).parameters if n not in arguments.constants]
        names = known if len(known) == len(names) else names
    # The exporters ask for it, and would find no parameters.
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in names]
    )
    return forward


def _plain(result: Any) -> bool:
    """Whether exporters take a result as it is: tensors, and tuples and lists of them."""
    if isinstance(result, tuple | list):
        return all(_plain(item) for item in result)
    return result is None or isinstance(result, torch.Tensor)


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Pairs of reals for complex numbers."""
    # Not of a conjugate that PyTorch has not computed yet (torch 2.15).
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _numbers(signature: inspect.Signature, arguments: Arguments, job: Job) -> dict[str, Any]:
    """Defaults that are numbers, of the parameters that get no argument."""
    by_place = [argument for argument in job.arguments if not argument.keyword]
    placed = len(by_place) if job.arguments else len(job.inputs)
    named = {*arguments.constants, *(one.name for one in job.arguments if one.keyword)}
    return {
        name: parameter.default
        for name, parameter in list(signature.parameters.items())[placed:]
        if name not in named and isinstance(parameter.default, bool | int | float)
    }


def tensors(inputs: Mapping[str, Array], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Fresh tensors: nothing done to them reaches the arrays."""
    return tuple(torch_arrays.of(array).to(device) for array in inputs.values())


def flatten(result: Any) -> list[torch.Tensor]:
    """Tensors of a model's result in the exporters' order: nested, mappings by insertion, no None.

    Raises:
        StageError: OUTPUT_STRUCTURE, when something in it is not a tensor.
    """
    return [tensor for _, tensor in _leaves(result)]


def _leaves(result: Any) -> list[tuple[Path, torch.Tensor]]:
    """As ``flatten``, each tensor with the keys and the places that lead to it."""
    found = list(_walk(result, ()))
    if not found:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"forward returns no tensor but {type(result).__name__}",
            "an ONNX model has tensors as outputs",
        )
    return found


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        # NumPy has no bits for a conjugate or a negative that PyTorch has not computed yet.
        yield path, value.resolve_conj().resolve_neg()
        return
    inside = None if value is None else _parts(value)
    if value is not None and inside is None:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"forward returns {type(value).__name__}, expected tensors",
            "return tensors, or tuples, lists and dicts of them",
        )
    for key, item in inside or ():
        yield from _walk(item, (*path, key))


def _parts(value: Any) -> list[tuple[str | int, Any]] | None:
    """What a container holds, by key or place; ``None``: it is none."""
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    if dataclasses.is_dataclass(value):
        return [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        fields = getattr(value, "_fields", None)  # of a named tuple
        return list(zip(fields, value, strict=True)) if fields else list(enumerate(value))
    # Caches of transformers give their layers in turn.
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return list(enumerate(value))
    return None


def _array(name: str, tensor: torch.Tensor) -> Array:
    if tensor.is_complex():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"output {name} is {kind}: no file has complex outputs, exporters write pairs of reals",
            "state complex: pairs of the model, which makes pairs of reals of them, [..., 2]",
        )
    try:
        array = torch_arrays.array(tensor)
    except TypeError as error:  # other types of float8; a sparse tensor
        kind = str(tensor.dtype).removeprefix("torch.")
        dense = tensor.layout == torch.strided
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"output {name} is {kind if dense else 'sparse'}, which has no NumPy array to compare: "
            f"{first_line(error)}",
            "cast it in forward, to float32 for example: return y.float()"
            if dense
            else "make it dense in forward: return y.to_dense()",
        ) from error
    # `numpy()` gives a view: of a buffer that the next call may overwrite.
    return array.copy()


def replica(model: Any, *shared: torch.Tensor) -> Any:
    """A model with buffers and Python state of its own that shares the parameters.

    A counter, a cache or running statistics that ``forward`` changes stay in it. Without it a
    cache that was filled for one size would become a constant of the exported graph.

    Args:
        shared: further tensors that it has in common with ``model``.

    Returns:
        ``model`` itself where it has no state, or cannot be copied.
    """
    if not isinstance(model, torch.nn.Module):
        return model
    # deepcopy takes what its memo holds for copied already, and hands it on as it is.
    common: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *shared)}
    for module in model.modules():
        for value in vars(module).values():
            # Ten of hooks in each module, which take a third of the time else.
            if type(value) is OrderedDict and not value:
                common[id(value)] = OrderedDict()
    try:
        return copy.deepcopy(model, common)
    except (RuntimeError, TypeError, AttributeError, pickle.PickleError) as error:
        # A lock, an open file or a scripted function in the model, or a tensor with a history.
        print(f"the model cannot be copied, its calls share their state: {first_line(error)}")
        return model


def _buffers(model: Any) -> dict[str, torch.Tensor]:
    if not isinstance(model, torch.nn.Module):
        return {}
    # By value: a buffer that is written and holds the same again has not changed.
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _versions(model: Any) -> dict[str, int]:
    """How often each parameter was written in place."""
    if not isinstance(model, torch.nn.Module):
        return {}
    return {
        name: parameter._version
        for name, parameter in model.named_parameters()
        # Tensors that were made in inference mode have no version counter.
        if not isinstance(parameter, UninitializedParameter) and not parameter.is_inference()
    }


@contextmanager
def _in_export(active: bool) -> Iterator[None]:
    """``torch.onnx.is_in_onnx_export()`` is true inside, where ``active``."""
    # `torch.onnx.is_in_onnx_export` reads this flag, which has no public setter (torch 2.15).
    before = GLOBALS.in_onnx_export
    GLOBALS.in_onnx_export = active
    try:
        yield
    finally:
        GLOBALS.in_onnx_export = before
