"""Weights of the TorchScript exporter written once, into a file beside the model.

Left to itself it copies them five times (torch 2.15): twice to infer shapes, into a message, into
the text of that, and into the file. Here the last step gets none of them, and what infers shapes
only those that shapes may follow from; the file is the same to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from onnx import ModelProto, TensorProto

from converter.worker.onnxfile import outside, structure

_EXPORT, _INFER = "_export_onnx", "_jit_pass_onnx_graph_shape_type_inference"
_FEW = 256  # numbers such as the scales of a resize or the limits of a range
_KEEPS_INPUTS = 5  # the place of the argument that leaves initializers among the inputs


@contextmanager
def weights(destination: Path) -> Iterator[None]:
    """Within it ``torch.onnx.export`` leaves weights out; behind it they lie beside the file."""
    # There is no argument of `export` for it that would fold constants as well.
    exports = getattr(torch._C.Graph, _EXPORT)
    infers = getattr(torch._C, _INFER)
    left: dict[str, torch.Tensor] = {}
    inputs: list[bool] = []

    def export(graph: Any, given: Mapping[str, torch.Tensor], *arguments: Any) -> Any:
        left.update(given)
        inputs.append(bool(arguments[_KEEPS_INPUTS]))
        return exports(graph, {}, *arguments)  # what has no value is an input

    def infer(graph: Any, given: Mapping[str, Any], opset: int) -> Any:
        few = {name: values for name, values in given.items() if not _is_weight(values)}
        return infers(graph, few, opset)

    with _replaced(torch._C.Graph, _EXPORT, export), _replaced(torch._C, _INFER, infer):
        yield
    if left:
        _attach(destination, left, keeps_inputs=inputs[-1])


def _is_weight(values: object) -> bool:
    if not isinstance(values, torch.Tensor):
        return False
    return values.is_floating_point() and values.numel() > _FEW


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _attach(path: Path, tensors: Mapping[str, torch.Tensor], *, keeps_inputs: bool) -> None:
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    graph = model.graph
    data = path.with_name(f"{path.name}.data")
    with data.open("wb") as target:
        for value in graph.input:  # those that nothing reads are gone
            if (values := tensors.get(value.name)) is not None:
                kind = value.type.tensor_type.elem_type
                tensor = graph.initializer.add(name=value.name, data_type=kind)
                tensor.dims.extend(values.shape)
                _put(tensor, values, data.name, target)
    if not keeps_inputs:
        for index in reversed(range(len(graph.input))):
            if graph.input[index].name in tensors:
                del graph.input[index]
    path.write_bytes(model.SerializeToString())


def _put(tensor: TensorProto, values: torch.Tensor, location: str, target: BinaryIO) -> None:
    # As bytes: NumPy has no bfloat16.
    held = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if structure.heavy(tensor):
        offset = target.tell()
        target.write(held.data)
        outside.refer(tensor, location, offset, held.nbytes)
    else:
        tensor.raw_data = held.tobytes()
