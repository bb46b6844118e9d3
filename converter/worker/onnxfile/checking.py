"""Check an exported model: what was asked for, the ONNX checker, and that ONNX Runtime loads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import uses_external_data

from converter.model.errors import Code, StageError
from converter.model.job import Job
from converter.worker.onnxfile import interface, outside, structure
from converter.worker.runtime import runtime_errors
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import first_line

_NO_KERNEL = re.compile(
    r"Could not find an implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>.*?)'"
)
# Identity, Cast, Transpose, Concat, Flatten and Reshape take them, Add, MatMul, Conv and the like
# do not (ONNX Runtime 1.31); of float8 even fewer.
_NARROW: dict[int, str] = {
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
    TensorProto.FLOAT8E5M2: "float8_e5m2",
}
_OF_MODULE = (
    "convert the float32 module (module.float()), or cast what this operator reads (x.float())"
)
# Traces of source lines that the dynamo exporter leaves in each node: they hold local paths and
# make the same job give other bytes on another machine.
_UNDECLARED = (
    "with export_params: false TorchScript makes inputs of buffers of whole numbers and booleans "
    "too, which dynamo keeps in the file"
)
_TRACE_KEYS = ("pkg.torch.onnx.stack_trace",)
OTHER_OPSET = "choose another opset"
"""What is advised where the checker's reason says nothing else."""

_NO_SHAPE = {
    "Field 'shape' of 'type' is required but missing.": "an input or output of the graph declares "
    "no shape, which every file must: write it with onnx.shape_inference.infer_shapes, or state it",
}


def load(path: Path, *, weights: bool = True) -> ModelProto:
    """Read an exporter's file with its external data, free of source traces.

    Args:
        weights: large ones that lie in another file are read too.

    Raises:
        StageError: CHECKER, when the file is not ONNX.
    """
    try:
        # With the format stated, or onnx reads a file called `.json` or `.pbtxt` as text.
        model = onnx.load(path, format="protobuf", load_external_data=weights)
        if not weights:
            outside.settle(model, path.parent)
    # A ValidationError: external data that leads out of the folder, or is a link.
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise StageError(Code.CHECKER, f"{path.name} cannot be read: {error}") from error
    for node in structure.nodes(model.graph):
        for index in reversed(range(len(node.metadata_props))):
            if node.metadata_props[index].key in _TRACE_KEYS:
                del node.metadata_props[index]
    return model


def exported(path: Path, job: Job, runs: Sequence[interface.Run]) -> ModelProto:
    """Read an exporter's file, with its outputs named and what it says of axes made true.

    Large weights that lie in another file stay there.

    Args:
        runs: what the source computes in each case.

    Raises:
        StageError: CHECKER, when the file is not ONNX.
    """
    model = load(path, weights=False)
    structure.name_outputs(model, job.outputs)
    interface.correct(model, job, runs)
    return model


def check(
    model: ModelProto, job: Job, exporter: str, parameters: set[str], precision: str = ""
) -> None:
    """Raise unless the model is what the job asked for and valid.

    Args:
        model: its large weights may lie elsewhere.
        job: what was requested.
        exporter: what wrote the file.
        parameters: the names of parameters that the job turned into graph inputs.
        precision: in which ONNX Runtime's CPU may lack kernels; such a file is verified by
            emulation. By then ONNX Runtime has found its operators, types and shapes right.

    Raises:
        StageError: OPSET_MISMATCH, INPUT_DROPPED, OUTPUT_STRUCTURE, EXPORT, CHECKER, SESSION.
    """
    _check_opset(model, job, exporter)
    _check_inputs(model, job, parameters)
    _check_names(model, job)
    bare = valid(model, f"the {exporter} export")
    # Without its weights and with optimisations off, loading costs next to nothing. The file
    # itself is loaded by the verification.
    # The checker accepts files that ONNX Runtime cannot load (66 of 600 mutated ones, opset 99), so
    # that a session is part of the check.
    try:
        Session(bare.SerializeToString(), optimise=False)
    except StageError as error:
        lacking = lacking_kernel(error, lambda: model)
        if lacking is None:
            raise
        if lacking.precision != precision:
            raise _refused(lacking, error, job) from error


@dataclass(frozen=True)
class LackingKernel:
    """An operator that ONNX Runtime's CPU does not compute in one of the types that NumPy lacks."""

    op: str
    node: str
    precision: str

    def __str__(self) -> str:
        return (
            f"ONNX Runtime's CPU provider has no {self.precision} kernel for {self.op} "
            f"(node '{self.node}')"
        )


def lacking_kernel(error: StageError, read: Callable[[], ModelProto]) -> LackingKernel | None:
    """The operator that ONNX Runtime refuses a file for; ``None``: it refuses something else.

    Args:
        read: gives the model, with or without its weights; what is refused otherwise may be none.
    """
    found = _NO_KERNEL.search(error.message)
    if found is None:
        return None
    model = read()
    # A file need not declare the types of what its nodes pass on.
    graph = onnx.shape_inference.infer_shapes(structure.skeleton(model)).graph
    named = (found["op"], found["node"])
    node = next((n for n in structure.nodes(graph) if (n.op_type, n.name) == named), None)
    if node is None:
        return None
    kinds: dict[str, int] = {tensor.name: tensor.data_type for tensor in structure.tensors(model)}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    narrow = {_NARROW[kinds[name]] for name in node.input if kinds.get(name) in _NARROW}
    return LackingKernel(node.op_type, node.name, min(narrow)) if narrow else None


