"""Weights of the TorchScript exporter written once, into a file beside the model.

Left to itself it copies them into a message, serialises that, and writes it (torch 2.15).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from onnx import ModelProto, TensorProto

from converter.worker.onnxfile import outside, structure

_KEEPS_INPUTS = 6  # the place of the argument that leaves initializers among the inputs


@contextmanager
def weights(destination: Path) -> Iterator[None]:
    """Within it ``torch.onnx.export`` leaves weights out; behind it they lie beside the file."""
    # The last step takes the weights by name; without them they are inputs of the graph. There is
    # no argument of `export` for it that would fold constants as well.
    own = torch._C.Graph._export_onnx  # type: ignore[attr-defined]
    left: dict[str, torch.Tensor] = {}
    inputs: list[bool] = []

    def without(graph: Any, given: dict[str, torch.Tensor], *arguments: Any) -> Any:
        left.update(given)
        inputs.append(bool(arguments[_KEEPS_INPUTS - 1]))
        return own(graph, {}, *arguments)

    torch._C.Graph._export_onnx = without  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C.Graph._export_onnx = own  # type: ignore[attr-defined]
    if left:
        _attach(destination, left, keeps_inputs=inputs[-1])


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
