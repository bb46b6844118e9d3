"""Damage to what is where: slices, indices, outputs, the names of sizes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from onnx import ModelProto, ValueInfoProto

from damage.editing import Damage, constants, nodes, replace_constant


def of(model: ModelProto) -> Iterator[Damage]:
    yield from _slices(model)
    yield from _indices(model)
    yield from _outputs(model)
    yield from _symbols(model)


def _slices(model: ModelProto) -> Iterator[Damage]:
    """Start and end by one; both, so that the size stays."""
    held = constants(model.graph)
    for number, node in nodes(model, "Slice"):
        starts, ends = held.get(node.input[1]), held.get(node.input[2])
        place = f"Slice {number}"
        if starts is not None and ends is not None:
            yield Damage("slice", place, partial(_shift, number, starts, ends))
        if starts is not None:
            yield Damage("slice", f"{place} (start)", partial(_put, number, 1, starts + 1))
        if ends is not None and np.abs(ends).max() < 2**31 - 2:
            yield Damage("slice", f"{place} (end)", partial(_put, number, 2, ends - 1))


def _shift(number: int, starts: np.ndarray, ends: np.ndarray, model: ModelProto) -> None:
    replace_constant(model, number, 1, starts + 1)
    far = np.abs(ends) > 2**31 - 2
    replace_constant(model, number, 2, np.where(far, ends, ends + 1).astype(ends.dtype))


def _put(number: int, place: int, values: np.ndarray, model: ModelProto) -> None:
    replace_constant(model, number, place, values)


def _indices(model: ModelProto) -> Iterator[Damage]:
    """A Gather of whole numbers that takes the neighbour."""
    held = constants(model.graph)
    for number, node in nodes(model, "Gather"):
        values = held.get(node.input[1])
        if values is not None and values.dtype.kind == "i":
            step = np.where(values > 0, values - 1, values + 1).astype(values.dtype)
            yield Damage("index", f"Gather {number}", partial(_put, number, 1, step))


def _outputs(model: ModelProto) -> Iterator[Damage]:
    """Two outputs change places, under their names."""
    ends = model.graph.output
    for first in range(len(ends)):
        for second in range(first + 1, len(ends)):
            one, other = ends[first].type.tensor_type, ends[second].type.tensor_type
            if one.elem_type == other.elem_type and len(one.shape.dim) == len(other.shape.dim):
                place = f"{ends[first].name} and {ends[second].name}"
                yield Damage("outputs", place, partial(_swap_outputs, first, second))


def _swap_outputs(first: int, second: int, model: ModelProto) -> None:
    """The producers exchange the names that they write."""
    one, other = (model.graph.output[number].name for number in (first, second))
    names = {one: other, other: one}
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]


def _symbols(model: ModelProto) -> Iterator[Damage]:
    """Two symbols exchanged or merged, a fixed size made a symbol, in what the file declares."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        named = [n for n, dim in enumerate(dims) if dim.dim_param]
        fixed = [n for n, dim in enumerate(dims) if dim.HasField("dim_value")]
        if len(named) > 1:
            pair = (named[0], named[-1])
            yield _named("symbols exchanged", value, partial(_exchange, value.name, *pair))
            yield _named("symbols merged", value, partial(_merge, value.name, *pair))
        if named and fixed and value in model.graph.output:
            change = partial(_merge, value.name, named[0], fixed[-1])
            yield _named("symbols of a fixed size", value, change)


def _named(kind: str, value: ValueInfoProto, apply: object) -> Damage:
    return Damage(kind, value.name, apply, interface=True)  # type: ignore[arg-type]


def _value(model: ModelProto, name: str) -> ValueInfoProto:
    return next(v for v in (*model.graph.input, *model.graph.output) if v.name == name)


def _exchange(name: str, first: int, second: int, model: ModelProto) -> None:
    dims = _value(model, name).type.tensor_type.shape.dim
    one, other = dims[first].dim_param, dims[second].dim_param
    dims[first].dim_param, dims[second].dim_param = other, one


def _merge(name: str, first: int, second: int, model: ModelProto) -> None:
    dims = _value(model, name).type.tensor_type.shape.dim
    dims[second].dim_param = dims[first].dim_param