def without_kernel(error: StageError, model: ModelProto, job: Job) -> StageError | None:
    """The refusal of an operator in a dtype that ONNX Runtime's CPU hardly computes in."""
    lacking = lacking_kernel(error, lambda: model)
    return None if lacking is None else _refused(lacking, error, job)


def _refused(lacking: LackingKernel, error: StageError, job: Job) -> StageError:
    return StageError(
        error.code,
        str(lacking),
        "on a CPU, where files are verified, it casts and moves such tensors and computes with "
        "hardly any: keep the arithmetic in float32: "
        + ("Cast what this operator reads" if job.source.kind == "onnx" else _OF_MODULE),
    )


def valid(model: ModelProto, what: str, file: Path | None = None) -> ModelProto:
    """Raise unless the ONNX checker accepts a model; gives its skeleton.

    Args:
        file: where it was read from without its external data.

    Raises:
        StageError: CHECKER.
    """
    bare = structure.skeleton(model)
    # Of the weights in the body of an If or a Loop the checker wants to see the file.
    outside = any(map(uses_external_data, structure.tensors(bare)))
    try:
        onnx.checker.check_model(str(file) if file is not None and outside else bare)
    except onnx.checker.ValidationError as error:
        why = first_line(error)
        raise StageError(
            Code.CHECKER,
            f"the ONNX checker refuses {what}: {why}",
            runtime_errors.opset_hint(why) or _NO_SHAPE.get(why) or OTHER_OPSET,
        ) from error
    return bare


def _check_opset(model: ModelProto, job: Job, exporter: str) -> None:
    # dynamo writes opset 18 where a lower one was requested, and only logs it (torch 2.15).
    found = structure.opsets(model).get("ai.onnx")
    # A variant may need a later one (bfloat16: 22), and tells so.
    if job.parent is not None and job.opset is not None and (found or 0) > job.opset:
        return
    # The checker does not see this: the file is valid at the opset that it states.
    if job.opset is not None and found != job.opset:
        raise StageError(
            Code.OPSET_MISMATCH,
            f"opset {job.opset} requested, the {exporter} exporter wrote {found}",
            f"request opset {found}",
        )


def _check_inputs(model: ModelProto, job: Job, parameters: set[str]) -> None:
    fed = [value.name for value in structure.fed_inputs(model)]
    # TorchScript leaves out, without a word, what no operator reads (torch 2.15).
    dropped = [name for name in job.inputs if name not in fed]
    if dropped:
        raise StageError(
            Code.INPUT_DROPPED,
            f"input {', '.join(dropped)} is not in the graph (it has: {', '.join(fed) or 'none'})",
            "the model does not use it, or turned it into a constant with .item(); "
            "remove the input, or declare it under constants",
        )
    unknown = [name for name in fed if name not in job.inputs and name not in parameters]
    if unknown:
        raise StageError(
            Code.EXPORT,
            f"the graph needs inputs that nobody declared: {', '.join(unknown[:5])}",
            "" if job.export.export_params else _UNDECLARED,
        )
    # One that torch has merged with an equal one cannot be fed by its name.
    merged = [name for name in parameters if name not in fed]
    if merged:
        raise StageError(
            Code.EXPORT,
            f"export_params: false: {', '.join(sorted(merged)[:5])} did not become graph inputs",
            "torch merges parameters that are equal: give weights in which they differ",
        )
    for name, axes in job.dynamic_axes.items():
        if name not in job.inputs:
            continue
        shape = next(value.shape for value in structure.fed_inputs(model) if value.name == name)
        for axis in axes:
            if isinstance(shape[axis], int):
                raise StageError(
                    Code.DIM_SPECIALISED,
                    f"axis {axis} of {name} was declared dynamic, the graph has {shape[axis]}",
                    "the model's code fixes it: rewrite that part, or remove the axis",
                )


def _check_names(model: ModelProto, job: Job) -> None:
    # Outputs are compared by position and used by name: both have to be right.
    names = [value.name for value in structure.graph_outputs(model)]
    if job.outputs and names != job.outputs:
        raise StageError(
            Code.OUTPUT_STRUCTURE,
            f"outputs {job.outputs} requested, the graph has {names}",
            "make `outputs` agree with what forward returns",
        )
    # With `keep_initializers_as_inputs` a parameter is both.
    held = {tensor.name for tensor in model.graph.initializer}
    held |= {value.name for value in model.graph.input}
    lost = [name for name in job.export.parameter_names if name not in held]
    if lost:
        raise StageError(
            Code.EXPORT,
            f"{job.key}.export.parameter_names: {', '.join(lost[:5])} not found among the "
            "graph's parameters",
            "give one name for each parameter, and switch off constant_folding if it merges them",
        )
