"""What each node of a graph gives in ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto

from converter.worker.inputs.inputs import Array
from converter.worker.onnxfile import structure
from converter.worker.runtime.session import Session
from converter.worker.runtime.starting import RuntimeErrors, first_line

_IN_ONE = 2 << 30
# As ONNX Runtime words it.
_NODE = re.compile(r"running \S+ node\. Name:'([^']*)'")


class StoppedError(Exception):
    """ONNX Runtime stops within a graph.

    Attributes:
        node: where; ``None``: it does not say.
    """

    def __init__(self, node: NodeProto | None, why: str) -> None:
        super().__init__(why)
        self.node = node


def values(
    model: ModelProto,
    feeds: Mapping[str, Array],
    folder: Path,
    *,
    provider: str | None = None,
    threads: int = 1,
) -> dict[str, Array]:
    """Each value that a node of the main graph gives, by its name, without optimisations.

    Args:
        model: with its weights.
        folder: for a copy of it, where it is large.

    Raises:
        StageError: SESSION.
        StoppedError: it does not run.
    """
    told = ModelProto()
    told.CopyFrom(model)
    shown = {value.name for value in told.graph.output}
    for node in told.graph.node:
        for name in node.output:
            if name and name not in shown:
                # Without a type: ONNX Runtime knows it.
                told.graph.output.append(ValueInfoProto(name=name))
                shown.add(name)
    session = Session(_given(told, folder), optimise=False, provider=provider, threads=threads)
    wanted = {name: feeds[name] for name in session.inputs if name in feeds}
    try:
        return dict(zip(session.outputs, session.run(wanted), strict=True))
    except RuntimeErrors as error:
        name = _NODE.search(str(error))
        named = [node for node in model.graph.node if name and node.name == name[1]]
        raise StoppedError(named[0] if named else None, first_line(error)) from error


def _given(model: ModelProto, folder: Path) -> bytes | Path:
    if model.ByteSize() < _IN_ONE:
        serialised: bytes = model.SerializeToString()
        return serialised
    path = folder / "all-values.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return path


def constants(model: ModelProto) -> set[str]:
    """The values that depend on no input."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    fed = {info.name for info in structure.fed_inputs(model)}
    for node in graph.node:
        named = [name for name in node.input if name]
        # What a subgraph reads from outside does not stand among the inputs of its node.
        inner = any(attribute.HasField("g") for attribute in node.attribute)
        if not inner and all(name in known for name in named):
            known |= {name for name in node.output if name}
    return known - fed
