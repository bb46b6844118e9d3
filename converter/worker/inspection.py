"""Read what an ONNX file holds. External data is not opened, and nothing is run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype
from pydantic import ValidationError

from converter.errors import Code, StageError
from converter.inspection.content import Content, Initializer, Node
from converter.worker import structure

_FEW = 16  # values of a tensor attribute that are shown


def read(path: Path) -> Content:
    """What a file holds.

    Raises:
        StageError: CHECKER, when it is damaged or not ONNX.
    """
    model = structure.read(path)
    with worded(path):
        return _content(model, path)


@contextmanager
def worded(path: Path) -> Iterator[None]:
    """Within it what a damaged file makes our readers of it raise gets words.

    Raises:
        StageError: CHECKER.
    """
    try:
        yield
    except ValidationError as error:  # protobuf hands over as bytes what is not UTF-8
        raise StageError(Code.CHECKER, f"{path} is damaged: a name in it is not text") from error
    except KeyError as error:
        reason = f"it holds a tensor of an unknown type, {error}"
        raise StageError(Code.CHECKER, f"{path} is damaged: {reason}") from error
    except (ValueError, TypeError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StageError(Code.CHECKER, f"{path} is damaged: {reason}") from error


def _content(model: ModelProto, path: Path) -> Content:
    graph = model.graph
    declared = {value.name for value in graph.input}
    initializers = [_initializer(tensor, tensor.name in declared) for tensor in graph.initializer]
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
        parameters=sum(math.prod(tensor.dims) for tensor in graph.initializer),
        ops=structure.op_histogram(model),
        nodes=list(_nodes(graph, 0)),
        functions={
            structure.qualified(function.domain, function.name): len(function.node)
            for function in model.functions
        },
    )


def _nodes(graph: GraphProto, depth: int) -> Iterator[Node]:
    for node in graph.node:
        yield _node(node, depth)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner, depth + 1)


def _node(node: NodeProto, depth: int) -> Node:
    return Node(
        op=structure.qualified(node.domain, node.op_type),
        name=node.name,
        depth=depth,
        inputs=list(node.input),
        outputs=list(node.output),
        attributes={attribute.name: _attribute(attribute) for attribute in node.attribute},
    )


def _attribute(attribute: AttributeProto) -> Any:
    if attribute.ref_attr_name:
        return f"@{attribute.ref_attr_name}"
    value = get_attribute_value(attribute)
    if isinstance(value, (bytes, str, int, float, TensorProto, GraphProto)):
        return _value(value)
    return [_value(item) for item in value] if hasattr(value, "__iter__") else _value(value)


def _value(value: Any) -> Any:
    """As JSON can say it: there, a number is finite."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, TensorProto):
        return _tensor(value)
    if isinstance(value, GraphProto):
        return {"graph": value.name, "nodes": len(value.node)}
    return str(value).strip()  # sparse tensors and types: rare, and their text is short


def _tensor(tensor: TensorProto) -> dict[str, Any]:
    kept = _initializer(tensor, False).model_dump(include={"dtype", "shape", "sha256", "external"})
    if kept["external"] is None and math.prod(tensor.dims) <= _FEW:
        values = numpy_helper.to_array(tensor).ravel().tolist()
        kept["values"] = [_value(value) for value in values]
    return kept


def _initializer(tensor: TensorProto, also_input: bool) -> Initializer:
    external = uses_external_data(tensor)
    data = None if external else _data(tensor)
    return Initializer(
        name=tensor.name,
        dtype=tensor_dtype_to_np_dtype(tensor.data_type).name,
        shape=list(tensor.dims),
        bytes=structure.tensor_bytes(tensor) if data is None else len(data),
        external=ExternalDataInfo(tensor).location if external else None,
        sha256=None if data is None else hashlib.sha256(data).hexdigest(),
        also_input=also_input,
    )


def _data(tensor: TensorProto) -> bytes:
    """The bytes of the values, the same for each of the ways in which a file may store them."""
    if tensor.data_type == TensorProto.STRING:
        return b"\0".join(tensor.string_data)
    return tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
