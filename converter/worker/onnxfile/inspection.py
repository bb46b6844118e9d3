"""Read what an ONNX file holds. Nothing is run, and external data is opened only on demand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    numpy_helper,
)
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype
from pydantic import ValidationError

from converter.inspection.content import Content, Function, Initializer, Node
from converter.model.errors import Code, StageError
from converter.worker.onnxfile import fingerprint, structure, tensordata
from converter.worker.onnxfile.tensordata import TensorData

_FEW = 16  # values of a tensor attribute that are shown


def read(path: Path, external: bool = False) -> Content:
    """What a file holds.

    Args:
        external: external data is read too, where it lies in the folder of the file.

    Raises:
        StageError: CHECKER, when it is damaged or not ONNX.
    """
    # External data may lie anywhere, so that it is not read before somebody asks for it.
    model = structure.read(path)
    with worded(path):
        return _content(model, path, TensorData(path.parent if external else None))


@contextmanager
def worded(path: Path, code: Code = Code.CHECKER) -> Iterator[None]:
    """Within it what a damaged file makes our readers of it raise gets words.

    Raises:
        StageError: ``code``.
    """
    try:
        yield
    except ValidationError as error:  # protobuf hands over as bytes what is not UTF-8
        raise StageError(code, f"{path} is damaged: a name in it is not text") from error
    except KeyError as error:
        reason = f"it holds a tensor of an unknown type, {error}"
        raise StageError(code, f"{path} is damaged: {reason}") from error
    except (ValueError, TypeError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StageError(code, f"{path} is damaged: {reason}") from error


def _content(model: ModelProto, path: Path, data: TensorData) -> Content:
    graph = model.graph
    body = _Body(data)
    body.add_graph(graph, "", 0)
    functions = []
    # The subgraphs in a function have initializers too.
    initializers = body.initializers
    for function in model.functions:
        described, held = _function(function, data)
        functions.append(described)
        initializers += held
    # The operators of functions are counted, though their nodes are listed with the function.
    nodes = [*body.nodes, *(node for function in functions for node in function.nodes)]
    return Content(
        file=str(path),
        bytes=path.stat().st_size,
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        graph=graph.name,
        opsets=structure.opsets(model),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=structure.fed_inputs(model),
        outputs=structure.graph_outputs(model),
        initializers=initializers,
        parameters=sum(_numbers(tensor) for tensor in initializers),
        ops=_histogram(nodes),
        nodes=body.nodes,
        functions=functions,
        parts=fingerprint.parts(model, data),
        unread=data.unread,
    )


def _numbers(tensor: Initializer) -> int:
    # Of a sparse tensor the numbers that are stored: its shape may have any size.
    if tensor.stored is not None:
        return tensor.stored
    return math.prod(size for size in tensor.shape if isinstance(size, int))


def _histogram(nodes: Iterable[Node]) -> dict[str, int]:
    found = Counter(node.op for node in nodes)
    # By name where counts are equal, so that the same file prints the same.
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _function(function: FunctionProto, data: TensorData) -> tuple[Function, list[Initializer]]:
    """The function, and the initializers of the subgraphs in it."""
    name = _called(function.domain, function.name, function.overload)
    body = _Body(data)
    body.add_nodes(function.node, f"{name}/", 0)
    attributes: dict[str, Any] = dict.fromkeys(function.attribute)
    for default in function.attribute_proto:
        attributes[default.name] = body.attribute(default)
    described = Function(
        name=name,
        inputs=list(function.input),
        outputs=list(function.output),
        attributes=dict(sorted(attributes.items())),
        opsets={entry.domain or "ai.onnx": entry.version for entry in function.opset_import},
        nodes=body.nodes,
    )
    return described, body.initializers


def _called(domain: str, name: str, overload: str) -> str:
    return structure.qualified(domain, name) + (f":{overload}" if overload else "")


class _Body:
    """Nodes and initializers of a graph or a function, those of its subgraphs included."""

    def __init__(self, data: TensorData) -> None:
        self.nodes: list[Node] = []
        self.initializers: list[Initializer] = []
        self._data = data

    def add_graph(self, graph: GraphProto, place: str, depth: int) -> None:
        declared = {value.name for value in graph.input}
        found = [self._dense(tensor) for tensor in graph.initializer]
        found += [self._sparse(sparse) for sparse in graph.sparse_initializer]
        self.initializers += [
            one.model_copy(
                update={"name": f"{place}{one.name}", "also_input": one.name in declared}
            )
            for one in found
        ]
        self.add_nodes(graph.node, place, depth)

    def add_nodes(self, nodes: Iterable[NodeProto], place: str, depth: int) -> None:
        for node in nodes:
            # By name: their order in a file means nothing.
            attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
            self.nodes.append(
                Node(
                    op=_called(node.domain, node.op_type, node.overload),
                    name=node.name,
                    depth=depth,
                    inputs=list(node.input),
                    outputs=list(node.output),
                    attributes={each.name: self.attribute(each) for each in attributes},
                )
            )
            # Nodes need no name. The number tells two unnamed ones apart.
            label = node.name or f"{node.op_type}_{len(self.nodes)}"  # its number in the list
            for attribute in attributes:
                for branch, inner in _graphs(attribute):
                    self.add_graph(inner, f"{place}{label}.{branch}/", depth + 1)

    def attribute(self, attribute: AttributeProto) -> Any:
        """Its value as plain data."""
        # In a function it stands for what the caller gives under that name.
        if attribute.ref_attr_name:
            return f"@{attribute.ref_attr_name}"
        value = get_attribute_value(attribute)
        if isinstance(value, (bytes, str)) or not hasattr(value, "__iter__"):
            return self._value(value)
        return [self._value(item) for item in value]

    def _value(self, value: Any) -> Any:
        if isinstance(value, GraphProto):
            return {"graph": value.name, "nodes": len(value.node)}
        if isinstance(value, TensorProto):
            return self._tensor(value)
        if isinstance(value, SparseTensorProto):
            kept = {"dtype", "shape", "sha256", "external", "stored"}
            return self._sparse(value).model_dump(include=kept)
        return _plain(value)

    def _tensor(self, tensor: TensorProto) -> dict[str, Any]:
        kept = self._dense(tensor).model_dump(include={"dtype", "shape", "sha256", "external"})
        if kept["external"] is None and math.prod(tensor.dims) <= _FEW:
            kept["values"] = [_plain(one) for one in numpy_helper.to_array(tensor).ravel().tolist()]
        return kept

    def _dense(self, tensor: TensorProto) -> Initializer:
        return Initializer(
            name=tensor.name,
            dtype=tensor_dtype_to_np_dtype(tensor.data_type).name,
            shape=list(tensor.dims),
            bytes=tensordata.size(tensor),
            external=_external(tensor),
            sha256=self._data.sha256(tensor),
        )

    def _sparse(self, sparse: SparseTensorProto) -> Initializer:
        return Initializer(
            name=sparse.values.name,
            dtype=tensor_dtype_to_np_dtype(sparse.values.data_type).name,
            shape=list(sparse.dims),
            bytes=tensordata.size(sparse.values) + tensordata.size(sparse.indices),
            external=_external(sparse.values) or _external(sparse.indices),
            sha256=self._data.sparse_sha256(sparse),
            stored=math.prod(sparse.values.dims),
        )


def _graphs(attribute: AttributeProto) -> Iterator[tuple[str, GraphProto]]:
    if attribute.HasField("g"):
        yield attribute.name, attribute.g
    for number, graph in enumerate(attribute.graphs):
        yield f"{attribute.name}[{number}]", graph


def _external(tensor: TensorProto) -> str | None:
    return ExternalDataInfo(tensor).location if uses_external_data(tensor) else None


def _plain(value: Any) -> Any:
    """As JSON can say it: there, a number is finite."""
    if isinstance(value, bytes):
        # Strings of ONNX are bytes, and need not be UTF-8.
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, int, float)):
        return value
    return str(value).strip()  # types: rare, and their text is short
