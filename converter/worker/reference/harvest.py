"""Numbers at which a model's behaviour may change, read from its code and from the model itself.

A limit stands somewhere: as a literal in the code that ran (``if T > 48``, ``x.clamp(max=6)``), as
an attribute of one of its modules (``self.max_len = 77``), as the length of a table. Inputs and
sizes on both sides of it are worth more than any number of others.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import uses_external_data

from converter.worker.inputs import dtypes
from converter.worker.onnxfile import structure
from converter.worker.recording.coverage import keyed, numbers_in, watched
from converter.worker.sources.onnx_source import OnnxFile

# Larger sizes are no sizes of an axis, but hashes, colours and channels of a whole network.
_LARGEST_SIZE = 4096
_LARGEST_NUMBER = 1e6
# Operators of a graph whose constants are limits, and how many of them one may have.
_LIMITING = {
    "Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Range", "Slice",
}  # fmt: skip
_FEW = 16


def sizes(model: Any, codes: Iterable[CodeType]) -> list[int]:
    """Whole numbers from 2 on that may limit an axis, in order."""
    # Of `x[-100:]` as well, which is a limit of 100.
    found = {abs(int(number)) for number in _all(model, codes) if number == int(number)}
    found |= set(_lengths(model))
    return sorted(number for number in found if 2 <= number <= _LARGEST_SIZE)


def numbers(model: Any, codes: Iterable[CodeType]) -> list[float]:
    """Magnitudes that a value may be compared with, in order; not zero."""
    found = {abs(float(number)) for number in _all(model, codes)}
    return sorted(number for number in found if 0 < number <= _LARGEST_NUMBER)


def of_graph(model: ModelProto) -> list[float]:
    """Constants that an ONNX graph cuts or compares with."""
    held: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in structure.nodes(model.graph):
        # A limit that no initializer holds may be the value of a Constant node.
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            held[node.output[0]] = node.attribute[0].t
    found: set[float] = set()
    for node in structure.nodes(model.graph):
        if node.op_type in _LIMITING:
            for name in {*node.input} & held.keys():
                found |= _values(held[name])
    return sorted(found)


def _values(tensor: TensorProto) -> set[float]:
    """The finite numbers of a tensor that has few."""
    # Long ones are weights. Values in another file were not read.
    if math.prod(tensor.dims) > _FEW or uses_external_data(tensor):
        return set()
    values = onnx.numpy_helper.to_array(tensor)
    if not (values.dtype.kind in "iu" or dtypes.is_float(values)):
        return set()
    finite = values[np.isfinite(values)].astype(np.float64)
    return {float(value) for value in finite if abs(value) <= _LARGEST_NUMBER}


def scales(model: Any) -> set[float]:
    """Factors by which modules of torch resize; those of calls are seen as they run."""
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return set()
    found: set[float] = set()
    for module in model.modules():
        if isinstance(module, torch.nn.Upsample) and module.scale_factor is not None:
            scale = module.scale_factor
            found |= set(scale if isinstance(scale, tuple) else (scale,))
    return found


def _all(model: Any, codes: Iterable[CodeType]) -> Iterator[float]:
    if isinstance(model, OnnxFile):
        yield from of_graph(model.proto)
    for code in codes:
        # Literals of the code that ran, not of the whole file: other classes in it are other
        # models.
        yield from numbers_in(code.co_consts)
    for module in _own_modules(model):
        # A limit may stand in the class body as well.
        yield from numbers_in([*vars(module).values(), *vars(type(module)).values()])
    for key in _keys(model):
        yield from key
    yield from _script_constants(model)


def tables(model: Any) -> list[tuple[int, ...]]:
    """Keys of tables that name several sizes at once, in order: ``(20, 30)``, ``"20x30"``."""
    return sorted({key for key in _keys(model) if len(key) > 1})


def _keys(model: Any) -> Iterator[tuple[int, ...]]:
    """The numbers in the names and in the keys of tables that the model's own modules hold."""
    for module in _own_modules(model):
        yield from keyed(vars(module))
        for value in vars(module).values():
            if isinstance(value, Mapping):
                yield from keyed(value)
        # A ModuleDict is torch's own class, which the loop passes by: its keys are read here.
        for child in module.children():
            if isinstance(child, torch.nn.ModuleDict | torch.nn.ParameterDict):
                yield from keyed(child.keys())


def _own_modules(model: Any) -> Iterator[torch.nn.Module]:
    """Those that the model's own code defines: a channel count of torch's is no limit."""
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return
    for module in model.modules():
        # Without a file it belongs to no library.
        source = getattr(sys.modules.get(type(module).__module__), "__file__", None)
        if source is None or watched(source):
            yield module


def _lengths(model: Any) -> Iterator[int]:
    """Lengths of tables: embeddings, and tensors that the model's own modules hold."""
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return
    # Of torch's too: a table of embeddings ends where it ends, whoever wrote it.
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            yield module.num_embeddings
    for module in _own_modules(model):
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        # Tensors that are neither parameters nor buffers are tables as well.
        tensors += [v for v in vars(module).values() if isinstance(v, torch.Tensor)]
        for tensor in tensors:
            if not isinstance(tensor, torch.nn.parameter.UninitializedParameter):
                yield from tensor.shape


def _script_constants(model: Any) -> Iterator[float]:
    """Literals of scripted code."""
    if not isinstance(model, torch.jit.ScriptFunction | torch.jit.ScriptModule):
        return
    # Inlined, so that literals of called functions and submodules are in it.
    graph: Any = model.inlined_graph
    for node in graph.findAllNodes("prim::Constant"):
        kind = node.kindOf("value") if node.hasAttribute("value") else ""
        if kind in ("i", "f"):
            yield node.i("value") if kind == "i" else node.f("value")
